"""Run serialized networks with ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from obelisk.embedding.external_data import refuse_external_data
from obelisk.errors import ModelError

FEATURES, LOGITS = "features", "logits"
FIX = "export or copy it again"


class NetworkModel(Protocol):
    """A network ready to run, whichever runtime runs it; safe to call from many threads."""

    input_shape: list[int | str | None]
    engine: str

    def run(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the first output, (N, …), for an input of N rows."""

    def classify(self, rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the first output (N, …) and the logits (N, C) for an input of N rows, from one run.

        Raises ModelError for a network without logits.
        """

    def features(self, rows: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Return the feature maps, (N, C, H, W), for an input of N rows; None if the network has no such output."""


class OnnxModel:
    """An ONNX graph with one input, run by ONNX Runtime; safe to call from many threads.

    :meth:`run` returns its first output, :meth:`features` and :meth:`classify` those named ``features`` and ``logits``.
    ``threads`` share the work of one call; their number does not change any digit. Raises ModelError for bytes that are
    not a network, and for a network that cannot be run here.
    """

    def __init__(self, source: Path | bytes, *, threads: int = 1) -> None:
        # Without this it writes an id of the machine into the user's home, and reports usage to its makers.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime

        self.engine = "onnxruntime"
        self._where = "" if isinstance(source, bytes) else str(source)
        network = source if isinstance(source, bytes) else source.read_bytes()
        refuse_external_data(network, where=self._where)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads leave the cores alone
        options.log_severity_level = 4  # errors are raised, so they need not be printed
        try:
            self._session = onnxruntime.InferenceSession(
                network, sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            # ONNX Runtime's exceptions share no public base class.
            raise self._explain(error) from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or not outputs:
            what = f"{len(inputs)} inputs and {len(outputs)} outputs"
            raise ModelError(f"the network has {what}, not one input", where=self._where, fix=FIX)
        self.input_shape: list[int | str | None] = inputs[0].shape
        self._input, self._output = inputs[0].name, outputs[0].name
        self.has_features = any(output.name == FEATURES for output in outputs)

    def run(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the first output, (N, …), for an input of N rows."""
        return self.compute([self._output], rows)[0]

    def classify(self, rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the first output (N, …) and the logits (N, C) for an input of N rows, from one run."""
        found, logits = self.compute([self._output, LOGITS], rows)
        return found, logits

    def features(self, rows: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Return the feature maps, (N, C, H, W), for an input of N rows; None if the network has no such output."""
        return self.compute([FEATURES], rows)[0] if self.has_features else None

    def compute(self, outputs: Sequence[str], rows: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Return the named outputs for an input of N rows."""
        try:
            found: list[NDArray[np.float32]] = self._session.run(outputs, {self._input: rows})
        except Exception as error:
            raise self._explain(error) from error
        return found

    def _explain(self, error: Exception) -> ModelError:
        return ModelError(f"the network cannot be run: {first_line(error)}", where=self._where, fix=FIX)


def first_line(error: Exception) -> str:
    """Return the first line of a runtime's error message."""
    return (str(error).splitlines() or [type(error).__name__])[0][:500]
