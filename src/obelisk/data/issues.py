"""The issues that a dataset can have, by kind, each with its remedy."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args, overload

import polars as pl

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
    "look-alike",
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
    "look-alike": "if this is one place, give the photos of both to one landmark",
}


AT_ONCE: Final = 50_000


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


@dataclass(frozen=True, kw_only=True, eq=False)
class IssueRows(Sequence[Issue]):
    """The issues of one kind that the rows of a frame have, made when they are asked for.

    ``where`` and ``what`` are computed from parts of the frame, after ``look_up`` if the frame lacks their facts; a
    table may have millions of wrong rows.
    """

    kind: IssueKind
    rows: pl.DataFrame
    where: pl.Expr
    what: pl.Expr
    fix: str = ""
    look_up: Callable[[pl.DataFrame], pl.DataFrame] | None = None

    def __len__(self) -> int:
        return self.rows.height

    @overload
    def __getitem__(self, index: int) -> Issue: ...

    @overload
    def __getitem__(self, index: slice) -> IssueRows: ...

    def __getitem__(self, index: int | slice) -> Issue | IssueRows:
        if isinstance(index, slice):
            return dataclasses.replace(self, rows=self.rows[index])
        return next(iter(self[index:][:1]))

    def __iter__(self) -> Iterator[Issue]:
        for part in self.render():
            for where, what in part.iter_rows():
                yield make_issue(self.kind, where=where, what=what, fix=self.fix)

    def render(self) -> Iterator[pl.DataFrame]:
        """Yield the issues in parts, frames (where, what)."""
        for part in self.rows.iter_slices(AT_ONCE):
            facts = self.look_up(part) if self.look_up else part
            yield facts.select(self.where.alias("where"), self.what.alias("what"))


def issues_to_json(issues: Sequence[Issue]) -> Iterator[list[str]]:
    """Yield issues as JSON, one line each, many lines at a time."""
    if not isinstance(issues, IssueRows):
        yield [issue.to_json() for issue in issues]
        return
    fix = json.dumps(issues.fix or FIXES[issues.kind], ensure_ascii=False)
    for part in issues.render():
        # {"where":"…"} without its braces, and with the blank that Python writes
        where, what = (
            pl.struct(name).struct.json_encode().str.slice(1).str.head(-1).str.replace(":", ": ", n=1, literal=True)
            for name in ("where", "what")
        )
        start, end = f'{{"kind": "{issues.kind}", ', f', "fix": {fix}}}'
        line = pl.concat_str(pl.lit(start), where, pl.lit(", "), what, pl.lit(end))
        yield part.select(line).to_series().to_list()
