"""Run networks with OpenVINO: the extra ``openvino``.

On CPUs with bfloat16 arithmetic it is several times as fast as ONNX Runtime. On CPUs with fast int8 arithmetic it
takes two thirds of the time, for bundles that say which activations may be rounded. On others the two are about
equal. :mod:`obelisk.embedding.runtime_choice` decides which one runs a network.
"""

from __future__ import annotations

import threading
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from obelisk.embedding.activation_ranges import LEVELS, Ranges
from obelisk.embedding.network_check import check_network
from obelisk.embedding.onnx_model import FEATURES, LOGITS, explain_runtime_error
from obelisk.photos import usable_cores

Arithmetic = Literal["bf16", "i8", "f32"]


class OpenVinoModel:
    """An ONNX graph of one photo input, run by OpenVINO one photo at a time; safe to call from many threads.

    The interface is that of :class:`~obelisk.embedding.onnx_model.OnnxModel`. Each core is a stream of its own, so a
    row depends neither on the other photos nor on the number of cores. With the arithmetic ``i8``, the activations
    that ``ranges`` names are rounded to int8.
    """

    def __init__(
        self,
        network: bytes,
        size: int,
        *,
        arithmetic: Arithmetic = "f32",
        ranges: Ranges | None = None,
        where: object = "",
    ) -> None:
        import openvino
        from openvino import passes

        self.engine = f"openvino-{arithmetic}"
        self._where = str(where)
        check_network(network, where=where)
        cores = usable_cores()
        hint = "bf16" if arithmetic == "bf16" else "f32"
        options = {"NUM_STREAMS": cores, "INFERENCE_NUM_THREADS": cores, "INFERENCE_PRECISION_HINT": hint}
        try:
            model = openvino.Core().read_model(network, b"")
            # Expand int8 and float16 weights to float32 now: left in the graph, int8 weights were taken for the
            # scales of an int8 computation, and the embeddings were wrong (OpenVINO 2026.4, 2026-11-24).
            folding = passes.Manager()
            folding.register_pass(passes.ConstantFolding())
            folding.run_passes(model)
            if arithmetic == "i8":
                round_convolutions(model, ranges or {})
            model.reshape([1, 3, size, size])
            self._compiled = openvino.Core().compile_model(model, "CPU", options)
        except Exception as error:
            # OpenVINO's exceptions share no base class.
            raise self._explain(error) from error
        names = [name for output in self._compiled.outputs for name in output.names]
        self.input_shape: list[int | str | None] = ["N", 3, size, size]
        self.has_features = FEATURES in names
        self._requests = threading.local()

    def run(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the first output, (N, …), for an input of N rows."""
        return np.concatenate([self._compute(row[np.newaxis], 0)[0] for row in rows])

    def classify(self, rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the first output (N, …) and the logits (N, C) for an input of N rows, from one run."""
        found, logits = self.run_with(rows, LOGITS)
        return found, logits

    def features(self, rows: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Return the feature maps, (N, C, H, W), for an input of N rows; None if the network has no such output."""
        if not self.has_features:
            return None
        return np.concatenate([self._compute(row[np.newaxis], FEATURES)[0] for row in rows])

    def run_with(self, rows: NDArray[np.float32], *names: str) -> list[NDArray[np.float32]]:
        """Return the first output and the named ones for an input of N rows, from one run."""
        found = zip(*(self._compute(row[np.newaxis], 0, *names) for row in rows), strict=True)
        return [np.concatenate(parts) for parts in found]

    def _compute(self, row: NDArray[np.float32], *outputs: int | str) -> list[NDArray[np.float32]]:
        request: Any = getattr(self._requests, "own", None)
        try:
            if request is None:
                request = self._requests.own = self._compiled.create_infer_request()
            found = request.infer({0: row})
            # Copies: the request's own memory is overwritten by its next photo.
            return [found[output].astype(np.float32) for output in outputs]
        except Exception as error:
            raise self._explain(error) from error

    def _explain(self, error: Exception) -> Exception:
        return explain_runtime_error(error, "the network cannot be run by OpenVINO", where=self._where)


def round_convolutions(model: Any, ranges: Ranges) -> None:
    """Make OpenVINO compute in int8 those convolutions whose inputs have a range: it does so if both sides are rounded.

    Weights are rounded to 255 levels per channel, from −max|w| to max|w|.
    """
    from openvino import opset13

    for node in model.get_ordered_ops():
        if node.get_type_name() not in ("Convolution", "GroupConvolution"):
            continue
        source, weights = node.input_value(0), node.input_value(1).get_node()
        named = next((ranges[name] for name in sorted(source.get_names()) if name in ranges), None)
        if named is None or weights.get_type_name() != "Constant":
            continue
        low, high = (np.float32(end) for end in named)
        rounded = opset13.fake_quantize(source, low, high, low, high, LEVELS)
        node.input(0).replace_source_output(rounded.output(0))
        values = weights.data
        # Weights are (groups, C / groups, …) in grouped convolutions, else (C, …).
        channels = 1 if node.get_type_name() == "Convolution" else 2
        most = np.abs(values).max(axis=tuple(range(channels, values.ndim)), keepdims=True)
        most[most == 0] = 1
        levels = opset13.fake_quantize(weights, -most, most, -most, most, LEVELS - 1)
        node.input(1).replace_source_output(levels.output(0))
    model.validate_nodes_and_infer_types()


def find_arithmetics() -> list[Arithmetic]:
    """Return the arithmetics that OpenVINO offers on this CPU, in the order in which to try them."""
    import openvino

    able = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    arithmetics: dict[Arithmetic, str] = {"bf16": "BF16", "i8": "INT8", "f32": "FP32"}
    return [arithmetic for arithmetic, name in arithmetics.items() if name in able]
