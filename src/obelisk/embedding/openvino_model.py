"""OpenVINO as the runtime of a network: the extra ``openvino``.

On CPUs that multiply in bfloat16 it is several times as fast as ONNX Runtime; on others about as fast. Which of both
runs a network is chosen in :mod:`obelisk.embedding.choice`.
"""

from __future__ import annotations

import os
import threading
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from obelisk.embedding.graphs import refuse_outside_data
from obelisk.embedding.networks import FEATURES, FIX, shorten
from obelisk.errors import ModelError

Arithmetic = Literal["bf16", "f32"]


class OpenVinoModel:
    """An ONNX graph of one photo input, run by OpenVINO one photo at a time; safe to call from many threads.

    The interface is that of :class:`~obelisk.embedding.networks.OnnxModel`. Each core is a stream of its own, so that
    a row depends neither on the other photos nor on the number of cores.
    """

    def __init__(self, network: bytes, size: int, *, arithmetic: Arithmetic = "f32", where: object = "") -> None:
        import openvino
        from openvino import passes

        self.engine = f"openvino-{arithmetic}"
        self._where = str(where)
        refuse_outside_data(network, where=where)
        cores = os.cpu_count() or 1
        options = {"NUM_STREAMS": cores, "INFERENCE_NUM_THREADS": cores, "INFERENCE_PRECISION_HINT": arithmetic}
        try:
            model = openvino.Core().read_model(network, b"")
            # Smaller weights are brought back to float32 here: left in the graph, those of int8 were taken for the
            # scales of an int8 computation, and the embeddings were wrong (OpenVINO 2026.4, 2026-11-24).
            folding = passes.Manager()
            folding.register_pass(passes.ConstantFolding())
            folding.run_passes(model)
            model.reshape([1, 3, size, size])
            self._compiled = openvino.Core().compile_model(model, "CPU", options)
        except Exception as error:
            # OpenVINO raises RuntimeError and others of no common class.
            raise self._explain(error) from error
        names = [name for output in self._compiled.outputs for name in output.names]
        self.input_shape: list[int | str | None] = ["N", 3, size, size]
        self.has_features = FEATURES in names
        self._requests = threading.local()

    def run(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the first output, (N, …), for an input of N rows."""
        return np.concatenate([self._compute(0, row[np.newaxis]) for row in rows])

    def features(self, rows: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Return the feature maps, (N, C, H, W), for an input of N rows; None where the network gives none."""
        if not self.has_features:
            return None
        return np.concatenate([self._compute(FEATURES, row[np.newaxis]) for row in rows])

    def _compute(self, output: int | str, row: NDArray[np.float32]) -> NDArray[np.float32]:
        request: Any = getattr(self._requests, "own", None)
        try:
            if request is None:
                request = self._requests.own = self._compiled.create_infer_request()
            found: NDArray[np.float32] = request.infer({0: row})[output]
        except Exception as error:
            raise self._explain(error) from error
        return found.astype(np.float32)  # a copy: the request's own memory is overwritten by its next photo

    def _explain(self, error: Exception) -> ModelError:
        return ModelError(f"the network cannot be run by OpenVINO: {shorten(error)}", where=self._where, fix=FIX)


def find_arithmetics() -> list[Arithmetic]:
    """Return what this CPU multiplies in under OpenVINO, the fastest first."""
    import openvino

    return ["bf16", "f32"] if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else ["f32"]
