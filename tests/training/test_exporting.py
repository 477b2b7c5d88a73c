"""Exporting a run: what is checked, what is refused, and that a smaller network stays the same model."""

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from obelisk.config import Recipe
from obelisk.data import read_catalog
from obelisk.embedding import Bundle, Embedder, OnnxModel, write_bundle
from obelisk.embedding.activation_ranges import RANGES
from obelisk.errors import DataError, ModelError
from obelisk.evaluation.run_reader import Run
from obelisk.photos import prepare, read_photo
from obelisk.training.export import export_run as exporting
from obelisk.training.export.export_run import export_run
from obelisk.training.export.onnx import drop_logits
from obelisk.training.export.precision import PrecisionCheck, convert_precision, leave_one_out
from obelisk.training.export.restore import load_module
from obelisk.training.train import train_run


@pytest.fixture(scope="module")
def photos(tiny_dataset: Path) -> list[Path]:
    return sorted((tiny_dataset / "train").rglob("*.jpg"))


@pytest.mark.parametrize(("precision", "cosine"), [("fp32", 0.999999), ("fp16", 0.9999), ("int8", 0.99)])
def test_an_export_embeds_as_the_run_does(
    tiny_run: Run, photos: list[Path], tmp_path: Path, precision: str, cosine: float
) -> None:
    exported = export_run(tiny_run, tmp_path / "bundle", photos=photos, precision=precision)  # type: ignore[arg-type]
    bundle = Bundle.load(tmp_path / "bundle")
    assert exported.cosine >= 0.9999
    assert exported.photos == len(photos)
    assert bundle.manifest.precision == precision
    assert bundle.read_card() == tiny_run.bundle.read_card()
    assert (RANGES in bundle.manifest.files) == (exported.in_int8 is not None) == (precision == "int8")
    ours, theirs = Embedder(bundle), Embedder(tiny_run.bundle)
    for path in photos[:8]:
        row, other = ours.embed_one(path).embedding, theirs.embed_one(path).embedding
        assert row is not None
        assert other is not None
        assert float(row @ other) >= cosine


def test_an_export_takes_photos_of_another_size(tiny_run: Run, photos: list[Path], tmp_path: Path) -> None:
    size = 2 * tiny_run.recipe.photos.size
    exported = export_run(tiny_run, tmp_path / "bundle", photos=photos[:8], size=size)
    bundle = Bundle.load(tmp_path / "bundle")
    assert exported.cosine >= 0.9999
    assert bundle.members[0].size == size
    assert bundle.members[0].dimensions == tiny_run.bundle.members[0].dimensions
    pixels = prepare(read_photo(photos[0], min_side=size), bundle.members[0].input)
    with torch.inference_mode():
        expected = load_module(tiny_run)(torch.from_numpy(pixels)[None])[0].numpy()
    row = Embedder(bundle).embed_one(photos[0]).embedding
    assert row is not None
    assert float(row @ expected) >= 0.9999 * np.linalg.norm(row)


def test_a_run_whose_network_was_exchanged_is_refused(tiny_run: Run, photos: list[Path], tmp_path: Path) -> None:
    model = onnx.load_from_string(tiny_run.bundle.read_network(tiny_run.bundle.members[0]))
    largest = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    weights = numpy_helper.to_array(largest)
    noise = np.random.default_rng(0).normal(0, weights.std(), weights.shape)
    largest.CopyFrom(numpy_helper.from_array((weights + noise).astype(np.float32), largest.name))
    manifest = tiny_run.bundle.manifest.model_dump(exclude={"fingerprint"})
    write_bundle(tmp_path / "run" / "model", network=model.SerializeToString(), card="", **manifest)
    for name in ("recipe.toml", "run.json", "head.safetensors"):
        (tmp_path / "run" / name).write_bytes((tiny_run.folder / name).read_bytes())
    with pytest.raises(ModelError, match=r"differs from torch: cosine .* < 0.9999"):
        export_run(Run.open(tmp_path / "run"), tmp_path / "bundle", photos=photos)
    assert not (tmp_path / "bundle").exists()


