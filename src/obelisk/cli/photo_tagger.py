"""The part of ``obelisk recognize`` that writes tags into sidecars, with ``--xmp``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from obelisk.cli.console import count_of, note, warn
from obelisk.errors import SidecarError, UsageError
from obelisk.files import FULL
from obelisk.records import Recognition

if TYPE_CHECKING:
    from obelisk.outputs import SidecarChange


@dataclass(kw_only=True)
class PhotoTagger:
    """Brings sidecars up to date and counts them; ``failed`` are those that can't be used.

    ``position`` also writes where landmarks are, ``dry_run`` only tells what would change.
    """

    position: bool = False
    dry_run: bool = False
    changed: int = 0
    failed: int = 0

    def follow(self, answers: Iterable[Recognition]) -> Iterator[Recognition]:
        """Yield the answers, each of them once the sidecar of its photo is up to date."""
        from obelisk.outputs import tag_photo

        for answer in answers:
            if not answer.error:
                self._change(lambda: tag_photo(answer, position=self.position, dry_run=self.dry_run))  # noqa: B023
            yield answer

    def remove(self, photos: Iterable[str]) -> None:
        """Take the tags out of the sidecars of photos."""
        from obelisk.outputs import untag_photo

        for photo in photos:
            self._change(lambda: untag_photo(photo, dry_run=self.dry_run))  # noqa: B023

    def report(self) -> None:
        """Say how many sidecars changed."""
        note(f"{count_of(self.changed, 'sidecar')} {'would change' if self.dry_run else 'changed'}")
        if self.failed:
            warn(f"{count_of(self.failed, 'sidecar')} could not be used")

    def _change(self, change: Callable[[], SidecarChange]) -> None:
        try:
            found = change()
        except SidecarError as error:
            self._fail(str(error))
        except OSError as error:
            if error.errno in FULL:
                raise
            self._fail(f"the sidecar can't be used: {str(error.strerror).lower()} · {error.filename}")
        else:
            self.changed += found.changed
            if found.changed and self.dry_run:
                note(str(found))

    def _fail(self, reason: str) -> None:
        self.failed += 1
        warn(reason)


def make_tagger(*, xmp: bool, position: bool, dry_run: bool, remove_tags: bool) -> PhotoTagger | None:
    """Return what the options ask for; None without ``--xmp``, which the other options need."""
    given = {"--position": position, "--dry-run": dry_run, "--remove-tags": remove_tags}
    named = [name for name, wanted in given.items() if wanted]
    if named and not xmp:
        raise UsageError(f"{named[0]} is about tags in sidecars", fix=f"give --xmp {' '.join(named)}")
    return PhotoTagger(position=position, dry_run=dry_run) if xmp else None
