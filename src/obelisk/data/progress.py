"""The seam through which long passes over photos tell how far they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol


class Progress(Protocol):
    """Yield the items of a long pass, showing how many are done."""

    def __call__(self, items: Sequence[str], /, *, what: str) -> Iterable[str]:
        """Return the same items in the same order; ``what`` names the pass."""


def keep_silent(items: Sequence[str], /, *, what: str) -> Iterable[str]:
    """Yield the items and show nothing."""
    return items