def test_bad_photos_are_named_and_none_at_all_is_an_error(tiny_run: Run, photos: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_text("not a photo")
    exported = export_run(tiny_run, tmp_path / "bundle", photos=[*photos[:4], broken])
    assert exported.photos == 4
    assert len(exported.skipped) == 1
    with pytest.raises(DataError, match="none of 1 photos"):
        export_run(tiny_run, tmp_path / "other", photos=[broken])
    with pytest.raises(DataError, match="none of 0 photos"):
        export_run(tiny_run, tmp_path / "other", photos=[])


def test_only_a_bundle_is_replaced(tiny_run: Run, photos: list[Path], tmp_path: Path) -> None:
    taken = tmp_path / "thesis"
    taken.mkdir()
    (taken / "thesis.txt").write_text("mine")
    for place in (taken, taken / "thesis.txt"):
        with pytest.raises(ModelError, match="holds something other than a bundle"):
            export_run(tiny_run, place, photos=photos[:2])
    export_run(tiny_run, tmp_path / "bundle", photos=photos[:2])
    export_run(tiny_run, tmp_path / "bundle", photos=photos[:2], precision="fp16")
    assert Bundle.load(tmp_path / "bundle").manifest.precision == "fp16"


def test_activations_that_bear_no_rounding_stay_in_float(
    tiny_run: Run, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worse = PrecisionCheck(photos=4, cosine=0.98, top1=None, original_top1=None)
    real = exporting.compare_precisions
    checks = iter([real, lambda *asked: worse])
    monkeypatch.setattr(exporting, "compare_precisions", lambda *asked: next(checks)(*asked))
    exported = export_run(tiny_run, tmp_path / "bundle", photos=photos[:4], precision="int8")
    assert exported.in_int8 is None
    assert exported.bundle.manifest.precision == "int8"
    assert RANGES not in exported.bundle.manifest.files


# mean cosine, top-1, the original's, what the refusal says
CHECKS = {
    "good": (0.995, 0.90, 0.90, None),
    "half a point is allowed": (0.995, 0.895, 0.90, None),
    "without labels": (0.99, None, None, None),
    "cosine": (0.989, 0.90, 0.90, "mean cosine 0.9890 < 0.99"),
    "not a number": (float("nan"), 0.90, 0.90, "mean cosine nan"),
    "top-1": (0.995, 0.89, 0.90, "top-1 falls from 0.9000 to 0.8900"),
}


@pytest.mark.parametrize(("cosine", "top1", "original", "refusal"), CHECKS.values(), ids=CHECKS)
def test_what_changes_the_model_too_much_is_refused(
    cosine: float, top1: float | None, original: float | None, refusal: str | None
) -> None:
    check = PrecisionCheck(photos=10, cosine=cosine, top1=top1, original_top1=original)
    if refusal is None:
        check.refuse_worse("int8")
    else:
        with pytest.raises(ModelError, match=refusal):
            check.refuse_worse("int8")


def test_leave_one_out_agrees_with_a_double_loop() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(40, 5)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    landmarks = rng.integers(0, 12, 40)
    right = asked = 0
    for place in range(40):
        others = [other for other in range(40) if other != place]
        if all(landmarks[other] != landmarks[place] for other in others):
            continue
        asked += 1
        right += landmarks[max(others, key=lambda other: float(rows[place] @ rows[other]))] == landmarks[place]
    assert leave_one_out(rows, landmarks) == pytest.approx(right / asked)
    assert leave_one_out(rows[:3], np.array([1, 2, 3])) is None


def linear_network(weights: np.ndarray, op: str) -> bytes:
    nodes = {
        "MatMul": [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "Gemm": [helper.make_node("Gemm", ["x", "w"], ["y"])],
        "Gemm of transposed weights": [helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)],
    }[op]
    stored = weights.T if "transposed" in op else weights
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", weights.shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", weights.shape[1]])],
        [numpy_helper.from_array(np.ascontiguousarray(stored), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("op", ["MatMul", "Gemm", "Gemm of transposed weights"])
def test_int8_has_a_scale_for_each_output_channel(op: str) -> None:
    rng = np.random.default_rng(0)
    # Channels of very unlike size: one scale for all would lose the small ones.
    weights = (rng.normal(size=(128, 96)) * np.logspace(-4, 2, 96)).astype(np.float32)
    network = linear_network(weights, op)
    smaller = convert_precision(network, "int8")
    assert len(smaller) < 0.3 * len(network)
    rows = rng.normal(size=(16, 128)).astype(np.float32)
    exact, rounded = OnnxModel(network).run(rows), OnnxModel(smaller).run(rows)
    assert (np.abs(rounded - exact).max(axis=0) / np.abs(exact).max(axis=0)).max() < 0.02


def test_weights_that_float16_cannot_hold_stay_as_they_are() -> None:
    weights = np.full((16, 16), 1e5, np.float32)
    smaller = convert_precision(linear_network(weights, "MatMul"), "fp16")
    assert np.isfinite(OnnxModel(smaller).run(np.ones((1, 16), np.float32))).all()


def test_attachments_travel_along(tiny_run: Run, photos: list[Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    manifest = tiny_run.bundle.manifest.model_dump(exclude={"fingerprint"})
    network = tiny_run.bundle.read_network(tiny_run.bundle.members[0])
    write_bundle(run / "model", network=network, card="", attachments={"note.json": b"{}"}, **manifest)
    moved = dataclasses.replace(tiny_run, folder=run)
    (run / "head.safetensors").write_bytes((tiny_run.folder / "head.safetensors").read_bytes())
    assert export_run(moved, tmp_path / "out", photos=photos[:3]).bundle.read_attachment("note.json") == b"{}"


def test_a_network_without_its_layer_embeds_alike(tiny_recipe: Recipe, tiny_dataset: Path, tmp_path: Path) -> None:
    classifier = tiny_recipe.classifier.model_copy(update={"kind": "softmax"})
    recipe = tiny_recipe.model_copy(update={"classifier": classifier})
    run = train_run(recipe, read_catalog(tiny_dataset), tmp_path / "run")
    network = run.bundle.read_network(run.bundle.members[0])
    dropped = drop_logits(network)
    assert len(dropped) < len(network)
    assert drop_logits(dropped) == dropped
    pixels = np.random.default_rng(0).normal(size=(3, 3, 64, 64)).astype(np.float32)
    rows, logits = OnnxModel(network).classify(pixels)
    assert logits.shape == (3, 6)
    assert np.array_equal(OnnxModel(dropped).run(pixels), rows)
    with pytest.raises(ModelError, match="cannot be run"):
        OnnxModel(dropped).classify(pixels)


def test_a_layer_that_names_less_right_is_refused() -> None:
    check = PrecisionCheck(
        photos=200, cosine=0.999, top1=0.9, original_top1=0.9, layer_top1=0.8, original_layer_top1=0.81
    )
    with pytest.raises(ModelError, match=r"top-1 of the softmax layer falls from 0\.8100 to 0\.8000"):
        check.refuse_worse("int8")
