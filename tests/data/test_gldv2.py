from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obelisk.data import LANDMARKS, QUERIES, REFERENCES, read_catalog
from obelisk.data.formats.gldv2_rows import sort_by_id
from obelisk.data.formats.labels import link_category, name_category
from obelisk.errors import DataError

A, B, C = "aaa0", "bbb0", "ccc0"


def test_whole_dataset_is_read_with_the_columns_and_order_it_promises(tmp_path, make_gldv2):
    root = make_gldv2(tmp_path / "d", {C: 7, A: 5, B: 5}, {"ddd0": "5 9", "eee0": ""})
    catalog = read_catalog(root)
    assert (catalog.references.schema, catalog.queries.schema, catalog.landmarks.schema) == (
        REFERENCES,
        QUERIES,
        LANDMARKS,
    )
    assert catalog.references.rows() == [
        (A, "train/a/a/a/aaa0.jpg", 5, "train"),
        (B, "train/b/b/b/bbb0.jpg", 5, "train"),
        (C, "train/c/c/c/ccc0.jpg", 7, "train"),
    ]
    assert catalog.queries["landmark_ids"].to_list() == [[5, 9], []]
    assert catalog.landmark_names() == {5: "Place 5", 7: "Place 7"}
    assert catalog.select_known_queries()["image_id"].to_list() == ["ddd0"]
    assert catalog.select_distractors()["image_id"].to_list() == ["eee0"]
    assert all(path.is_file() for path in catalog.locate_photos(catalog.references))
    assert catalog.notes == ()


# What other programs make of a CSV: each must be read as the two rows (aaa0, 5) and (bbb0, 6).
TABLES = {
    "plain": b"id,url,landmark_id\naaa0,u,5\nbbb0,v,6\n",
    "byte order mark": b"\xef\xbb\xbfid,url,landmark_id\naaa0,u,5\nbbb0,v,6\n",
    "CRLF": b"id,url,landmark_id\r\naaa0,u,5\r\nbbb0,v,6\r\n",
    "BOM, CRLF and quotes": b'\xef\xbb\xbf"id","url","landmark_id"\r\n"aaa0","u","5"\r\n"bbb0","v, w","6"\r\n',
    "quoted comma and line break in a url": b'id,url,landmark_id\naaa0,"a,\nb",5\nbbb0,"say ""x""",6\n',
    "empty url": b"id,url,landmark_id\naaa0,,5\nbbb0,,6\n",
    "no url column": b"id,landmark_id\naaa0,5\nbbb0,6\n",
    "extra columns, other order": b"landmark_id,author,id\n5,me,aaa0\n6,you,bbb0\n",
    "spaces around cells": b"id,url,landmark_id\naaa0 ,u, 5\n bbb0,v,6 \n",
    "no line end at the end": b"id,url,landmark_id\naaa0,u,5\nbbb0,v,6",
    "blank lines": b"id,url,landmark_id\n\naaa0,u,5\n\n\nbbb0,v,6\n\n",
    "bytes that are not UTF-8": b"id,url,landmark_id\naaa0,caf\xe9,5\nbbb0,v,6\n",
    "rows that are longer than the header": b"id,url,landmark_id\naaa0,u,5,x,y\nbbb0,v,6,z\n",
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
def test_tables_of_other_programs_are_read(table: bytes, tmp_path, make_gldv2):
    root = make_gldv2(tmp_path / "d", {A: 5, B: 6})
    (root / "metadata" / "train.csv").write_bytes(table)
    catalog = read_catalog(root)
    assert catalog.references.select("image_id", "landmark_id").rows() == [(A, 5), (B, 6)]
    assert catalog.notes == ()


# Each table lacks a column: the error must name the file, the column, and what was found.
LACKING = {
    "train.csv without landmark_id": ("train.csv", "id,url,landmark\nx,y,1\n", "landmark_id", "`url`"),
    "train.csv with semicolons": ("train.csv", "id;url;landmark_id\nx;y;1\n", "id", "`id;url;landmark_id`"),
    "solution without Usage": ("recognition_solution_v2.1.csv", "id,landmarks\nx,1\n", "Usage", "`landmarks`"),
    "landmarks.csv without name": ("landmarks.csv", "landmark_id,title\n5,x\n", "name", "`title`"),
}


@pytest.mark.parametrize(("file", "text", "column", "found"), LACKING.values(), ids=LACKING.keys())
def test_missing_column_is_one_clear_error(file: str, text: str, column: str, found: str, tmp_path, make_gldv2):
    root = make_gldv2(tmp_path / "d", {A: 5}, {"ddd0": "5"})
    (root / "metadata" / file).write_text(text)
    with pytest.raises(DataError) as raised:
        read_catalog(root)
    assert f"column `{column}` is missing" in str(raised.value)
    assert str(root / "metadata" / file) in str(raised.value)
    assert found in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"\n"], ids=["no byte", "a line end alone"])
