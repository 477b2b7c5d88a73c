"""Photos as programs have them: paths, encoded bytes, open files, Pillow images, arrays of pixels.

:func:`take_photos` takes them one at a time, when each is asked for. What its owner may close or change a moment later
is read or copied on the spot; a path is read by whoever decodes it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from obelisk.errors import PhotoError, PhotoFormatError, PhotoMissingError, PhotoTooLargeError, UsageError
from obelisk.photos.accepted import find_format, read_photo_header
from obelisk.photos.gps import NOWHERE, StatedPosition, find_position, read_position
from obelisk.photos.limits import MAX_BYTES, MAX_PIXELS, refuse_above
from obelisk.photos.orientation import UPRIGHT, find_orientation
from obelisk.photos.reading import detach_error, held_bytes

PhotoLike = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | NDArray[np.uint8]
"""a photo as it may be given: a path, encoded bytes, a binary file, a Pillow image, or RGB pixels (H, W, 3) in uint8"""

ACCEPTED: Final = "give a path, bytes, a file opened with mode 'rb', a Pillow image, or a uint8 array (H, W, 3)"
CHUNK: Final = 2**20


@dataclass(frozen=True, kw_only=True, eq=False)
class GivenPhoto:
    """A photo, ready to be decoded in any thread.

    ===============  ================================================================================================
    ``name``         what answers call it: the path as it was given, the name of a file, else ``photo 3`` for the third
    ``source``       a path, encoded bytes, pixels of any mode, or the error that explains why there is neither
    ``orientation``  how pixels must be turned (Exif, 1 to 8)
    ``stated``       where pixels were taken, as the Exif beside them says
    ===============  ================================================================================================
    """

    name: str
    source: Path | bytes | Image.Image | PhotoError
    orientation: int = UPRIGHT
    stated: StatedPosition = NOWHERE

    @property
    def path(self) -> Path:
        """The path of the photo; its name if it is no file."""
        return Path(self.where)

    @property
    def where(self) -> Path | str:
        """What errors call the photo."""
        return self.source if isinstance(self.source, Path) else self.name

    def without_content(self) -> GivenPhoto:
        """Return a photo of the same name that holds no bytes or pixels."""
        return GivenPhoto(name=self.name, source=self.path)

    @contextmanager
    def opened(self) -> Iterator[bytes | Image.Image]:
        """Give the encoded photo or its pixels; a path is read once there is room for its bytes. Raises PhotoError."""
        if isinstance(self.source, PhotoError):
            raise detach_error(self.source)
        if isinstance(self.source, Path):
            with held_bytes(self.source) as data:
                yield data
        else:
            yield self.source

    def state_position(self) -> StatedPosition:
        """Return what the photo's Exif says of where it was taken; nothing if it can't be read."""
        return read_position(self.source) if isinstance(self.source, Path | bytes) else self.stated


PhotosLike = PhotoLike | GivenPhoto | Iterable[PhotoLike | GivenPhoto]
"""one photo, or any number of them"""


def weigh_photo(photo: GivenPhoto) -> int:
    """Return the number of bytes that a photo holds until it is decoded."""
    if isinstance(photo.source, Image.Image):
        return 4 * photo.source.width * photo.source.height
    return len(photo.source) if isinstance(photo.source, bytes) else 0


def take_photos(photos: PhotosLike) -> Iterator[GivenPhoto]:
    """Take a photo, or each of an iterable, as it is asked for.

    Raises UsageError right away if ``photos`` is neither, and for an item that is no photo once it is reached.
    """
    if is_photo(photos):
        return iter([take_photo(photos, "photo 1")])
    if hasattr(photos, "columns"):
        raise UsageError(f"photos are given as {describe_type(photos)}", fix="give one of its columns")
    try:
        items = iter(cast("Iterable[Any]", None if isinstance(photos, Mapping) else photos))
    except TypeError:
        what = f"photos are given as {describe_type(photos)}"
        raise UsageError(what, fix=f"{ACCEPTED}, or a list of these") from None
    return (take_photo(photo, f"photo {number}") for number, photo in enumerate(items, start=1))


def is_photo(given: object) -> bool:
    """Return whether something is meant as a single photo, as far as its type says."""
    if isinstance(given, np.ndarray):
        return given.dtype.kind not in "OU" or not given.ndim  # else an array of paths
    kinds = (str, os.PathLike, bytes, bytearray, memoryview, Image.Image, GivenPhoto)
    return isinstance(given, kinds) or callable(getattr(given, "read", None))


def take_photo(given: Any, name: str = "") -> GivenPhoto:
    """Take one photo, called ``name`` if it has no path; raises UsageError for anything else."""
    if isinstance(given, GivenPhoto):
        return given
    name = name or f"a photo given as {type(given).__name__}"
    if isinstance(given, str | os.PathLike):
        path = os.fsdecode(given)
        return GivenPhoto(name=path, source=Path(path))
    if isinstance(given, bytes | bytearray | memoryview):
        return GivenPhoto(name=name, source=bytes(given))
    try:
        if isinstance(given, Image.Image):
            return take_image(given, os.fsdecode(getattr(given, "filename", "")) or name)
        if isinstance(given, np.ndarray):
            return take_pixels(given, name)
        if callable(getattr(given, "read", None)):
            return take_file(given, name)
    except UsageError as error:
        raise UsageError(error.what, where=name, fix=error.fix or ACCEPTED) from error.__cause__
    raise UsageError(f"a photo is given as {describe_type(given)}", where=name, fix=ACCEPTED)


def describe_type(given: object) -> str:
    """Return the type of a value for people."""
    return "None" if given is None else f"`{type(given).__name__}`"


def take_file(file: Any, name: str) -> GivenPhoto:
    """Read an open file from its position to its end; a file that fails to be read gives a photo with an error."""
    named = getattr(file, "name", None)
    name = os.fsdecode(named) if isinstance(named, str | bytes) and named else name
    if isinstance(file, io.TextIOBase):
        raise UsageError("a file opened as text", fix="open it with mode 'rb'")
    if getattr(file, "closed", False) is True:
        raise UsageError("a closed file", fix="give it while it is open")
    try:
        return GivenPhoto(name=name, source=read_file_object(file))
    except (UsageError, MemoryError):
        raise
    except PhotoError as error:
        return GivenPhoto(name=name, source=detach_error(error))
    except io.UnsupportedOperation as error:
        raise UsageError("a file that is not open for reading", fix="open it with mode 'rb'") from error
    except Exception as error:
        # Members of archives, responses of servers and the like raise exceptions of any class.
        return GivenPhoto(name=name, source=PhotoMissingError(f"the file cannot be read: {error}"))


def read_file_object(file: Any) -> bytes:
    """Read a binary file from its position to its end, which may arrive in small parts."""
    parts: list[bytes] = []
    left = MAX_BYTES + 1
    while left > 0 and (part := file.read(min(CHUNK, left))):
        if not isinstance(part, bytes | bytearray | memoryview):
            what = "a file opened as text" if isinstance(part, str) else f"a file that reads {describe_type(part)}"
            raise UsageError(what, fix="open it with mode 'rb'")
        parts.append(bytes(part))
        left -= len(part)
    if left <= 0:
        raise PhotoTooLargeError(f"a file of more than {MAX_BYTES:,} bytes")
    if not parts:
        raise PhotoFormatError("nothing to read: the file is empty, or read to its end", fix="seek(0) before")
    return b"".join(parts)


def take_pixels(pixels: NDArray[Any], name: str) -> GivenPhoto:
    """Take a copy of an array of pixels; raises UsageError for another shape or type."""
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)):
        shape = " × ".join(map(str, pixels.shape)) or "no axis"
        raise UsageError(f"an array of {shape}, {pixels.dtype}", fix=advise_on_pixels(pixels))
    if not pixels.size:
        raise UsageError("an array without pixels")
    try:
        refuse_above((pixels.shape[1], pixels.shape[0]), MAX_PIXELS)
    except PhotoError as error:
        return GivenPhoto(name=name, source=detach_error(error))
    # Pillow copies RGB, whose pixels take four bytes there, but shares the memory of gray ones.
    own = np.array(pixels) if pixels.ndim == 2 else np.ascontiguousarray(pixels)
    return GivenPhoto(name=name, source=Image.fromarray(own))


def advise_on_pixels(pixels: NDArray[Any]) -> str:
    """Say how an array becomes a photo."""
    if pixels.dtype == np.uint8 and pixels.ndim == 1:
        return "give the bytes of an encoded photo as `array.tobytes()`"
    if pixels.dtype == np.uint8 and pixels.ndim == 4:
        return "give the photos of a stack as `list(array)`"
    if pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 4:
        return "give pixels with transparency as `PIL.Image.fromarray(array)`"
    fixes = []
    if pixels.ndim == 3 and pixels.shape[2] != 3 and pixels.shape[0] == 3:
        fixes.append("put the channels last: `array.transpose(1, 2, 0)`")
    if pixels.dtype != np.uint8:
        fixes.append("scale the values to 0 to 255: `.astype(numpy.uint8)`")
    return ", and ".join(fixes) or "give RGB as (H, W, 3) or gray as (H, W), in uint8"


def take_image(image: Image.Image, name: str) -> GivenPhoto:
    """Take a Pillow image: the file of one that is not loaded yet, else a copy of its pixels.

    Its Exif or XMP says how it is turned, as for a file. Raises UsageError for one that is closed.
    """
    try:
        if data := read_unloaded(image):
            return GivenPhoto(name=name, source=data)
        refuse_above(image.size, MAX_PIXELS)
        # A copy has the mode and the size that the pixels have, whatever the image claims.
        copy = Image.Image.copy(image)
        refuse_above(copy.size, MAX_PIXELS)
        if not copy.width * copy.height:
            raise PhotoFormatError("an image without pixels")
    except PhotoError as error:
        return GivenPhoto(name=name, source=detach_error(error))
    except MemoryError:
        raise
    except Exception as error:
        # Pillow's decoders raise nearly anything on damaged files, and on images that are no longer what they were.
        if isinstance(error, ValueError) and "closed" in str(error):
            raise UsageError("a closed image", fix="give it while it is open") from error
        return GivenPhoto(name=name, source=PhotoFormatError(f"the image cannot be loaded: {error}"))
    said = copy.info
    exif, xmp = ([said[key]] if isinstance(said.get(key), bytes) else [] for key in ("exif", "xmp"))
    return GivenPhoto(name=name, source=copy, orientation=find_orientation(exif, xmp), stated=find_position(exif))


def read_unloaded(image: Image.Image) -> bytes | None:
    """Return the file of an image whose pixels nobody has asked for; None if they must come from the image.

    So the image decodes like its file: within the same limits, small, and in another thread.
    """
    file = getattr(image, "fp", None)
    if not isinstance(image, ImageFile.ImageFile) or not image.tile or image.tell() or file is None:
        return None
    try:
        position = file.tell()
        file.seek(0)
        data = read_file_object(file)
        file.seek(position)
    except PhotoTooLargeError:
        raise
    except Exception:
        return None  # loading it says what is wrong
    found = find_format(data)
    drafted = found == "JPEG" and read_photo_header(data, found).size != image.size
    return data if found and not drafted else None
