"""Run serialized networks with ONNX Runtime."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from obelisk.embedding.network_check import check_network
from obelisk.errors import ModelError

FEATURES, LOGITS = "features", "logits"
FIX = "export or copy it again"
# Runtimes have no exception of their own for it.
OUT_OF_MEMORY = re.compile(r"bad.alloc|fail\w* to allocate", re.IGNORECASE)


class NetworkModel(Protocol):
    """A network ready to run, whichever runtime runs it; safe to call from many threads."""

    input_shape: list[int | str | None]
    engine: str
    has_features: bool

    def run(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the first output, (N, …), for an input of N rows."""

    def classify(self, rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the first output (N, …) and the logits (N, C) for an input of N rows, from one run.

        Raises ModelError for a network without logits.
        """

    def features(self, rows: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Return the feature maps, (N, C, H, W), for an input of N rows; None if the network has no such output."""

    def run_with(self, rows: NDArray[np.float32], *names: str) -> list[NDArray[np.float32]]:
        """Return the first output and the named ones for an input of N rows, from one run."""


class OnnxModel:
    """An ONNX graph with one input, run by ONNX Runtime; safe to call from many threads.

    :meth:`run` returns its first output, :meth:`features` and :meth:`classify` those named ``features`` and ``logits``.
    ``threads`` share the work of one call; their number does not change any digit. Raises ModelError for bytes that are
    not a network, and for a network that cannot be run here.
    """

    def __init__(self, source: Path | bytes, *, threads: int = 1) -> None:
        onnxruntime = import_onnxruntime()
        self.engine = "onnxruntime"
        self._where = "" if isinstance(source, bytes) else str(source)
        network = source if isinstance(source, bytes) else source.read_bytes()
        check_network(network, where=self._where)
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
        found, logits = self.run_with(rows, LOGITS)
        return found, logits

    def features(self, rows: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Return the feature maps, (N, C, H, W), for an input of N rows; None if the network has no such output."""
        return self.compute([FEATURES], rows)[0] if self.has_features else None

    def run_with(self, rows: NDArray[np.float32], *names: str) -> list[NDArray[np.float32]]:
        """Return the first output and the named ones for an input of N rows, from one run."""
        return self.compute([self._output, *names], rows)

    def compute(self, outputs: Sequence[str], rows: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Return the named outputs for an input of N rows."""
        try:
            found: list[NDArray[np.float32]] = self._session.run(outputs, {self._input: rows})
        except Exception as error:
            raise self._explain(error) from error
        return found

    def try_outputs(self, rows: NDArray[np.float32]) -> None:
        """Compute all outputs for an input of N rows."""
        self.compute([output.name for output in self._session.get_outputs()], rows)

    def _explain(self, error: Exception) -> Exception:
        return explain_runtime_error(error, "the network cannot be run", where=self._where)


def import_onnxruntime() -> ModuleType:
    """Import ONNX Runtime, which loads its library."""
    # Without this it writes an id of the machine into the user's home, and reports usage to its makers.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    loaded: ModuleType = onnxruntime
    return loaded


def check_input(model: NetworkModel, size: int, *, where: object) -> None:
    """Raise ModelError unless a network takes square photos of ``size`` pixels."""
    shape, wanted = model.input_shape, [3, size, size]
    fits = len(shape) == 4 and all(
        side == want or not isinstance(side, int) for side, want in zip(shape[1:], wanted, strict=True)
    )
    if not fits:
        what = f"the network takes an input of {shape}, not photos of {size} pixels"
        raise ModelError(what, where=where, fix="export the bundle again")


def explain_runtime_error(error: Exception, what: str, *, where: str) -> Exception:
    """Return what to raise for a runtime's error: MemoryError if that is what was missing, else ModelError."""
    said = first_line(error)
    if isinstance(error, MemoryError) or OUT_OF_MEMORY.search(said):
        return MemoryError(f"{what}: there is not enough memory: {said}")
    return ModelError(f"{what}: {said}", where=where, fix=FIX)


def first_line(error: Exception) -> str:
    """Return the first line of a runtime's error message."""
    return (str(error).splitlines() or [type(error).__name__])[0][:500]
