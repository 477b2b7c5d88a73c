"""ONNX export, deterministic and checked against torch."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from obelisk.embedding import OnnxModel
from obelisk.errors import ModelError

SMALLEST_COSINE = 0.9999


def to_onnx(module: nn.Module, example: Tensor, input_name: str, output_name: str) -> bytes:
    """Serialise a module as an ONNX graph whose first axis is free; equal weights give equal bytes.

    ``example`` has two rows, so that the exporter does not take the number of rows for a constant.
    """
    import onnx

    rows = torch.export.Dim("N", min=1)
    # The exporter reports its progress by print, and warns of its own deprecations.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(),
            (example,),
            dynamo=True,
            dynamic_shapes=({0: rows},),
            input_names=[input_name],
            output_names=[output_name],
            verbose=False,
        )
    if program is None:
        raise ModelError("torch exported no ONNX program", fix="check the installed onnx and onnxscript")
    graph = program.model_proto
    forget_origin(graph)
    onnx.checker.check_model(graph)
    # Protobuf orders maps by hash unless told otherwise.
    serialised: bytes = graph.SerializeToString(deterministic=True)
    return serialised


def forget_origin(graph: object) -> None:
    """Drop what the exporter notes about the source code (stack traces with paths): it differs by machine."""
    for holder in (graph, graph.graph, *graph.graph.node, *graph.graph.value_info, *graph.graph.initializer):  # type: ignore[attr-defined]
        del holder.metadata_props[:]
        holder.ClearField("doc_string")
    for value in (*graph.graph.input, *graph.graph.output):  # type: ignore[attr-defined]
        del value.metadata_props[:]


def check_export(path: Path, module: nn.Module, inputs: Sequence[NDArray[np.float32]]) -> float:
    """Compare a graph with the module it came from, over inputs (…) and batches of 1, 2 and 5.

    Returns the smallest cosine of a row; raises ModelError when it is under 0.9999.
    """
    model = OnnxModel(path)
    smallest = 1.0
    for size in (1, 2, 5):
        for start in range(0, len(inputs) - size + 1, max(size, len(inputs) // 8)):
            batch = np.stack(inputs[start : start + size])
            with torch.inference_mode():
                expected = module(torch.from_numpy(batch)).numpy()
            smallest = min(smallest, smallest_cosine(model.run(batch), expected))
    if not smallest >= SMALLEST_COSINE:
        raise ModelError(
            f"the exported network differs from torch: cosine {smallest:.6f} < {SMALLEST_COSINE}",
            where=path,
            fix="another version of onnxruntime or torch may be at fault; nothing was exported",
        )
    return smallest


def smallest_cosine(rows: NDArray[np.float32], others: NDArray[np.float32]) -> float:
    """Return the smallest cosine between rows (N, D) and their counterparts."""
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(others, axis=1)
    return float(((rows * others).sum(axis=1) / np.maximum(lengths, 1e-12)).min())
