from __future__ import annotations

import json

import polars as pl
import pytest

from obelisk.data import issues_to_json
from obelisk.data.issues import AT_ONCE, FIXES, IssueRows, make_issue

ODD = [
    "plain",
    'a "quote"',
    "back\\slash",
    "línea, 故宮 🗼",
    "tab\tand\nline",
    "\x1b[2J\x7f",
    "a: b",
    "{}",
    "</script>",
    "",
]


def issue_rows(count: int = len(ODD), fix: str = "") -> IssueRows:
    rows = pl.DataFrame({"name": [ODD[number % len(ODD)] for number in range(count)], "row": range(count)})
    what = pl.format("`{}` is in row {}", "name", "row")
    return IssueRows(kind="malformed", rows=rows, where=pl.col("name"), what=what, fix=fix)


@pytest.mark.parametrize("fix", ["", 'write "it"'])
def test_the_issues_of_rows_are_those_made_one_by_one(fix):
    rows = issue_rows(fix=fix)
    expected = [
        make_issue("malformed", where=name, what=f"`{name}` is in row {n}", fix=fix) for n, name in enumerate(ODD)
    ]
    assert list(rows) == expected
    assert (rows[3], rows[-1], list(rows[2:4])) == (expected[3], expected[-1], expected[2:4])
    (lines,) = issues_to_json(rows)
    assert [lines] == [[issue.to_json() for issue in expected]] == list(issues_to_json(expected))
    assert json.loads(lines[0])["fix"] == (fix or FIXES["malformed"])


def test_many_issues_are_made_in_parts():
    rows = issue_rows(AT_ONCE + 1)
    assert len(rows) == AT_ONCE + 1
    assert [part.height for part in rows.render()] == [AT_ONCE, 1]
    assert rows[AT_ONCE].what.endswith(f"row {AT_ONCE}")
