"""Who made the photos of a dataset: what its tables say, wherever they lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from obelisk.data import Attribution


@pytest.mark.parametrize(
    ("name", "key"), [("attribution.csv", "image_id"), ("metadata/train_attribution.csv", "id")], ids=["ours", "GLDv2"]
)
def test_author_and_license_are_found_by_photo(tmp_path: Path, name: str, key: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'{key},author,license\na,"Ann, B.",CC BY 4.0\nb,,CC0\nc,,\n', encoding="utf-8")
    attribution = Attribution(tmp_path)
    assert [attribution.of(photo) for photo in ("a", "b", "c", "d")] == ["Ann, B., CC BY 4.0", "CC0", "", ""]


def test_a_dataset_without_a_table_names_nobody(tmp_path: Path) -> None:
    assert Attribution(tmp_path).of("a") == ""
