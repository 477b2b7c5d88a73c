"""The photos of an album: their answers, as far as they are known already, and thumbnails made on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL.Image import Image

from obelisk.defaults import PRECISION
from obelisk.errors import PhotoError
from obelisk.outputs.album_state import AlbumState, Thumbnail
from obelisk.photos import content_hash, data_uri, encode_thumbnail, hash_photo, map_in_order
from obelisk.positions import Position
from obelisk.recognition import Recognizer
from obelisk.records import Progress, Recognition, no_progress

WIDTH, HEIGHT = 400, 240  # pixels; shown at two thirds of that, sharp on most screens
LARGEST = 12_000  # bytes of a thumbnail; in a page they take a third more


@dataclass(frozen=True, kw_only=True)
class AlbumPhoto:
    """A photo of an album: the hash of its content, or why it could not be read."""

    path: str
    content: str
    error: str | None = None


class ThumbnailMaker:
    """Makes a thumbnail of each photo from the pixels that were decoded for its embedding."""

    def __init__(self) -> None:
        self._made: dict[Path, tuple[str, Thumbnail]] = {}

    def __call__(self, path: Path, data: bytes, photo: Image) -> None:
        """Make the thumbnail of a photo; threads may do so at the same time."""
        jpeg, (width, height) = encode_thumbnail(photo, width=WIDTH, height=HEIGHT, largest=LARGEST)
        self._made[path] = content_hash(data), Thumbnail(uri=data_uri(jpeg), width=width, height=height)

    def take(self, path: str) -> tuple[str, Thumbnail] | None:
        """Hand over the hash of a photo and its thumbnail; None if its pixels were never decoded."""
        return self._made.pop(Path(path), None)


def recognize_album(
    recognizer: Recognizer,
    paths: Iterable[str],
    state: AlbumState,
    *,
    threshold: float | None = None,
    precision: float = PRECISION,
    near: Position | str | None = None,
    progress: Progress = no_progress,
    on_answer: Callable[[Recognition], object] = lambda answer: None,
) -> list[AlbumPhoto]:
    """Recognize the photos whose content ``state`` does not know yet, and keep what is found there.

    The options are those of :meth:`~obelisk.Recognizer.recognize`. Returns all photos in the given order, each once;
    ``on_answer`` sees the new answers.
    """
    listed = list({Path(path): path for path in paths}.values())
    found = {photo.path: photo for photo in find_known(listed, state, progress)}
    thumbnails = ThumbnailMaker()
    recognizer.embedder.on_decoded = thumbnails
    try:
        new = [path for path in listed if path not in found]
        answers = recognizer.recognize(new, threshold=threshold, precision=precision, near=near)
        for number, answer in enumerate(answers, start=1):
            made = thumbnails.take(answer.photo)
            if answer.error is None and made:
                state.keep(made[0], answer, made[1])
            found[answer.photo] = AlbumPhoto(path=answer.photo, content=made[0] if made else "", error=answer.error)
            on_answer(answer)
            progress("photos", number, len(new))
    finally:
        recognizer.embedder.on_decoded = None
    return [found[path] for path in listed]


def find_known(paths: list[str], state: AlbumState, progress: Progress) -> Iterator[AlbumPhoto]:
    """Yield the photos whose content is known; nothing is read if none is."""
    if not len(state):
        return
    for number, (path, content) in enumerate(zip(paths, map_in_order(hash_or_nothing, paths), strict=True), start=1):
        progress("photos looked up", number, len(paths))
        if content in state:
            yield AlbumPhoto(path=path, content=content)


def hash_or_nothing(path: str) -> str:
    """Return the hash of a photo's bytes; an empty text if it can't be read, which its answer will say."""
    try:
        return hash_photo(Path(path))
    except PhotoError:
        return ""