def test_empty_table_is_an_error(content: bytes, tmp_path, make_gldv2):
    root = make_gldv2(tmp_path / "d", {A: 5})
    (root / "metadata" / "train.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"train\.csv"):
        read_catalog(root)


def test_photos_not_on_disk_are_left_out_and_counted(tmp_path, make_gldv2):
    root = make_gldv2(tmp_path / "d", {A: 5, B: 6, C: 7}, {"ddd0": "5", "eee0": ""})
    (root / "train/b/b/b/bbb0.jpg").unlink()
    (root / "test/e/e/e/eee0.jpg").unlink()
    catalog = read_catalog(root)
    assert catalog.references["image_id"].to_list() == [A, C]
    assert catalog.landmarks["landmark_id"].to_list() == [5, 7]
    assert catalog.notes == (
        "1 training photos of the CSVs are not on disk and left out",
        "1 query photos of the CSVs are not on disk and left out",
    )
    listed = read_catalog(root, present_only=False)
    assert listed.references["path"].to_list()[1] == "train/b/b/b/bbb0.jpg"
    assert listed.queries.height == 2


def test_no_photo_on_disk_is_an_error(tmp_path, make_gldv2):
    root = make_gldv2(tmp_path / "d", {A: 5, B: 6}, photos=False)
    with pytest.raises(DataError, match="none of the 2 training photos"):
        read_catalog(root)


def test_photos_in_a_flat_folder_and_with_other_endings_are_found(tmp_path, make_gldv2, write_photo):
    root = make_gldv2(tmp_path / "d", {A: 5, B: 6}, photos=False)
    write_photo(root, f"train/{A}.PNG", 1)
    write_photo(root, f"train/deep/er/{B}.jpeg", 2)
    assert read_catalog(root).references["path"].to_list() == [f"train/{A}.PNG", f"train/deep/er/{B}.jpeg"]


def test_unusable_rows_are_left_out_and_counted(tmp_path, make_gldv2):
    root = make_gldv2(tmp_path / "d", {A: 5, B: 6})
    (root / "metadata/train.csv").write_text(f"id,landmark_id\n{A},5\n{B},six\n,7\n{C}\n{A},6\n{A},5\n")
    catalog = read_catalog(root)
    assert catalog.references.select("image_id", "landmark_id").rows() == [(A, 5)]
    assert catalog.notes == (
        "3 training rows without a usable id or landmark left out; the first is row 3: "
        "photo bbb0: `six` is not a landmark id: ids are whole numbers from 0 to 9,007,199,254,740,991",
        "2 training rows that repeat the id of an earlier row left out",
    )


def test_ignored_and_unusable_queries_are_dropped(tmp_path, make_gldv2):
    root = make_gldv2(tmp_path / "d", {A: 5}, {"ddd0": "5", "eee0": "5", "fff0": "5 x"})
    solution = root / "metadata/recognition_solution_v2.1.csv"
    solution.write_text(solution.read_text().replace("eee0,5,Public", "eee0,5,Ignored"))
    catalog = read_catalog(root)
    assert catalog.queries["image_id"].to_list() == ["ddd0"]
    (note,) = catalog.notes
    assert note.startswith(
        "1 query rows without a usable id or landmark left out; the first is row 4: photo fff0: `x` is"
    )


def test_clean_table_restricts_only_when_asked_and_stands_in_for_train(tmp_path, make_gldv2):
    root = make_gldv2(tmp_path / "d", {A: 5, B: 6, C: 6})
    clean = root / "metadata/train_clean.csv"
    with pytest.raises(DataError, match=r"train_clean\.csv` is missing"):
        read_catalog(root, clean=True)
    clean.write_text(f"landmark_id,images\n5,{A}\n6,{C}\n")
    assert read_catalog(root).references["image_id"].to_list() == [A, B, C]
    assert read_catalog(root, clean=True).references["image_id"].to_list() == [A, C]
    (root / "metadata/train.csv").unlink()
    assert read_catalog(root).references.select("image_id", "landmark_id").rows() == [(A, 5), (C, 6)]


def test_tables_may_lie_beside_the_photos(tmp_path, make_gldv2):
    root = make_gldv2(tmp_path / "d", {A: 5})
    for table in (root / "metadata").iterdir():
        table.rename(root / table.name)
    (root / "metadata").rmdir()
    assert read_catalog(root).landmark_names() == {5: "Place 5"}


def test_photos_of_gldv2_without_labels_are_not_taken_for_landmark_folders(tmp_path, write_photo):
    write_photo(tmp_path, "train/0/0/1/0013b757b18cc6f7.jpg", 1)
    with pytest.raises(DataError, match=r"`train\.csv` is missing"):
        read_catalog(tmp_path)


CATEGORIES = {
    "http://commons.wikimedia.org/wiki/Category:Mount_Si": "Mount Si",
    "http://commons.wikimedia.org/wiki/Category:Caf%C3%A9_de_Flore": "Café de Flore",
    "http://commons.wikimedia.org/wiki/Category:Belltown,_Seattle,_Washington": "Belltown, Seattle, Washington",
    "https://commons.wikimedia.org/wiki/Category:AC/DC_Lane": "AC/DC Lane",
    "Category:Lotus_(ship,_1909)": "Lotus (ship, 1909)",
    "Mount_Si": "Mount Si",
}


@pytest.mark.parametrize(("category", "name"), CATEGORIES.items())
def test_name_is_the_category_in_plain_words(category: str, name: str):
    assert name_category(category) == name


def test_names_fall_back_from_table_to_table(tmp_path, make_gldv2):
    # 5 is in landmarks.csv, 6 in the categories alone, 7 in the hierarchy alone, 8 in none of them.
    root: Path = make_gldv2(tmp_path / "d", {A: 5, B: 6, C: 7, "ddd0": 8}, names={5: "Five"})
    base = "http://commons.wikimedia.org/wiki/Category:"
    metadata = root / "metadata"
    (metadata / "train_label_to_category.csv").write_text(f"landmark_id,category\n5,{base}V\n6,{base}The_six\n")
    (metadata / "train_label_to_hierarchical.csv").write_text(
        "landmark_id,category,supercategory,hierarchical_label,natural_or_human_made\n"
        f"5,{base}V,bridge,bridge,human-made\n7,{base}Seven%21,church,church,human-made\n"
    )
    landmarks = read_catalog(root).landmarks
    assert landmarks["name"].to_list() == ["Five", "The six", "Seven!", "landmark 8"]
    assert landmarks["supercategory"].to_list() == ["bridge", None, "church", None]


def test_places_are_read_as_numbers(tmp_path, make_gldv2):
    root = make_gldv2(tmp_path / "d", {A: 5, B: 6})
    (root / "metadata/landmarks.csv").write_text(
        "landmark_id,name,supercategory,area_level,latitude,longitude\n5,Five,bridge,1,47.5,-122\n6,Six,,,,far away\n"
    )
    landmarks = read_catalog(root).landmarks
    assert landmarks.rows() == [(5, "Five", "bridge", 1, 47.5, -122.0), (6, "Six", None, None, None, None)]
    assert landmarks["latitude"].dtype == pl.Float64


hex_ids = st.text("0123456789abcdef", min_size=16, max_size=16)
any_ids = st.text("09afAFxé", min_size=1, max_size=17)


@given(st.lists(hex_ids, max_size=12) | st.lists(hex_ids | any_ids, max_size=12), st.data())
@settings(max_examples=150, deadline=None)
def test_rows_are_sorted_as_text_and_those_of_one_id_keep_their_order(ids: list[str], data):
    ids += data.draw(st.lists(st.sampled_from(ids), max_size=4)) if ids else []
    rows = pl.DataFrame({"image_id": ids, "row": range(len(ids))}, schema={"image_id": pl.String, "row": pl.Int64})
    expected = sorted(zip(ids, range(len(ids)), strict=True), key=lambda row: (row[0].encode(), row[1]))
    assert sort_by_id(rows).rows() == expected


LINKS = {
    "http://commons.wikimedia.org/wiki/Category:Smith_Tower,_Seattle": (
        "https://commons.wikimedia.org/wiki/Category:Smith_Tower,_Seattle"
    ),
    "https://commons.wikimedia.org/wiki/Category:%C3%89glise_(Paris)": (
        "https://commons.wikimedia.org/wiki/Category:%C3%89glise_(Paris)"
    ),
    "Category:Smith Tower": None,
    "http://commons.wikimedia.org/wiki/Category:A b": None,
    'http://commons.wikimedia.org/wiki/Category:A"onclick="x': None,
    "http://example.org/wiki/Category:A": None,
    "javascript:http://commons.wikimedia.org/wiki/Category:A": None,
    "": None,
    None: None,
}


@pytest.mark.parametrize(("category", "link"), LINKS.items())
def test_a_category_leads_to_its_page_at_commons_and_nowhere_else(category: str | None, link: str | None):
    assert link_category(category) == link
