"""The issues that a dataset can have, by kind, each with its remedy."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Final, Literal, get_args

IssueKind = Literal[
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
ISSUE_KINDS: Final[tuple[IssueKind, ...]] = get_args(IssueKind)

FIXES: Final[dict[IssueKind, str]] = {
    "malformed": "correct or delete the row",
    "missing": "fetch the photo again, or delete its row",
    "orphan": "add a row for the photo, or move it out of the dataset",
    "empty": "fetch it again, or delete it",
    "unreadable": "fetch the photo again, or move it out of the dataset and delete its row",
    "duplicate": "delete one of the two",
    "mislabelled": "keep the landmark that the photo shows, delete the other",
    "leaked": "keep it among the references or among the queries, not in both",
    "unnamed": "add the landmark to landmarks.csv",
    "unknown landmark": "add reference photos of the landmark, or take it out of the query's row",
}


@dataclass(frozen=True, kw_only=True)
class Issue:
    """One issue: its kind, where it is (a photo's path, or a table and row), what is wrong, and how to fix it."""

    kind: IssueKind
    where: str
    what: str
    fix: str

    def to_json(self) -> str:
        """Return one line of JSON."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False)


def make_issue(kind: IssueKind, *, where: str, what: str, fix: str = "") -> Issue:
    """Return an issue; its remedy is that of its kind unless a better one is known."""
    return Issue(kind=kind, where=where, what=what, fix=fix or FIXES[kind])
