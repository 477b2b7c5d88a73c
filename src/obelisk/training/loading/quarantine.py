"""Photos that become unreadable while a network trains on them: listed in a file, and tolerated up to a limit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter

from obelisk.embedding import parse_json
from obelisk.errors import DataError, PhotoError
from obelisk.files import read_limited, replace_file
from obelisk.photos import read_photo
from obelisk.training.distributed import Distributed
from obelisk.training.loading.loader import LabeledPhotos

QUARANTINE = "quarantine.json"
LARGEST_QUARANTINE = 2**26  # bytes


@dataclass(frozen=True, kw_only=True)
class Quarantine:
    """The photos that could not be read, by index, with their errors; ``limit`` is the share of all that may be lost.

    The list stands in ``quarantine.json`` in ``folder``; each of several processes has its own.
    """

    photos: LabeledPhotos
    folder: Path
    limit: float
    dist: Distributed
    errors: dict[int, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The list of this process."""
        return self.dist.own_path(self.folder / QUARANTINE)

    def recall(self) -> None:
        """Take over the list of an interrupted run, without the photos that can be read again."""
        listed = read_quarantine(self.path) if self.path.is_file() else {}
        for index, photo in enumerate(self.photos.paths):
            if str(photo) in listed and not is_readable(photo, self.photos.rule.size):
                self.errors[index] = listed[str(photo)]

    def add(self, unreadable: Mapping[int, str]) -> None:
        """List a batch's unreadable photos; raises DataError when more are lost, in all processes, than the limit."""
        if not unreadable.keys() <= self.errors.keys():
            self.errors.update(unreadable)
            listed = {str(self.photos.paths[index]): error for index, error in sorted(self.errors.items())}
            text = json.dumps(listed, indent=1, ensure_ascii=False) + "\n"
            replace_file(self.path, lambda partial: partial.write_text(text, encoding="utf-8", newline="\n"))
        (lost,) = self.dist.sum(len(self.errors))
        if lost > self.limit * len(self.photos):
            raise DataError(
                f"{lost:.0f} of {len(self.photos)} photos cannot be read any more",
                where=self.folder / QUARANTINE,
                fix="bring them back and add --resume, or allow more by finetuning.quarantine",
            )


def is_readable(photo: Path, side: int) -> bool:
    """Return whether a photo can be read."""
    try:
        read_photo(photo, min_side=side)
    except PhotoError:
        return False
    return True


def find_lost_photos(folder: Path) -> set[str]:
    """Return the paths that any process of an unfinished run in the folder has listed as unreadable."""
    lists = folder.glob(f"{Path(QUARANTINE).stem}*.json")
    return {photo for path in lists for photo in read_quarantine(path)}


def read_quarantine(path: Path) -> dict[str, str]:
    """Read a list of unreadable photos with their errors; raises ModelError for a damaged one."""
    fix = "delete it: photos that can't be read are found again"
    content = read_limited(path, LARGEST_QUARANTINE)
    return parse_json(content, TypeAdapter(dict[str, str]), where=path, what="quarantine", fix=fix)
