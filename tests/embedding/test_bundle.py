"""Bundles on disk: old formats, attachments, several networks, and what does not change a fingerprint."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from obelisk.embedding import Bundle, Embedder, Member, write_bundle
from obelisk.errors import ModelError
from obelisk.photos import prepare, read_photo

GOLDEN = Path(__file__).parent / "golden"
WriteBundle = Callable[..., Bundle]


def color_grid(bundle: Bundle, photo: Path) -> np.ndarray[Any, Any]:
    """Compute in NumPy what the golden bundles' network sees."""
    pixels = prepare(read_photo(photo), bundle.input)
    row = pixels.reshape(3, 4, 8, 4, 8).mean(axis=(2, 4)).ravel()
    return np.asarray(row / np.linalg.norm(row))


# Format, the fingerprint that galleries hold, the precision, what is attached.
GOLDEN_BUNDLES = {
    "format-1": ("addbfb0a7d1025dba182bbb787fc8428", "fp32", None),
    "format-2": ("addbfb0a7d1025dba182bbb787fc8428", "fp32", b"kept as it is\n"),
}


@pytest.mark.parametrize("name", GOLDEN_BUNDLES)
def test_bundles_of_every_format_still_load(name: str, photo: Path) -> None:
    fingerprint, precision, attached = GOLDEN_BUNDLES[name]
    bundle = Bundle.load(GOLDEN / name)
    assert bundle.fingerprint == fingerprint
    assert bundle.manifest.precision == precision
    assert bundle.read_attachment("note.txt") == attached
    row = Embedder(bundle).embed_one(photo).embedding
    assert row is not None
    assert np.allclose(row, color_grid(bundle, photo), atol=1e-6)


def test_what_is_written_today_is_the_newest_golden_bundle(write: WriteBundle) -> None:
    network = (GOLDEN / "format-1" / "model.onnx").read_bytes()
    bundle = write("colours", network, card="# Colours\n", attachments={"note.txt": b"kept as it is\n"})
    for path in (GOLDEN / "format-2").iterdir():
        assert (bundle.folder / path.name).read_bytes() == path.read_bytes(), path.name


def test_attachments_change_no_fingerprint_and_travel_along(write: WriteBundle, tmp_path: Path) -> None:
    plain = write("plain")
    bundle = write("attached", attachments={"background.npy": b"rows", "calibration.json": b"{}"})
    assert plain.fingerprint == bundle.fingerprint
    assert plain.read_attachment("background.npy") is None
    copy = bundle.save_to(tmp_path / "copy")
    assert Bundle.load(copy.folder).manifest == bundle.manifest
    assert copy.read_attachment("background.npy") == b"rows"
    again = write("attached", attachments={"calibration.json": b"[]"})
    assert again.read_attachment("calibration.json") == b"[]"
    assert not (again.folder / "background.npy").exists()


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_bundle_with_a_damaged_attachment_is_not_copied(write: WriteBundle, tmp_path: Path, damage: str) -> None:
    bundle = write("attached", attachments={"calibration.json": b"{}"})
    place = bundle.folder / "calibration.json"
    place.write_bytes(b"[]") if damage == "changed" else place.unlink()
    with pytest.raises(ModelError, match=r"`calibration.json` (was changed|is missing)"):
        bundle.save_to(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_damaged_attachment_is_refused_and_the_bundle_still_embeds(
    write: WriteBundle, photo: Path, damage: str
) -> None:
    bundle = write(attachments={"background.npy": b"rows"})
    path = bundle.folder / "background.npy"
    path.unlink() if damage == "missing" else path.write_bytes(b"other rows")
    bundle = Bundle.load(bundle.folder)
    with pytest.raises(ModelError, match=rf"`background.npy` (is|was) {damage}"):
        bundle.read_attachment("background.npy")
    assert Embedder(bundle).embed_one(photo).embedding is not None


def write_pair(folder: Path, grids: tuple[bytes, bytes], weights: tuple[float, float]) -> Bundle:
    rules = [
        {"file": "fine.onnx", "size": 32, "resize": "squash", "dimensions": 48},
        {"file": "coarse.onnx", "size": 48, "resize": "crop", "dimensions": 12},
    ]
    norm = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    members = [Member.model_validate({**rule, **norm, "weight": w}) for rule, w in zip(rules, weights, strict=True)]
    return write_bundle(
        folder,
        network={"fine.onnx": grids[0], "coarse.onnx": grids[1]},
        members=members,
        card="# Pair\n",
        name="pair",
        dimensions=60,
        licence="MIT",
        data="none",
    )


def test_the_cosine_of_an_ensemble_is_the_weighted_mean_of_its_members(
    tmp_path: Path, grids: tuple[bytes, bytes], photo: Path, other_photo: Path
) -> None:
    pair = Bundle.load(write_pair(tmp_path / "pair", grids, (3.0, 1.0)).folder)
    assert [member.file for member in pair.members] == ["fine.onnx", "coarse.onnx"]
    assert pair.input.size == 32
    embedder = Embedder(pair)
    first, second = (embedder.embed_one(path).embedding for path in (photo, other_photo))
    assert first is not None
    assert second is not None
    assert np.linalg.norm(first) == pytest.approx(1.0, abs=1e-6)
    fine = first[:48] @ second[:48] / (np.linalg.norm(first[:48]) * np.linalg.norm(second[:48]))
    coarse = first[48:] @ second[48:] / (np.linalg.norm(first[48:]) * np.linalg.norm(second[48:]))
    assert first @ second == pytest.approx(0.75 * fine + 0.25 * coarse, abs=1e-5)


def test_an_ensemble_is_copied_whole_and_its_weights_are_part_of_it(tmp_path: Path, grids: tuple[bytes, bytes]) -> None:
    pair = write_pair(tmp_path / "pair", grids, (3.0, 1.0))
    assert Bundle.load(pair.save_to(tmp_path / "copy").folder).fingerprint == pair.fingerprint
    assert write_pair(tmp_path / "even", grids, (1.0, 1.0)).fingerprint != pair.fingerprint
    assert write_pair(tmp_path / "swapped", (grids[1], grids[0]), (3.0, 1.0)).fingerprint != pair.fingerprint


def test_a_bundle_of_one_network_says_nothing_of_members(write: WriteBundle) -> None:
    fields = json.loads((write().folder / "bundle.json").read_text())
    assert "members" not in fields
    assert "files" not in fields


def test_a_file_in_the_bundles_place_is_left_alone(tmp_path: Path, write: WriteBundle) -> None:
    (tmp_path / "bundle").write_text("mine")
    with pytest.raises(OSError, match="bundle"):
        write()
    assert (tmp_path / "bundle").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
