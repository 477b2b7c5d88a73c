"""Who made the photos of a dataset: what its tables say, wherever they lie."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from obelisk.data import read_credits

PHOTOS = pl.Series(["a", "b", "c", "d"])


@pytest.mark.parametrize(
    ("name", "key"), [("attribution.csv", "image_id"), ("metadata/train_attribution.csv", "id")], ids=["ours", "GLDv2"]
)
def test_author_and_license_are_found_by_photo(tmp_path: Path, name: str, key: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'{key},author,license\na,"Ann, B.",CC BY 4.0\nb,,CC0\nc,,\nx,Eve,CC0\na,Bob,\n', encoding="utf-8")
    assert read_credits(tmp_path, PHOTOS) == {"a": ("Ann, B.", "CC BY 4.0"), "b": ("", "CC0")}


def test_a_long_author_is_cut_short(tmp_path: Path) -> None:
    (tmp_path / "attribution.csv").write_text(f"image_id,author\na,{'é' * 300}\n", encoding="utf-8")
    assert read_credits(tmp_path, PHOTOS) == {"a": ("é" * 200, "")}


def test_a_dataset_without_a_table_names_nobody(tmp_path: Path) -> None:
    assert read_credits(tmp_path, PHOTOS) == {}
