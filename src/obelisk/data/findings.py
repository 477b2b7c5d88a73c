"""What can be wrong with a dataset, a kind of fault at a time."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Final, Literal, get_args

Kind = Literal[
    "malformed",
    "missing",
    "orphan",
    "empty",
    "unreadable",
    "duplicate",
    "mislabelled",
    "leaked",
    "unnamed",
    "unknown landmark",
]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

FIXES: Final[dict[Kind, str]] = {
    "malformed": "correct or delete the row",
    "missing": "fetch the photo again, or delete its row",
    "orphan": "add a row for the photo, or delete it",
    "empty": "fetch it again, or delete it",
    "unreadable": "make it readable, fetch it again, or delete it and its row",
    "duplicate": "delete one of the two",
    "mislabelled": "keep the landmark that the photo shows, delete the other",
    "leaked": "delete the reference photo, or the query",
    "unnamed": "add the landmark to landmarks.csv",
    "unknown landmark": "add reference photos of the landmark, or take it out of the query's row",
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One fault: its kind, where it is (a photo's path, or a table and row), what is wrong, and what to do."""

    kind: Kind
    where: str
    what: str
    fix: str

    def to_json(self) -> str:
        """Return one line of JSON."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False)


def report(kind: Kind, *, where: str, what: str) -> Finding:
    """Return a finding with the fix of its kind."""
    return Finding(kind=kind, where=where, what=what, fix=FIXES[kind])
