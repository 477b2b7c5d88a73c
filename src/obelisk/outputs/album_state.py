"""What an album has so far, so that an interrupted one goes on: answers and thumbnails, by the content of photos."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import RawIOBase
from pathlib import Path

from obelisk.errors import ObeliskError, quote
from obelisk.files import exclusive_lock, naming_full_disk
from obelisk.records import Recognition

FORMAT = 1
OWN_FILE = re.compile(r"[0-9a-f]{32}\.jsonl|lock(-journal)?")


@dataclass(frozen=True, kw_only=True)
class Thumbnail:
    """A small picture of a photo: an address that holds it, and its size in pixels."""

    uri: str
    width: int
    height: int


class AlbumState:
    """A folder beside an album that keeps each answer and thumbnail as soon as it is made.

    ``key`` stands for everything that answers depend on besides the photo. Each key has a file of its own, to which
    lines are only ever appended: what a kill or a full disk leaves of a line is ignored. Use it as a context manager.

    Raises ObeliskError if another process is making the same album.
    """

    def __init__(self, folder: Path, key: object) -> None:
        self.folder = folder
        digest = hashlib.blake2b(json.dumps([FORMAT, key]).encode(), digest_size=16).hexdigest()
        self._path = folder / f"{digest}.jsonl"
        self._found: dict[str, tuple[int, int]] = {}  # content hash → position of its line, and length
        self._appended: RawIOBase
        self._read: RawIOBase
        self._held = contextlib.ExitStack()

    def __enter__(self) -> AlbumState:
        with contextlib.ExitStack() as held:
            if not held.enter_context(exclusive_lock(self.folder / "lock", wait=1.0)):
                fix = "wait for it, or give another --out"
                raise ObeliskError("another process is making this album", where=self.folder, fix=fix)
            self.folder.mkdir(parents=True, exist_ok=True)
            # Unbuffered: a full disk shows when a line is written, and what is read is what was written last.
            self._appended = held.enter_context(self._path.open("ab", buffering=0))
            self._read = held.enter_context(self._path.open("rb", buffering=0))
            self._find_lines()
            self._held = held.pop_all()
        return self

    def __exit__(self, *reason: object) -> None:
        if len(self):
            self._held.close()
        else:
            self.remove()

    def __len__(self) -> int:
        return len(self._found)

    def __contains__(self, content: str) -> bool:
        return content in self._found

    def _find_lines(self) -> None:
        """Find every whole line, and cut off what was left of another one."""
        end = 0
        with contextlib.suppress(ValueError, KeyError, TypeError), self._path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._found[json.loads(line)["content"]] = end, len(line)
                end += len(line)
        self._appended.truncate(end)

    def keep(self, content: str, answer: Recognition, thumbnail: Thumbnail) -> None:
        """Keep the answer for a photo and its thumbnail, by the hash of the photo's bytes."""
        if content in self._found:
            return
        fields = {
            "content": content,
            "answer": answer.to_json(),
            "width": thumbnail.width,
            "height": thumbnail.height,
            "uri": thumbnail.uri,
        }
        line = json.dumps(fields).encode() + b"\n"
        start, rest = self._appended.seek(0, 2), memoryview(line)
        with naming_full_disk(self.folder):
            while rest:
                rest = rest[self._appended.write(rest) :]
        self._found[content] = start, len(line)

    def read(self, content: str, photo: str) -> tuple[Recognition, Thumbnail]:
        """Return what is kept of a content, as the answer for a photo that has it."""
        start, length = self._found[content]
        self._read.seek(start)
        fields = json.loads(self._read.read(length))
        answer = replace(Recognition.from_json(fields["answer"]), photo=photo)
        return answer, Thumbnail(uri=fields["uri"], width=fields["width"], height=fields["height"])

    def remove(self) -> None:
        """Delete the folder, but no file that was not made here."""
        self._held.close()
        with contextlib.suppress(OSError):
            for path in own_files(self.folder):
                path.unlink(missing_ok=True)
            self.folder.rmdir()

    @property
    def advice(self) -> str:
        """How to go on after an interruption."""
        return f"run the same command again: {len(self)} answers are kept in {quote(str(self.folder))}"


def own_files(folder: Path) -> Iterator[Path]:
    """Yield the files that albums keep in a folder."""
    return (path for path in list(folder.iterdir()) if OWN_FILE.fullmatch(path.name))
