"""Smaller networks: weights kept as float16 or int8, computed with in float32, and checked against the original.

A weight is stored in few bits, followed by the operations that bring it back to float32. Runtimes do these once,
when they load the network; from then on it computes as the original does, at the same speed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from obelisk.arrays import Integers, l2_normalize, paired_cosines
from obelisk.embedding import OnnxModel, Precision
from obelisk.errors import ModelError
from obelisk.photos import ModelInput, map_in_order, prepare, read_photo

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto

SMALLEST_MEAN_COSINE = 0.99
LARGEST_FALL = 0.005 + 1e-9  # of top-1; a photo more or less is no exact fraction

LARGEST_HALF = 65_504.0
FEW_WEIGHTS = 64  # biases and constants below this save nothing
# Layers of fewer weights stand early in a network, where errors are carried far, and hold little of its size.
SMALLEST_INT8_LAYER = 10_000


def convert_precision(network: bytes, precision: Precision) -> bytes:
    """Return a serialized ONNX graph whose weights are kept in another precision; its inputs and outputs stay.

    ``fp16`` halves the size. ``int8`` quarters it: weights of large layers are rounded to 255 levels per channel, the
    others (small and depthwise layers, biases) are kept as float16. Equal graphs give equal bytes.
    """
    import onnx

    if precision == "fp32":
        return network
    model = onnx.load_from_string(network)
    axes = output_axes(model.graph.node) if precision == "int8" else {}
    kept: list[TensorProto] = []
    restored: list[NodeProto] = []
    for tensor in model.graph.initializer:
        weights = onnx.numpy_helper.to_array(tensor)
        if weights.dtype != np.float32 or weights.size < FEW_WEIGHTS:
            kept.append(tensor)
        elif tensor.name in axes and weights.size >= SMALLEST_INT8_LAYER and not is_depthwise(weights):
            add_int8(tensor.name, weights, axes[tensor.name], kept, restored)
        elif np.abs(weights).max() <= LARGEST_HALF:
            kept.append(onnx.numpy_helper.from_array(weights.astype(np.float16), f"{tensor.name}_half"))
            restored.append(to_float32(kept[-1].name, tensor.name))
        else:
            kept.append(tensor)
    nodes = [*restored, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    serialized: bytes = model.SerializeToString(deterministic=True)
    return serialized


def output_axes(nodes: Sequence[NodeProto]) -> dict[str, int]:
    """Return, for the weights of each convolution and linear layer, the axis of its output channels."""
    axes = {}
    for node in nodes:
        if node.op_type == "Gemm":
            transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
            axes[node.input[1]] = 0 if transposed else 1
        elif node.op_type in ("Conv", "MatMul"):
            axes[node.input[1]] = 0 if node.op_type == "Conv" else -1
    return axes


def is_depthwise(weights: NDArray[np.float32]) -> bool:
    """Return whether these are the weights (C, 1, h, w) of a convolution that keeps channels apart."""
    return weights.ndim == 4 and weights.shape[1] == 1


def add_int8(
    name: str, weights: NDArray[np.float32], axis: int, kept: list[TensorProto], restored: list[NodeProto]
) -> None:
    """Keep weights as ``round(w / s)`` in int8 with one s per channel of the axis, ``s = max|w| / 127``."""
    from onnx import helper, numpy_helper

    others = tuple(other for other in range(weights.ndim) if other != axis % weights.ndim)
    scales = np.abs(weights).max(axis=others, keepdims=True) / np.float32(127)
    scales[scales == 0] = 1
    levels = np.rint(weights / scales).astype(np.int8)
    kept.append(numpy_helper.from_array(levels, f"{name}_levels"))
    kept.append(numpy_helper.from_array(scales, f"{name}_scales"))
    restored.append(to_float32(f"{name}_levels", f"{name}_unscaled"))
    restored.append(helper.make_node("Mul", [f"{name}_unscaled", f"{name}_scales"], [name]))


def to_float32(stored: str, name: str) -> NodeProto:
    """Return the operation that brings stored weights back under their name."""
    from onnx import TensorProto, helper

    return helper.make_node("Cast", [stored], [name], to=TensorProto.FLOAT)


@dataclass(frozen=True, kw_only=True, eq=False)
class ComparedPhotos:
    """Photos on which two networks are compared, with the rule that makes them their input.

    ``landmarks`` (N,) label the photos where they are known; ``layer`` (C,) are those of a softmax layer's columns.
    """

    paths: Sequence[Path]
    rule: ModelInput
    landmarks: Integers | None = None
    layer: Integers | None = None


@dataclass(frozen=True, kw_only=True)
class PrecisionCheck:
    """How far a smaller network is from its original, on photos.

    ``cosine`` is the mean over the photos; ``top1`` and ``original_top1`` the shares of labelled photos whose
    nearest other photo shows the same landmark, ``layer_top1`` and ``original_layer_top1`` of those that the softmax
    layer names right; None without labels, or without a layer.
    """

    photos: int
    cosine: float
    top1: float | None
    original_top1: float | None
    layer_top1: float | None = None
    original_layer_top1: float | None = None

    def refuse_worse(self, precision: Precision) -> None:
        """Raise ModelError when the mean cosine is under 0.99, or a top-1 fell by more than 0.5 points."""
        fix = "export it with --precision fp16 or fp32"
        if not self.cosine >= SMALLEST_MEAN_COSINE:
            what = f"mean cosine {self.cosine:.4f} < {SMALLEST_MEAN_COSINE} to the original"
            raise ModelError(f"{precision} changes the model too much: {what}", fix=fix)
        falls = {
            "top-1": (self.original_top1, self.top1),
            "top-1 of the softmax layer": (self.original_layer_top1, self.layer_top1),
        }
        for what, (before, after) in falls.items():
            if before is not None and after is not None and before - after > LARGEST_FALL:
                fall = f"{what} falls from {before:.4f} to {after:.4f}"
                raise ModelError(f"{precision} changes the model too much: {fall}", fix=fix)


def compare_precisions(original: bytes, smaller: bytes, photos: ComparedPhotos) -> PrecisionCheck:
    """Embed photos with two networks, and compare what they give."""
    models = OnnxModel(original), OnnxModel(smaller)

    def embed(path: Path) -> list[list[NDArray[np.float32]]]:
        pixels = prepare(read_photo(path, min_side=photos.rule.size), photos.rule)[np.newaxis]
        if photos.layer is None:
            return [[model.run(pixels)[0]] for model in models]
        return [[rows[0] for rows in model.classify(pixels)] for model in models]

    both = zip(*map_in_order(embed, photos.paths), strict=True)
    (rows, *logits), (others, *other_logits) = ([np.stack(column) for column in zip(*one, strict=True)] for one in both)
    rows, others = l2_normalize(rows, strict=False), l2_normalize(others, strict=False)
    landmarks, layer = photos.landmarks, photos.layer
    return PrecisionCheck(
        photos=len(photos.paths),
        cosine=float(paired_cosines(rows, others).mean()),
        top1=None if landmarks is None else leave_one_out(others, landmarks),
        original_top1=None if landmarks is None else leave_one_out(rows, landmarks),
        layer_top1=None if landmarks is None or layer is None else layer_top1(other_logits[0], layer, landmarks),
        original_layer_top1=None if landmarks is None or layer is None else layer_top1(logits[0], layer, landmarks),
    )


def layer_top1(logits: NDArray[np.float32], layer: Integers, landmarks: Integers) -> float:
    """Return the share of photos whose largest logit (N, C) is that of their landmark (N,)."""
    return float((layer[logits.argmax(axis=1)] == landmarks).mean())


def leave_one_out(rows: NDArray[np.float32], landmarks: NDArray[np.int64]) -> float | None:
    """Return the share of unit rows (N, D) whose nearest other row has the same landmark.

    Only rows whose landmark others share are asked; None where there is none.
    """
    _, codes, counts = np.unique(landmarks, return_inverse=True, return_counts=True)
    shared = np.flatnonzero(counts[codes] > 1)
    if not len(shared):
        return None
    nearest = np.concatenate(list(nearest_others(rows, shared)))
    return float((landmarks[nearest] == landmarks[shared]).mean())


def nearest_others(
    rows: NDArray[np.float32], asked: NDArray[np.int64], at_once: int = 1024
) -> Iterator[NDArray[np.int64]]:
    """Yield the index of the nearest other row for some of the rows at a time."""
    for part in np.split(asked, range(at_once, len(asked), at_once)):
        similarities = rows[part] @ rows.T
        similarities[np.arange(len(part)), part] = -np.inf
        yield similarities.argmax(axis=1)
