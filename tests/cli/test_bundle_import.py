"""``obelisk bundle import``: networks as other code exports them, and what no bundle can hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper
from PIL import Image

from obelisk.embedding import Bundle, Embedder
from obelisk.photos import prepare, read_photo

Outcome = tuple[int, str, str]
SIZE, PATCH, WIDTH = 56, 14, 12
NORM = ("--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225", "--licence", "MIT")


def constants(**arrays: object) -> list[TensorProto]:
    return [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]


def save(
    path: Path,
    nodes: Sequence[NodeProto],
    outputs: dict[str, list[int | str]],
    weights: Sequence[TensorProto],
    *,
    shape: Sequence[int | str] = ("batch", 3, SIZE, SIZE),
    opsets: dict[str, int] | None = None,
    kind: int = TensorProto.FLOAT,
    inputs: Sequence[str] = (),
) -> Path:
    """Write a network of the input ``pixel_values``, unchecked: some of these are meant to be wrong."""
    given = [helper.make_tensor_value_info("pixel_values", kind, list(shape))]
    given += [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", WIDTH]) for name in inputs]
    found = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sides) for name, sides in outputs.items()]
    graph = helper.make_graph(list(nodes), "main_graph", given, found, list(weights))
    imports = [helper.make_opsetid(domain, version) for domain, version in (opsets or {"": 17}).items()]
    path.write_bytes(helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString())
    return path


def tokens(
    path: Path, *, registers: int = 0, batch: int | str = "batch", sides: Sequence[int | str] = ("height", "width")
) -> Path:
    """Write a network shaped as DINOv2 is exported: ``last_hidden_state`` (N, 1 + 16, C), ``pooler_output`` (N, C)."""
    rng = np.random.default_rng(0)
    weights = constants(
        kernel=rng.normal(size=(WIDTH, 3, PATCH, PATCH)).astype(np.float32),
        cls=rng.normal(size=(1, 1 + registers, WIDTH)).astype(np.float32),
        gamma=np.ones(WIDTH, np.float32),
        mix=rng.normal(size=(WIDTH, WIDTH)).astype(np.float32),
        flat=np.array([0, WIDTH, -1]),
        ends=np.array([1 + registers, WIDTH]),
        zero=np.int64(0),
        embedding=np.float32(0.5),  # a name that bundles use themselves
    )
    nodes = [
        helper.make_node("Conv", ["pixel_values", "kernel"], ["maps"], kernel_shape=[PATCH] * 2, strides=[PATCH] * 2),
        helper.make_node("Reshape", ["maps", "flat"], ["channels"]),
        helper.make_node("Transpose", ["channels"], ["grid"], perm=[0, 2, 1]),
        helper.make_node("Shape", ["pixel_values"], ["n"], start=0, end=1),
        helper.make_node("Concat", ["n", "ends"], ["wanted"], axis=0),
        helper.make_node("Expand", ["cls", "wanted"], ["prefix"]),
        helper.make_node("ReduceMean", ["grid"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["mean", "embedding"], ["half"]),
        helper.make_node("Add", ["prefix", "half"], ["first"]),
        helper.make_node("Concat", ["first", "grid"], ["sequence"], axis=1),
        helper.make_node("MatMul", ["sequence", "mix"], ["mixed"]),
        helper.make_node("LayerNormalization", ["mixed", "gamma"], ["last_hidden_state"], axis=-1),
        helper.make_node("Gather", ["last_hidden_state", "zero"], ["pooler_output"], axis=1),
    ]
    outputs: dict[str, list[int | str]] = {
        "last_hidden_state": ["batch", "sequence_length", WIDTH],
        "pooler_output": ["batch", WIDTH],
    }
    return save(path, nodes, outputs, weights, shape=(batch, 3, *sides))


def convolution(path: Path, **changed: object) -> Path:
    """Write a small convolutional network whose output is its map."""
    kernel = np.random.default_rng(1).normal(size=(WIDTH, 3, 8, 8)).astype(np.float32)
    nodes = [helper.make_node("Conv", ["pixel_values", "kernel"], ["embeddings"], kernel_shape=[8, 8], strides=[8, 8])]
    return save(path, nodes, {"embeddings": ["batch", WIDTH, 7, 7]}, constants(kernel=kernel), **changed)  # type: ignore[arg-type]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(5)
    for number in range(40):
        cells = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        Image.fromarray(cells).resize((80, 64), Image.Resampling.BICUBIC).save(folder / f"{number:02}.png")
    return folder


def run_given(model: Path, output: str, photo: Path, bundle: Bundle) -> np.ndarray:
    """Return an output of the network as its maker would run it."""
    pixels = prepare(read_photo(photo), bundle.input)[np.newaxis]
    session = onnxruntime.InferenceSession(model.read_bytes(), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run([output], {session.get_inputs()[0].name: pixels})[0]
    return found[0]


def unit(row: np.ndarray) -> np.ndarray:
    return np.asarray(row / np.linalg.norm(row))


POOLINGS = {
    "the network's own": (("--output", "pooler_output"), lambda rows: unit(rows[0])),
    "class token": (("--output", "last_hidden_state"), lambda rows: unit(rows[0])),
    "average": (("--output", "last_hidden_state", "--pooling", "avg"), lambda rows: unit(rows[1:].mean(axis=0))),
    "GeM": (
        ("--output", "last_hidden_state", "--pooling", "gem"),
        lambda rows: unit((rows[1:].clip(1e-6) ** 3).mean(axis=0) ** (1 / 3)),
    ),
    "both": (
        ("--output", "last_hidden_state", "--pooling", "cls+gem"),
        lambda rows: unit(np.concatenate([unit(rows[0]), unit((rows[1:].clip(1e-6) ** 3).mean(axis=0) ** (1 / 3))])),
    ),
}


@pytest.mark.parametrize(("words", "expected"), POOLINGS.values(), ids=POOLINGS)
def test_a_transformer_embeds_as_its_maker_runs_it(
    obelisk: Callable[..., Outcome],
    tmp_path: Path,
    photos: Path,
    words: tuple[str, ...],
    expected: Callable[[np.ndarray], np.ndarray],
) -> None:
    model = tokens(tmp_path / "dinov2.onnx")
    out = tmp_path / "bundle"
    code, shown, err = obelisk("bundle", "import", model, "--out", out, "--size", SIZE, *NORM, *words)
    assert (code, shown.strip()) == (0, str(out)), err
    bundle = Bundle.load(out)
    embedder = Embedder(bundle)
    for photo in sorted(photos.iterdir())[:3]:
        row = embedder.embed_one(photo).embedding
        wanted = expected(run_given(model, "last_hidden_state", photo, bundle))
        np.testing.assert_allclose(row, wanted, atol=1e-5)
        maps = embedder.features(photo)
        assert maps is not None
        grid = run_given(model, "last_hidden_state", photo, bundle)[1:]
        np.testing.assert_allclose(maps, grid.T.reshape(WIDTH, 4, 4), atol=1e-5)
    assert bundle.manifest.licence == "MIT"
    assert "dinov2.onnx" in bundle.read_card()
    assert "one photo at a time" not in err


def test_an_imported_model_makes_a_gallery_and_answers(
    obelisk: Callable[..., Outcome], tmp_path: Path, tiny_dataset: Path
) -> None:
    model = tokens(tmp_path / "dinov2.onnx", registers=4)
    words = ("--output", "last_hidden_state", "--size", SIZE, "--whiten", tiny_dataset / "train")
    code, _, err = obelisk("bundle", "import", model, "--out", tmp_path / "bundle", *NORM, *words)
    assert code == 0, err
    assert "whitened over 60 photos" in err
    bundle = Bundle.load(tmp_path / "bundle")
    assert bundle.manifest.whitening
    assert bundle.dimensions <= WIDTH
    code, _, err = obelisk("gallery", "build", tmp_path / "g", "--data", tiny_dataset, "--model", tmp_path / "bundle")
    assert code == 0, err
    photo = next((tiny_dataset / "train").rglob("*.jpg"))
    code, shown, err = obelisk("recognize", photo, "--gallery", tmp_path / "g", "--threshold", 0, "--json")
    assert code == 0, err
    assert json.loads(shown)["neighbours"][0]["similarity"] == pytest.approx(1.0, abs=1e-4)


def test_a_configuration_beside_it_says_how_photos_are_prepared(
    obelisk: Callable[..., Outcome], tmp_path: Path
) -> None:
    (tmp_path / "onnx").mkdir()
    model = tokens(tmp_path / "onnx" / "model.onnx")
    fields = {"crop_size": {"height": SIZE, "width": SIZE}, "do_center_crop": True, "size": {"shortest_edge": 64}}
    norm = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.1], "rescale_factor": 1 / 127.5}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(fields | norm))
    words = ("--output", "pooler_output", "--licence", "Apache-2.0")
    code, _, err = obelisk("bundle", "import", model, "--out", tmp_path / "bundle", *words)
    assert code == 0, err
    rule = Bundle.load(tmp_path / "bundle").input
    assert (rule.size, rule.resize) == (SIZE, "crop")
    assert rule.mean == pytest.approx((0.25, 0.2, 0.15))
    assert rule.std == pytest.approx((0.1, 0.1, 0.05))
    (tmp_path / "preprocessor_config.json").write_text('{"size": {"height": 4, "width": 5}}')
    code, _, err = obelisk("bundle", "import", model, "--out", tmp_path / "other", *words)
    assert code == 2
    assert "not square" in err


def test_channels_last_half_precision_and_one_photo_at_a_time(
    obelisk: Callable[..., Outcome], tmp_path: Path, photos: Path
) -> None:
    nodes = [
        helper.make_node("Transpose", ["pixel_values"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["first"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("AveragePool", ["wide"], ["means"], kernel_shape=[14, 14], strides=[14, 14]),
        helper.make_node("Reshape", ["means", "row"], ["vector"]),
    ]
    shape, kind = (1, SIZE, SIZE, 3), TensorProto.FLOAT16
    weights = constants(row=np.array([1, 48]))
    model = save(tmp_path / "tf.onnx", nodes, {"vector": [1, 48]}, weights, shape=shape, kind=kind)
    code, _, err = obelisk("bundle", "import", model, "--out", tmp_path / "bundle", *NORM, "--photos", photos)
    assert code == 0, err
    assert "one photo at a time" in err
    bundle = Bundle.load(tmp_path / "bundle")
    photo = next(photos.iterdir())
    pixels = prepare(read_photo(photo), bundle.input).astype(np.float16).astype(np.float32)
    expected = unit(pixels.reshape(3, 4, 14, 4, 14).mean(axis=(2, 4)).ravel())
    np.testing.assert_allclose(Embedder(bundle).embed_one(photo).embedding, expected, atol=1e-4)


def looped(path: Path) -> Path:
    branch = helper.make_graph([], "branch", [], [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])])
    nodes = [helper.make_node("If", ["yes"], ["vector"], then_branch=branch, else_branch=branch)]
    return save(path, nodes, {"vector": ["batch", WIDTH]}, constants(yes=np.bool_(1)))


def external(path: Path) -> Path:
    convolution(path)
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def pointwise(operator: str, path: Path, **attributes: object) -> Path:
    """Write a network that pools its photos after one more operation, which spoils them."""
    domain = attributes.pop("domain", "")
    nodes = [
        helper.make_node(operator, ["pixel_values"], ["spoilt"], domain=domain, **attributes),
        helper.make_node("GlobalAveragePool", ["spoilt"], ["vector"]),
    ]
    return save(path, nodes, {"vector": ["batch", 3, 1, 1]}, [], opsets={"": 17, "maker.ops": 1})


def blind(path: Path) -> Path:
    nodes = [
        helper.make_node("GlobalAveragePool", ["pixel_values"], ["mean"]),
        helper.make_node("Mul", ["mean", "nothing"], ["none"]),
        helper.make_node("Add", ["none", "one"], ["vector"]),
    ]
    return save(path, nodes, {"vector": ["batch", 3, 1, 1]}, constants(nothing=np.float32(0), one=np.float32(1)))


REFUSED: dict[str, tuple[Callable[[Path], Path], tuple[object, ...], str]] = {
    "two outputs": (tokens, ("--size", SIZE), "has 2 outputs: last_hidden_state (batch, sequence_length, 12), pooler_"),
    "a mistyped output": (tokens, ("--output", "pooler_outptu"), "did you mean `pooler_output`?"),
    "any size": (tokens, ("--output", "pooler_output"), "takes photos of any size"),
    "another size": (convolution, ("--size", 64), "--size 64, but the network takes photos of 56 pixels"),
    "a size that fails": (lambda path: tokens(path, sides=("h", "w")), ("--output", "pooler_output", "--size", 10),
                          "cannot embed photos of 10 pixels"),
    "no class token": (convolution, ("--pooling", "cls"), "a feature map has no class token"),
    "pooled already": (tokens, ("--output", "pooler_output", "--size", SIZE, "--pooling", "avg"), "is pooled already"),
    "no square grid": (lambda path: tokens(path, registers=19), ("--output", "last_hidden_state", "--size", SIZE),
                       "36 tokens are no square grid"),
    "weights elsewhere": (external, (), "keeps its weights in another file"),
    "control flow": (looped, (), "control flow (`If`)"),
    "an operator of its maker": (lambda path: pointwise("Wobble", path, domain="maker.ops"), (),
                                 "operators that only its maker has: Wobble of `maker.ops`"),
    "not finite": (lambda path: pointwise("Log", path), (), "numbers that are not finite"),
    "never the same": (lambda path: pointwise("RandomNormalLike", path), (), "another embedding each time"),
    "blind": (blind, (), "the same embedding for 8 unlike photos"),
    "not square": (lambda path: convolution(path, shape=("batch", 3, 56, 112)), (), "shape (batch, 3, 56, 112)"),
    "bytes": (lambda path: convolution(path, kind=TensorProto.UINT8), (), "takes uint8, not normalized photos"),
    "no network": (lambda path: path.write_bytes(b"no") and path, (), "damaged or cut off"),
    "no file": (lambda path: path, (), "no such network"),
}  # fmt: skip


@pytest.mark.parametrize(("write", "words", "message"), REFUSED.values(), ids=REFUSED)
def test_what_no_bundle_can_hold_is_refused(
    obelisk: Callable[..., Outcome],
    tmp_path: Path,
    write: Callable[[Path], Path],
    words: tuple[object, ...],
    message: str,
) -> None:
    model = write(tmp_path / "model.onnx")
    code, shown, err = obelisk("bundle", "import", model, "--out", tmp_path / "bundle", *NORM, *words)
    assert (code, shown) == (2, ""), err
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "bundle").exists()


def test_what_is_not_given_is_asked_for(obelisk: Callable[..., Outcome], tmp_path: Path) -> None:
    model, out = convolution(tmp_path / "model.onnx"), tmp_path / "bundle"
    code, _, err = obelisk("bundle", "import", model, "--out", out)
    assert (code, "--licence Apache-2.0" in err) == (2, True)
    code, _, err = obelisk("bundle", "import", model, "--out", out, "--licence", "MIT")
    assert (code, "give --mean and --std" in err) == (2, True)
    code, _, err = obelisk("bundle", "import", model, "--out", out, "--licence", "MIT", "--mean", "1,2", "--std", "1")
    assert (code, "give three numbers, --mean 0.5,0.5,0.5" in err) == (2, True)


def test_inputs_that_an_output_does_not_need_are_left_out(obelisk: Callable[..., Outcome], tmp_path: Path) -> None:
    nodes = [
        helper.make_node("GlobalAveragePool", ["pixel_values"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["image_embeds"]),
        helper.make_node("Mul", ["words", "words"], ["text_embeds"]),
        helper.make_node("Concat", ["image_embeds", "text_embeds"], ["both"], axis=1),
    ]
    outputs: dict[str, list[int | str]] = {"image_embeds": ["batch", 3], "both": ["batch", 3 + WIDTH]}
    model = save(tmp_path / "clip.onnx", nodes, outputs, [], inputs=["words"])
    code, _, err = obelisk("bundle", "import", model, "--out", tmp_path / "bundle", *NORM, "--output", "image_embeds")
    assert code == 0, err
    code, _, err = obelisk("bundle", "import", model, "--out", tmp_path / "other", *NORM, "--output", "both")
    assert code == 2
    assert "has 2 inputs, not one: pixel_values, words" in err
