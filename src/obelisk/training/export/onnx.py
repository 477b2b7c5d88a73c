"""ONNX export, deterministic and checked against torch."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from obelisk.arrays import paired_cosines
from obelisk.embedding import FEATURES, LOGITS, OnnxModel
from obelisk.errors import ModelError
from obelisk.training.machine import one_thread

SMALLEST_COSINE = 0.9999


def to_onnx(module: nn.Module, example: Tensor, input_name: str, *output_names: str) -> bytes:
    """Serialize a module of one input as an ONNX graph whose first axis is free; equal weights give equal bytes.

    ``example`` has two rows, so that the exporter does not take the number of rows for a constant. Raises ModelError
    for a network that torch cannot export.
    """
    import onnx

    rows = torch.export.Dim("N", min=1)
    # The exporter reports its progress by print, and warns of its own deprecations and of what it leaves as it is.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), only_errors_of("onnxscript"):
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                module.eval(),
                (example,),
                dynamo=True,
                dynamic_shapes=({0: rows},),
                input_names=[input_name],
                output_names=list(output_names),
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            # Its message is advice to the exporter's developers; the cause says what went wrong.
            cause = (str(error.__cause__ or error).splitlines() or ["unknown reason"])[0]
            fix = "choose another backbone, or another version of torch"
            raise ModelError(f"torch cannot export the network to ONNX: {cause}", fix=fix) from error
    if program is None:
        raise ModelError("torch exported no ONNX program", fix="check the installed onnx and onnxscript")
    graph = program.model_proto
    forget_origin(graph)
    onnx.checker.check_model(graph)
    # Protobuf orders maps by hash unless told otherwise.
    serialized: bytes = graph.SerializeToString(deterministic=True)
    return serialized


@contextlib.contextmanager
def only_errors_of(package: str) -> Iterator[None]:
    """Silence the warnings that a package logs."""
    logger = logging.getLogger(package)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def forget_origin(graph: object) -> None:
    """Drop what the exporter notes about the source code (stack traces with paths): it differs by machine."""
    for holder in (graph, graph.graph, *graph.graph.node, *graph.graph.value_info, *graph.graph.initializer):  # type: ignore[attr-defined]
        del holder.metadata_props[:]
        holder.ClearField("doc_string")
    for value in (*graph.graph.input, *graph.graph.output):  # type: ignore[attr-defined]
        del value.metadata_props[:]


def join_graphs(backbones: Sequence[bytes], neck: bytes) -> bytes:
    """Join serialized graphs into one: photos → each backbone → descriptors, side by side → neck → embedding.

    The backbones' graphs read ``photos`` and write ``embedding``; the neck's reads ``descriptors`` and writes
    ``embedding``, and ``logits`` where a softmax layer follows. The first backbone's ``features``, where it gives them,
    stay an output. Joining takes no time, where exporting the whole network anew would take as long as training it.
    """
    import onnx

    models = [onnx.load_from_string(graph) for graph in (*backbones, neck)]
    *nets, last = [
        onnx.compose.add_prefix(model, f"part{number}_", rename_inputs=False, rename_outputs=model is not models[-1])
        for number, model in enumerate(models)
    ]
    descriptors = [net.graph.output[0].name for net in nets]
    features = [output for output in models[0].graph.output if output.name == FEATURES]
    graph = onnx.helper.make_graph(
        nodes=[
            *(node for net in nets for node in net.graph.node),
            onnx.helper.make_node("Concat", descriptors, [last.graph.input[0].name], axis=1),
            *last.graph.node,
            *(onnx.helper.make_node("Identity", [f"part0_{FEATURES}"], [FEATURES]) for _ in features),
        ],
        name="photos_to_embedding",
        inputs=[nets[0].graph.input[0]],
        outputs=[*last.graph.output, *features],
        initializer=[tensor for model in (*nets, last) for tensor in model.graph.initializer],
    )
    joined = onnx.helper.make_model(graph, opset_imports=last.opset_import, ir_version=last.ir_version)
    onnx.checker.check_model(joined)
    serialized: bytes = joined.SerializeToString(deterministic=True)
    return serialized


def drop_logits(network: bytes) -> bytes:
    """Return a serialized graph without its output ``logits`` and what computes only that; as it is without one."""
    import onnx

    model = onnx.load_from_string(network)
    kept = [output for output in model.graph.output if output.name != LOGITS]
    if len(kept) == len(model.graph.output):
        return network
    needed, nodes = {output.name for output in kept}, []
    for node in reversed(model.graph.node):
        if needed & set(node.output):
            needed |= set(node.input)
            nodes.append(node)
    graph = onnx.helper.make_graph(
        nodes=nodes[::-1],
        name=model.graph.name,
        inputs=model.graph.input,
        outputs=kept,
        initializer=[tensor for tensor in model.graph.initializer if tensor.name in needed],
    )
    rest = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    onnx.checker.check_model(rest)
    serialized: bytes = rest.SerializeToString(deterministic=True)
    return serialized


@one_thread()
def check_export(network: bytes, module: nn.Module, inputs: Sequence[NDArray[np.float32]]) -> float:
    """Compare a serialized graph with the module it came from, over inputs (…) in batches of 1, 2 and 5.

    A module that gives embeddings and logits is compared in both. Returns the smallest cosine of a row; raises
    ModelError when it is under 0.9999.
    """
    model = OnnxModel(network)
    smallest = 1.0
    for size in (1, 2, 5):
        for start in range(0, len(inputs) - size + 1, size):
            batch = np.stack(inputs[start : start + size])
            with torch.inference_mode():
                expected = module(torch.from_numpy(batch))
            if isinstance(expected, Tensor):
                pairs = [(model.run(batch), expected)]
            else:
                pairs = list(zip(model.classify(batch), expected, strict=True))
            smallest = min(smallest, *(float(paired_cosines(found, rows.numpy()).min()) for found, rows in pairs))
    if not smallest >= SMALLEST_COSINE:
        raise ModelError(
            f"the exported network differs from torch: cosine {smallest:.6f} < {SMALLEST_COSINE}",
            fix="another version of onnxruntime or torch may be at fault; nothing was exported",
        )
    return smallest
