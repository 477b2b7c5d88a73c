"""The attachments that say what decides: what they hold, and what a damaged one gets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from obelisk.defaults import VOTE, K
from obelisk.embedding import (
    CLASSIFIER,
    LAYER,
    Bundle,
    BundleClassifier,
    Embedder,
    LayerLandmarks,
    read_classifier,
    read_layer,
    write_bundle,
)
from obelisk.errors import ModelError
from obelisk.recognition import find_classifier


def write(folder: Path, network: bytes = b"none", **attachments: bytes) -> Bundle:
    return write_bundle(
        folder,
        network=network,
        card="",
        attachments={{"classifier": CLASSIFIER, "layer": LAYER}[name]: text for name, text in attachments.items()},
        name="none",
        size=8,
        resize="crop",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        dimensions=4,
        licence="MIT",
        data="none",
    )


def test_a_bundle_without_them_is_decided_by_the_defaults(tmp_path: Path) -> None:
    bundle = write(tmp_path / "bundle")
    assert read_classifier(bundle) is None
    assert read_layer(bundle) is None
    assert find_classifier(bundle) == BundleClassifier(kind="knn", k=K, vote=VOTE)


def test_what_is_packed_is_read_and_leaves_the_fingerprint(tmp_path: Path) -> None:
    said = BundleClassifier(kind="softmax", k=7, vote="majority")
    listed = LayerLandmarks(landmarks=(30, 10, 2**53), names=("Dome", "Arch", "Dome"))
    bundle = write(tmp_path / "bundle", classifier=said.pack(), layer=listed.pack())
    copy = bundle.save_to(tmp_path / "copy")
    layer = read_layer(copy)
    assert read_classifier(copy) == find_classifier(copy) == said
    assert layer == listed
    assert layer.ids.tolist() == [30, 10, 2**53]
    assert bundle.fingerprint == write(tmp_path / "plain").fingerprint


BAD_CLASSIFIERS = {
    "not JSON": (b"knn", "unreadable `classifier.json`"),
    "a newer format": (b'{"format": 2}', "format"),
    "an unknown kind": (b'{"kind": "forest"}', "kind"),
    "no neighbours": (b'{"k": 0}', "k"),
    "an unknown key": (b'{"weights": []}', "weights"),
    "an unknown vote": (b'{"vote": "best"}', "unknown vote `best`"),
}


@pytest.mark.parametrize(("text", "said"), BAD_CLASSIFIERS.values(), ids=BAD_CLASSIFIERS)
def test_a_damaged_classifier_is_refused(tmp_path: Path, text: bytes, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        find_classifier(write(tmp_path / "bundle", classifier=text))


def test_a_layer_knows_landmarks_by_id_and_name() -> None:
    named = LayerLandmarks(landmarks=(30, 10), names=("Dome", "Cafe\u0301"))
    assert named.knows(30, "Dome")
    assert named.knows(10, "Caf\u00e9")  # names are compared in NFC
    assert not named.knows(10, "Dome")
    assert not named.knows(20, "Dome")
    assert not named.knows(20, "")
    nameless = LayerLandmarks(landmarks=(30, 10))
    assert nameless.knows(10, "Dome")
    assert not nameless.knows(20, "")


BAD_LAYERS = {
    "not JSON": b"[1",
    "no landmark": b'{"landmarks": []}',
    "a landmark twice": b'{"landmarks": [3, 3]}',
    "a name": b'{"landmarks": ["Dome"]}',
    "a name too few": b'{"landmarks": [3, 4], "names": ["Dome"]}',
    "an id too large": b'{"landmarks": [36893488147419103232]}',
}


@pytest.mark.parametrize("text", BAD_LAYERS.values(), ids=BAD_LAYERS)
def test_a_damaged_layer_is_refused(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(ModelError):
        read_layer(write(tmp_path / "bundle", layer=text))


def give_logits(*last: str, **options: int) -> bytes:
    """Return a network that embeds photos of 8 pixels, and makes its logits from 3 numbers by a last operation."""
    weights = {"w": np.ones((192, 4), np.float32), "v": np.ones((192, 3), np.float32)}
    nodes = [
        helper.make_node("Flatten", ["photos"], ["row"]),
        helper.make_node("MatMul", ["row", "w"], ["embedding"]),
        helper.make_node("MatMul", ["row", "v"], ["scores"]),
        helper.make_node(*last, ["scores"], ["logits"], **options),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("photos", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", 4]),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, None),
        ],
        [numpy_helper.from_array(tensor, name) for name, tensor in weights.items()],
    )
    opset = helper.make_opsetid("", 13)
    return bytes(helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString())


WRONG_LOGITS = {
    "too many": (give_logits("Identity"), (30, 10), r"\(1, 3\), not \(1, 2\)"),
    "too few": (give_logits("Identity"), (1, 2, 3, 4), r"\(1, 3\), not \(1, 4\)"),
    "a single number": (give_logits("ReduceSum", keepdims=0), (1, 2, 3), r"\(\), not \(1, 3\)"),
}


@pytest.mark.parametrize(("network", "landmarks", "said"), WRONG_LOGITS.values(), ids=WRONG_LOGITS)
def test_logits_that_do_not_fit_the_layer_are_refused(
    tmp_path: Path, network: bytes, landmarks: tuple[int, ...], said: str
) -> None:
    bundle = write(tmp_path / "bundle", network, layer=LayerLandmarks(landmarks=landmarks).pack())
    embedder = Embedder(bundle, runtime="onnxruntime", logits=True)
    with pytest.raises(ModelError, match=f"logits of shape {said}"):
        embedder.classify_image(Image.new("RGB", (8, 8)))
