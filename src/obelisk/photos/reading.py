"""Read the bytes of photos without ever hanging on one."""

from __future__ import annotations

import errno
import hashlib
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from obelisk.errors import DataError, PhotoError, PhotoMissingError, PhotoTooLargeError
from obelisk.photos.limits import MAX_BYTES
from obelisk.photos.memory import FILES
from obelisk.photos.tars import find_in_tar

PHOTO_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".avif", ".heic", ".heif"}
)

_REASONS = {
    errno.ENOENT: "no such photo",
    errno.ENOTDIR: "no such photo",
    errno.EACCES: "no permission to read the photo",
    errno.EPERM: "no permission to read the photo",
    errno.ELOOP: "a link that leads back to itself",
}


def read_bytes(path: Path) -> bytes:
    """Read the bytes of a photo: of a file, or of a photo inside a tar (see :mod:`obelisk.photos.tars`).

    Only regular files are read, because a named pipe or a device could block the reader forever. Raises
    PhotoMissingError for anything that is not a readable file, and PhotoTooLargeError for a file of more than 100 MB,
    which no photo below the pixel limits needs.
    """
    path = Path(path)
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise PhotoMissingError("this is a folder, not a photo", where=path)
        if not stat.S_ISREG(found.st_mode):
            raise PhotoMissingError("not a regular file", where=path, fix="give a photo's own path")
        if found.st_size > MAX_BYTES:
            raise PhotoTooLargeError(f"a file of {found.st_size:,} bytes, more than {MAX_BYTES:,}", where=path)
        return path.read_bytes()
    except NotADirectoryError as error:
        return read_from_tar(path, error)
    except OSError as error:
        raise PhotoMissingError(explain_os_error(error, path), where=path) from error
    except ValueError as error:
        # Python itself refuses a path with a null byte.
        raise PhotoMissingError(f"not a path: {error}", where=repr(str(path))) from error


@contextmanager
def held_bytes(path: Path) -> Iterator[bytes]:
    """Read the bytes of a photo once there is room for them: what all threads hold this way has a limit."""
    try:
        size = path.stat().st_size
    except (OSError, ValueError):
        size = 0  # a photo in a tar, or none
    with FILES.take(size):
        yield read_bytes(path)


def hash_photo(path: Path) -> str:
    """Return the :func:`content_hash` of a photo; raises PhotoError."""
    with held_bytes(path) as data:
        return content_hash(data)


def read_from_tar(path: Path, error: OSError) -> bytes:
    """Read a photo inside a tar; raises PhotoMissingError, with the reason ``error`` if the path leads into no tar."""
    try:
        if (found := find_in_tar(path)) is None:
            raise PhotoMissingError(explain_os_error(error, path), where=path) from error
        tar, offset, length = found
        with tar.open("rb") as file:
            file.seek(offset)
            return file.read(length)
    except DataError as unusable:
        raise PhotoMissingError(unusable.what, where=unusable.where, fix=unusable.fix) from unusable
    except OSError as unread:
        raise PhotoMissingError(explain_os_error(unread, path), where=path) from unread


def photo_exists(path: Path) -> bool:
    """Return whether a photo exists, as a file or inside a tar; True where we may not look."""
    try:
        return path.is_file() or find_in_tar(path) is not None
    except PermissionError:
        return True
    except DataError:
        return False


def explain_os_error(error: OSError, path: Path) -> str:
    """Explain why a file can't be read."""
    if error.errno == errno.ENOENT and path.is_symlink():
        return "a broken link"
    return _REASONS.get(error.errno or 0, f"the photo cannot be read: {error.strerror}")


def detach_error(error: PhotoError, where: object = "") -> PhotoError:
    """Return the same error to be kept, with ``where`` if it names no place.

    A raised one keeps its frames alive, and with them the bytes of the photo.
    """
    return type(error)(error.what, where=error.where or where, fix=error.fix)


def content_hash(data: bytes) -> str:
    """Return the hash of a photo's bytes: BLAKE2b with 128 bits, as 32 hex digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()
