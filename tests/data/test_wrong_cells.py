"""What people's tables hold in place of what they should: each is named with its row and its value."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from obelisk.data import check_dataset, read_catalog
from obelisk.data.formats import csv
from obelisk.data.issues import Issue
from obelisk.errors import DataError

IDS = [f"{number}000000000000ab{number}" for number in range(6)]
IDS_ARE = "ids are whole numbers from 0 to 9,007,199,254,740,991"


@pytest.fixture
def dataset(tmp_path: Path, make_gldv2: Callable[..., Path]) -> Path:
    """Six photos of three landmarks, and two queries."""
    labels = {image_id: 7 + number % 3 for number, image_id in enumerate(IDS)}
    return make_gldv2(tmp_path / "d", labels, {"a00000000000000a": "7 8", "b00000000000000b": ""})


def rewrite(table: Path, *changes: tuple[int, str, str]) -> None:
    """Replace text in lines of a table, which count from 1."""
    lines = table.read_text().split("\n")
    for number, old, new in changes:
        assert old in lines[number - 1]
        lines[number - 1] = lines[number - 1].replace(old, new)
    table.write_text("\n".join(lines))


def malformed(dataset: Path) -> list[Issue]:
    """Return the issues, all of which must be malformed rows."""
    found = list(check_dataset(dataset))
    assert {issue.kind for issue in found} <= {"malformed"}
    return found


# A cell in place of the landmark 8 in row 3, and what is said of it.
LANDMARKS = {
    "as pandas writes numbers with gaps": ("8.0", "`8.0` is not a landmark id: write `8`"),
    "a name": ("place 8", f"`place 8` is not a landmark id: {IDS_ARE}"),
    "a fraction": ("8.5", f"`8.5` is not a landmark id: {IDS_ARE}"),
    "negative": ("-8", f"`-8` is not a landmark id: {IDS_ARE}"),
    "too large": (str(2**53), f"`{2**53}` is not a landmark id: {IDS_ARE}"),
    "far too large": (str(2**70), f"`{2**70}` is not a landmark id: {IDS_ARE}"),
    "scientific": ("8e0", f"`8e0` is not a landmark id: {IDS_ARE}"),
    "nothing": ("", "it has no landmark"),
    "a word of pandas": ("NaN", f"`NaN` is not a landmark id: {IDS_ARE}"),
}


@pytest.mark.parametrize(("cell", "told"), LANDMARKS.values(), ids=LANDMARKS)
def test_a_cell_that_is_no_landmark_id(cell: str, told: str, dataset: Path) -> None:
    rewrite(dataset / "metadata/train.csv", (3, ",8", f",{cell}"))
    (issue,) = malformed(dataset)
    assert issue.where == "train.csv, row 3"
    assert issue.what == f"photo {IDS[1]}: {told}"
    (note,) = read_catalog(dataset).notes
    assert note == (
        f"1 training rows without a usable id or landmark left out; the first is row 3: photo {IDS[1]}: {told}"
    )


@pytest.mark.parametrize("number", [0, 2**53 - 1])
def test_the_smallest_and_the_largest_landmark_id(number: int, dataset: Path) -> None:
    rewrite(dataset / "metadata/train.csv", (3, ",8", f",{number}"))
    rewrite(dataset / "metadata/landmarks.csv", (3, "8,", f"{number},"))
    assert number in read_catalog(dataset).landmark_names()


def test_a_table_of_wrong_landmarks_alone_says_why(dataset: Path) -> None:
    table = dataset / "metadata/train.csv"
    table.write_text("id,landmark_id\n" + "".join(f"{image_id},7.0\n" for image_id in IDS))
    with pytest.raises(DataError, match=rf"no training photo that can be used; row 2: photo {IDS[0]}: `7\.0` is not"):
        read_catalog(dataset)
    issues = list(check_dataset(dataset))
    assert [issue.where for issue in issues if issue.kind == "malformed"] == [
        f"train.csv, row {row}" for row in range(2, 8)
    ]


# How the solution may name the landmarks 7 and 8 wrongly, and what is said of it.
SOLUTIONS = {
    "7.0 8": "`7.0` is not a landmark id: write `7`",
    "7 x": f"`x` is not a landmark id: {IDS_ARE}",
    "7;8": f"`7;8` is not a landmark id: {IDS_ARE}",
    "7 -8": f"`-8` is not a landmark id: {IDS_ARE}",
}


@pytest.mark.parametrize(("cell", "told"), SOLUTIONS.items())
def test_landmarks_of_the_solution(cell: str, told: str, dataset: Path) -> None:
    rewrite(dataset / "metadata/recognition_solution_v2.1.csv", (2, ",7 8,", f",{cell},"))
    (issue,) = malformed(dataset)
    assert (issue.where, issue.what) == ("recognition_solution_v2.1.csv, row 2", f"photo a00000000000000a: {told}")
    catalog = read_catalog(dataset)
    assert catalog.queries.height == 1
    assert f"1 query rows without a usable id or landmark left out; the first is row 2: {issue.what}" in catalog.notes


def capitals(image_id: str) -> str:
    return image_id.upper()


def with_suffix(image_id: str) -> str:
    return f"{image_id}.jpg"


def with_capital_suffix(image_id: str) -> str:
    return f"{image_id}.JPG"


def as_path(image_id: str) -> str:
    return f"train/{'/'.join(image_id[:3])}/{image_id}.jpg"


def as_windows_path(image_id: str) -> str:
    return f"C:\\data\\{image_id}.jpg"


MISNAMED = [capitals, with_suffix, with_capital_suffix, as_path, as_windows_path]


@pytest.mark.parametrize("misname", MISNAMED)
def test_an_id_that_is_not_quite_the_name_of_the_file(misname: Callable[[str], str], dataset: Path) -> None:
    rewrite(dataset / "metadata/train.csv", (4, IDS[2], misname(IDS[2])))
    (issue,) = malformed(dataset)
    path = f"train/{'/'.join(IDS[2][:3])}/{IDS[2]}.jpg"
    assert issue.where == "train.csv, row 4"
    assert issue.what == f"the id `{misname(IDS[2])}` must be `{IDS[2]}`, as the file is {path}"
    assert read_catalog(dataset).notes == (
        f"1 training photos of the CSVs left out; the first is in row 4: {issue.what}",
    )


@pytest.mark.parametrize("misname", MISNAMED)
def test_a_table_of_such_ids_alone_says_why(misname: Callable[[str], str], dataset: Path) -> None:
    table = dataset / "metadata/train.csv"
    table.write_text("id,landmark_id\n" + "".join(f"{misname(image_id)},7\n" for image_id in IDS))
    with pytest.raises(DataError, match=rf"on disk under its id; row 2: the id .* must be `{IDS[0]}`"):
        read_catalog(dataset)
    assert [issue.where for issue in check_dataset(dataset) if issue.kind == "malformed"] == [
        f"train.csv, row {row}" for row in range(2, 8)
    ]


def test_ids_of_the_clean_table_may_be_misnamed_too(dataset: Path) -> None:
    (dataset / "metadata/train_clean.csv").write_text(f"landmark_id,images\n7,{IDS[0]}.jpg {IDS[3]}\n")
    catalog = read_catalog(dataset, clean=True)
    assert catalog.references["image_id"].to_list() == [IDS[3]]
    assert f"must be `{IDS[0]}`" in catalog.notes[0]


# Stray quotes before cells of train.csv (lines, text, replacement), and the lines that they run together.
STRAY = {
    "from line to line": (((3, ",http", ',"http'), (4, ".jpg,", '.jpg",')), "3 to 4"),
    "over some lines": (((3, ",http", ',"http'), (5, ".jpg,", '.jpg",')), "3 to 5"),
    "over a quoted cell": (
        ((3, ",http", ',"http'), (4, "http", '"http'), (4, "jpg", 'jpg"'), (5, "jpg", 'jpg"')),
        "3 to 5",
    ),
}


@pytest.mark.parametrize(("changes", "lines"), STRAY.values(), ids=STRAY)
@pytest.mark.parametrize("chunk", [csv.CHUNK, 50])
def test_stray_quotes_that_swallow_rows_are_told(
    changes: tuple[tuple[int, str, str], ...], lines: str, chunk: int, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv, "CHUNK", chunk)
    rewrite(dataset / "metadata/train.csv", *changes)
    told = f"the lines {lines} are read as one row, because of a quote that opens in the first and closes in the last"
    first, *orphans = check_dataset(dataset)
    assert (first.kind, first.where, first.what) == ("malformed", "train.csv, row 3", told)
    swallowed = int(lines[-1]) - 2
    assert [issue.kind for issue in orphans] == ["orphan"] * swallowed
    catalog = read_catalog(dataset)
    assert catalog.references.height == 6 - swallowed
    assert catalog.notes[0].endswith(f"the first is row 3: {told}")


# A stray quote alone, and the line that is named.
ALONE = {
    "one": ((3, ",http", ',"http'),),
    "before quoted cells": ((3, ",http", ',"http'), (5, "http", '"http'), (5, ".jpg", '.jpg"')),
    "inside a cell": ((3, "http", 'ht"tp'),),
}


@pytest.mark.parametrize("changes", ALONE.values(), ids=ALONE)
def test_a_quote_that_is_never_closed_is_named_by_its_line(
    changes: tuple[tuple[int, str, str], ...], dataset: Path
) -> None:
    rewrite(dataset / "metadata/train.csv", *changes)
    with pytest.raises(DataError, match=r"a quote is never closed · .*train\.csv, line 3 · delete the quote"):
        read_catalog(dataset)


def test_quotes_inside_cells_are_named_by_their_line(dataset: Path) -> None:
    rewrite(dataset / "metadata/train.csv", (4, "http", '"5" ft, http'), (4, ".jpg", '.jpg"'), (5, "http", 'a"b'))
    with pytest.raises(DataError, match=r"train\.csv, line 4"):
        read_catalog(dataset)


def test_line_ends_in_quoted_cells_are_no_fault(dataset: Path) -> None:
    rewrite(dataset / "metadata/train.csv", (3, "http", '"a,\nb, c\nhttp'), (3, "jpg", 'jpg"'))
    rewrite(dataset / "metadata/landmarks.csv", (2, "Place 7", '"Place\nSeven, upstairs"'))
    assert malformed(dataset) == []
    assert read_catalog(dataset).references.height == 6


# A row of landmarks.csv, and what is said of it.
DETAILS = {
    "8,Eight,,0,151.2,1": "the latitude `151.2` is not a number from -90 to 90 with a decimal point",
    "8,Eight,,0,1e3,1": "the latitude `1e3` is not a number from -90 to 90 with a decimal point",
    "8,Eight,,0,inf,1": "the latitude `inf` is not a number from -90 to 90 with a decimal point",
    "8,Eight,,0,nan,1": "the latitude `nan` is not a number from -90 to 90 with a decimal point",
    '8,Eight,,0,"43,8791",1': "the latitude `43,8791` is not a number from -90 to 90 with a decimal point",
    "8,Eight,,0,51.1789 N,1": "the latitude `51.1789 N` is not a number from -90 to 90 with a decimal point",
    "8,Eight,,0,1,-180.5": "the longitude `-180.5` is not a number from -180 to 180 with a decimal point",
    "8,Eight,,much,1,1": "the area level `much` is not a whole number",
    "8.0,Eight,,0,1,1": "`8.0` is not a landmark id: write `8`",
    ",Eight,,0,1,1": "the landmark has no id",
}


@pytest.mark.parametrize(("row", "told"), DETAILS.items())
def test_cells_of_landmarks(row: str, told: str, dataset: Path) -> None:
    rows = (
        "landmark_id,name,supercategory,area_level,latitude,longitude",
        "7,Seven,,0,-90,180",
        "8,Eight,,,,",
        "9,Nine,,,,",
        row,
    )
    (dataset / "metadata/landmarks.csv").write_text("\n".join(rows) + "\n")
    (issue,) = malformed(dataset)
    assert (issue.where, issue.what) == ("landmarks.csv, row 5", told)
    catalog = read_catalog(dataset)
    assert catalog.notes == (f"1 faults in landmarks.csv, whose cells are left out; the first is in row 5: {told}",)
    assert catalog.landmarks.select("latitude", "longitude").rows()[0] == (-90, 180)
    if "tude" in told:
        assert catalog.landmarks.select("latitude", "longitude").rows()[1] == (None, None)


@pytest.mark.parametrize("name", ["landmarks.csv", "train_label_to_category.csv"])
def test_names_in_another_encoding_are_told(name: str, dataset: Path) -> None:
    rows = ("landmark_id,name,category", "7,Café,Café", "8,Eight,Eight", "9,Nine,Nine")
    (dataset / "metadata" / name).write_text("\n".join(rows) + "\n", encoding="latin-1")
    told = "the name `Caf\ufffd` has lost letters, because the table is not UTF-8"
    assert [(issue.where, issue.what, issue.fix) for issue in malformed(dataset)] == [
        (f"{name}, row 2", told, "save it as UTF-8")
    ]
    assert read_catalog(dataset).notes == (f"1 names of {name} are damaged; row 2: {told}; save it as UTF-8",)


# How files begin that are no tables, with what is said.
FOREIGN = {
    "gzip": (b"\x1f\x8b\x08\0", "compressed with gzip .*mv train.csv train.csv.gz && gunzip train.csv.gz"),
    "zstd": (b"\x28\xb5\x2f\xfd", "compressed with zstd .*mv train.csv train.csv.zst && unzstd train.csv.zst"),
    "zlib": (b"\x78\x9c", "compressed with zlib"),
    "xlsx": (b"PK\x03\x04", "a ZIP archive or a spreadsheet .* save the sheet as CSV"),
    "UTF-16": ("id,landmark_id\n1,2\n".encode("utf-16"), "UTF-16 text .* save it as UTF-8"),
    "old Mac": (b"id,landmark_id\r1,2\r", "carriage return .* save it as UTF-8 with line feeds"),
    "Excel": (b"\xef\xbb\xbfsep=,\r\nid,landmark_id\r\n", "names the separator .* delete that line"),
    "UTF-16 without a mark": ("id,landmark_id\n1,2\n".encode("utf-16-le"), "NUL bytes"),
}


@pytest.mark.parametrize(("start", "told"), FOREIGN.values(), ids=FOREIGN)
def test_what_is_no_table_is_refused_by_its_first_bytes(start: bytes, told: str, dataset: Path) -> None:
    (dataset / "metadata/train.csv").write_bytes(start)
    with pytest.raises(DataError, match=told):
        read_catalog(dataset)


def test_bytes_after_a_sound_table_are_a_row_that_cannot_be_used(dataset: Path) -> None:
    with (dataset / "metadata/train.csv").open("ab") as table:
        table.write(bytes(4096))
    (issue,) = malformed(dataset)
    assert issue.where == "train.csv, row 8"
    assert len(issue.what) < 200


LIMITS = {
    "MAX_LINES": (6, "more than 6 lines"),
    "MAX_HEADER_BYTES": (10, "the first line has more than 10 bytes"),
    "MAX_BYTES": (100, "more than 100"),
    "MAX_ROW_BYTES": (20, "line 2 begins a row of more than 20 bytes"),
    "SPARE_BLANK_LINES": (-8, "0 of the table's 7 lines are blank"),
}


@pytest.mark.parametrize(("name", "limit", "told"), [(name, *case) for name, case in LIMITS.items()])
def test_a_table_has_limits(name: str, limit: int, told: str, dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv, name, limit)
    monkeypatch.setattr(csv, "CHUNK", 10)
    with pytest.raises(DataError, match=told):
        read_catalog(dataset)
