"""Networks that other code exported: what goes in and comes out, and the nodes that turn that into a bundle's network.

A bundle's network takes photos (N, 3, H, W) in float32 and gives embeddings (N, D) of unit length. Others take their
channels last or in half precision, give tokens or maps, give several outputs, or were exported for one photo.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from obelisk.embedding import FEATURES, OnnxModel
from obelisk.embedding.network_check import check_network
from obelisk.errors import ModelError, UsageError, near_names

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, ValueInfoProto

Layout = Literal["nchw", "nhwc"]
TokenPooling = Literal["cls", "avg", "gem", "cls+gem"]

# Operators that ONNX Runtime brings along, besides those of the standard.
KNOWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
OLDEST_OPSET = 13
MOST_PREFIX = 16  # tokens in front of the grid: a class token and registers
EXPONENT, SMALLEST = 3.0, 1e-6  # of GeM
PHOTOS, ROWS, EMBEDDING = "photos", "rows", "embedding"
GIVEN = "given_"  # in front of every name of the foreign graph, so that none is one of ours


@dataclass(frozen=True, kw_only=True)
class ForeignNetwork:
    """A graph of other code: the output that is to be the embedding, and all that is known of its input.

    ``size`` is 0 where the graph takes photos of any size, ``batch`` 0 where it takes any number of them.
    """

    model: ModelProto
    output: str
    layout: Layout
    size: int
    batch: int


def read_foreign(network: bytes, *, output: str | None, layout: Layout | None, where: object) -> ForeignNetwork:
    """Read a serialized graph, and choose its output; raises ModelError for what no bundle can hold.

    Refused are weights in other files, control flow, operators that only their maker has, several inputs, and inputs
    that are not photos of three channels. UsageError if there are several outputs and none is named.
    """
    import onnx

    check_network(network, where=where)
    try:
        model = onnx.load_from_string(network)
    except Exception as error:  # protobuf's own
        raise ModelError("not an ONNX network", where=where, fix="give a .onnx file") from error
    if not model.graph.node or not model.graph.output:
        raise ModelError("not an ONNX network: it computes nothing", where=where, fix="give a .onnx file")
    model = modernize(model, where)
    chosen = choose_output(model, output, where)
    keep_what_gives(model, [chosen, *feature_outputs(model, chosen)])
    photo = only_input(model, where)
    shape = shape_of(photo)
    found = layout or ("nhwc" if len(shape) == 4 and shape[3] == 3 != shape[1] else "nchw")
    channels, height, width = (shape[1], shape[2], shape[3]) if found == "nchw" else (shape[3], shape[1], shape[2])
    if channels not in (0, 3) or height != width:
        what = f"the input `{photo.name}` has shape {describe_shape(photo)}, not that of square photos of 3 channels"
        raise ModelError(what, where=where, fix="export it for square RGB photos")
    return ForeignNetwork(model=model, output=chosen, layout=found, size=height, batch=shape[0])


def modernize(model: ModelProto, where: object) -> ModelProto:
    """Inline a graph's own functions, refuse operators that no runtime has, and raise an old opset."""
    import onnx

    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    foreign = sorted({node.domain for node in model.graph.node} - KNOWN_DOMAINS)
    if foreign:
        names = sorted({node.op_type for node in model.graph.node if node.domain == foreign[0]})
        what = f"the network uses operators that only its maker has: {names[0]} of `{foreign[0]}`"
        raise ModelError(what, where=where, fix="export it with standard ONNX operators")
    branches = sorted({node.op_type for node in model.graph.node if any(each.HasField("g") for each in node.attribute)})
    if branches:
        what = f"the network has control flow (`{branches[0]}`)"
        raise ModelError(what, where=where, fix="export it without control flow, or simplify it with onnxsim")
    opset = read_opset(model)
    if opset >= OLDEST_OPSET:
        return model
    try:
        raised: ModelProto = onnx.version_converter.convert_version(model, OLDEST_OPSET)
    except Exception as error:
        fix = f"export it with opset {OLDEST_OPSET} or later"
        raise ModelError(f"the network uses ONNX opset {opset}, which is too old", where=where, fix=fix) from error
    return raised


def read_opset(model: ModelProto) -> int:
    """Return the version of the standard operators that a graph uses."""
    return max((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), default=1)


def choose_output(model: ModelProto, output: str | None, where: object) -> str:
    """Return the name of the output that is to be the embedding; the only one needs not be named."""
    outputs = {each.name: describe_shape(each) for each in model.graph.output}
    listed = ", ".join(f"{name} {shape}" for name, shape in outputs.items())
    if output is None and len(outputs) > 1:
        fix = f"choose one: --output {next(iter(outputs))}"
        raise UsageError(f"the network has {len(outputs)} outputs: {listed}", where=where, fix=fix)
    if output is not None and output not in outputs:
        fix = near_names(output, outputs) or f"it has {listed}"
        raise UsageError(f"the network has no output `{output}`", where=where, fix=fix)
    return output or next(iter(outputs))


def feature_outputs(model: ModelProto, chosen: str) -> list[str]:
    """Return the outputs that may be the map or the tokens that the chosen one was pooled from."""
    ranks = {each.name: len(each.type.tensor_type.shape.dim) for each in model.graph.output}
    return [name for name, rank in ranks.items() if name != chosen and rank in (3, 4) and ranks[chosen] == 2]


def keep_what_gives(model: ModelProto, outputs: Sequence[str]) -> None:
    """Reduce a graph, in place, to what computes some of its outputs, and to the inputs that these need."""
    needed, nodes = set(outputs), []
    for node in reversed(model.graph.node):
        if needed & set(node.output):
            needed |= set(node.input)
            nodes.append(node)
    kept = {
        "node": nodes[::-1],
        "input": [each for each in model.graph.input if each.name in needed],
        "output": [each for name in outputs for each in model.graph.output if each.name == name],
        "initializer": [each for each in model.graph.initializer if each.name in needed],
    }
    for field, values in kept.items():
        copies = [type(value).FromString(value.SerializeToString()) for value in values]
        del getattr(model.graph, field)[:]
        getattr(model.graph, field).extend(copies)
    del model.graph.value_info[:]


def only_input(model: ModelProto, where: object) -> ValueInfoProto:
    """Return the input of a graph that has one, of numbers that photos can be turned into."""
    import onnx

    weights = {each.name for each in model.graph.initializer}
    inputs = [each for each in model.graph.input if each.name not in weights]
    if len(inputs) != 1:
        listed = ", ".join(each.name for each in inputs) or "none"
        fix = "export the part that embeds photos alone"
        raise ModelError(f"the network has {len(inputs)} inputs, not one: {listed}", where=where, fix=fix)
    (photo,) = inputs
    kinds = onnx.TensorProto.DataType
    kind = photo.type.tensor_type.elem_type
    if kind not in (kinds.Value("FLOAT"), kinds.Value("FLOAT16"), kinds.Value("DOUBLE")):
        what = f"the input `{photo.name}` takes {kinds.Name(kind).lower()}, not normalized photos"
        raise ModelError(what, where=where, fix="export it without its own preprocessing")
    if len(photo.type.tensor_type.shape.dim) != 4:
        what = f"the input `{photo.name}` has shape {describe_shape(photo)}, not that of photos (N, 3, H, W)"
        raise ModelError(what, where=where, fix="export a network that takes photos")
    return photo


def shape_of(value: ValueInfoProto) -> tuple[int, ...]:
    """Return the shape of an input, 0 where a side is free."""
    return tuple(max(0, side.dim_value) for side in value.type.tensor_type.shape.dim)


def describe_shape(value: ValueInfoProto) -> str:
    """Return the shape of an input or output as text: (batch, 3, 224, 224)."""
    sides = [str(side.dim_value or side.dim_param or "?") for side in value.type.tensor_type.shape.dim]
    return f"({', '.join(sides)})"


def adopt(foreign: ForeignNetwork, size: int, pooling: TokenPooling | None, *, where: object) -> tuple[bytes, str]:
    """Return a bundle's network made of a foreign one, and a word on how its output was pooled; "" if it was a row.

    Maps and tokens are pooled, ``pooling`` says how; without it, maps and grids by their average, tokens that begin
    with a class token by that. What is pooled, or another output with a map or tokens, becomes ``features``.
    """
    import onnx

    model = onnx.compose.add_prefix(foreign.model, GIVEN)
    frame_input(model, foreign, size)
    shapes = measure_outputs(model, size, where)
    chosen, patch = GIVEN + foreign.output, read_patch_size(model)
    nodes: list[NodeProto] = []
    shape, how = shapes[chosen], ""
    source = cast_to_float(model, chosen, nodes)
    if len(shape) > 2 and math.prod(shape[2:]) == 1:
        nodes.append(make_node("Flatten", [source], ROWS, axis=1))
    elif len(shape) in (3, 4):
        prefix = count_prefix(shape[1], size, patch, where) if len(shape) == 3 else 0
        how = pooling or ("cls" if prefix else "avg")
        refuse_class_token(how, shape, prefix, where)
        pool_output(model, source, shape, how, prefix, nodes)
    elif len(shape) == 2:
        nodes.append(make_node("Identity", [source], ROWS))
    else:
        fix = "choose an output of rows, tokens or maps with --output"
        raise ModelError(f"the output `{foreign.output}` has shape {shape}", where=where, fix=fix)
    if pooling and not how:
        fix = "leave --pooling out, or choose another --output"
        raise UsageError(f"the output `{foreign.output}` is pooled already: {shape}", where=where, fix=fix)
    shown = bool(how) or add_features(model, shapes, chosen, size, patch, nodes)
    nodes.append(make_node("LpNormalization", [ROWS], EMBEDDING, axis=1, p=2))
    finish(model, nodes, [EMBEDDING, FEATURES] if shown else [EMBEDDING])
    return model.SerializeToString(deterministic=True), how


def append_whitening(network: bytes, projection: NDArray[np.float32], bias: NDArray[np.float32]) -> bytes:
    """Return a network with ``y = P e + b`` behind its embeddings e, scaled to unit length again."""
    import onnx

    model = onnx.load_from_string(network)
    for node in model.graph.node:
        node.output[:] = ["unwhitened" if name == EMBEDDING else name for name in node.output]
    weights = [add_constant(model, "whitening", projection), add_constant(model, "whitening_bias", bias)]
    nodes = [
        make_node("Gemm", ["unwhitened", *weights], "whitened", transB=1),
        make_node("LpNormalization", ["whitened"], EMBEDDING, axis=1, p=2),
    ]
    finish(model, nodes, [each.name for each in model.graph.output])
    whitened: bytes = model.SerializeToString(deterministic=True)
    return whitened


def frame_input(model: ModelProto, foreign: ForeignNetwork, size: int) -> None:
    """Let a graph read ``photos`` (N, 3, size, size) in float32, whatever it read before."""
    from onnx import TensorProto, helper

    (photo,) = [each for each in model.graph.input if each.name not in {one.name for one in model.graph.initializer}]
    kind, source, front = photo.type.tensor_type.elem_type, PHOTOS, []
    if kind != TensorProto.FLOAT:
        front.append(make_node("Cast", [source], "photos_cast", to=kind))
        source = "photos_cast"
    if foreign.layout == "nhwc":
        front.append(make_node("Transpose", [source], "photos_last", perm=[0, 2, 3, 1]))
        source = "photos_last"
    front.append(make_node("Identity", [source], "photos_given"))
    for node in model.graph.node:
        node.input[:] = ["photos_given" if name == photo.name else name for name in node.input]
    nodes = [*front, *model.graph.node]
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:], model.graph.input[:]
    model.graph.node.extend(copies)
    rows = foreign.batch or "N"
    model.graph.input.append(helper.make_tensor_value_info(PHOTOS, TensorProto.FLOAT, [rows, 3, size, size]))


def measure_outputs(model: ModelProto, size: int, where: object) -> dict[str, tuple[int, ...]]:
    """Return the shape of each output for one photo, as ONNX Runtime computes it."""
    rows = shape_of(model.graph.input[0])[0] or 1
    noise = np.random.default_rng(0).standard_normal((rows, 3, size, size)).astype(np.float32)
    names = [each.name for each in model.graph.output]
    try:
        found = OnnxModel(model.SerializeToString()).compute(names, noise)
    except ModelError as error:
        what = f"the network cannot embed photos of {size} pixels: {error.what}"
        raise ModelError(what, where=where, fix="give the --size that it was exported for") from error
    return {name: (1, *each.shape[1:]) for name, each in zip(names, found, strict=True)}


def read_patch_size(model: ModelProto) -> int:
    """Return the side of the patches that a transformer cuts a photo into, 0 if none is found."""
    for node in model.graph.node:
        if node.op_type == "Conv":
            given = {each.name: list(each.ints) for each in node.attribute}
            kernel, strides = given.get("kernel_shape", []), given.get("strides", [])
            return kernel[0] if kernel == strides and len(set(kernel)) == 1 and kernel[0] > 1 else 0
    return 0


def count_prefix(tokens: int, size: int, patch: int, where: object) -> int:
    """Return how many tokens (class token, registers) stand before the square grid; ModelError if there is none."""
    side = size // patch if patch else math.isqrt(tokens)
    prefix = tokens - side * side
    if side < 1 or not 0 <= prefix <= MOST_PREFIX:
        what = f"{tokens} tokens are no square grid with a class token or registers before it"
        raise ModelError(what, where=where, fix="choose an output that is pooled already with --output")
    return prefix


def make_node(operator: str, inputs: Sequence[str], output: str, **attributes: object) -> NodeProto:
    """Return a node of one output."""
    from onnx import helper

    return helper.make_node(operator, list(inputs), [output], **attributes)


def add_constant(model: ModelProto, name: str, value: NDArray[np.generic] | np.generic) -> str:
    """Add a constant to a graph; return its name."""
    from onnx import numpy_helper

    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return name


def cast_to_float(model: ModelProto, name: str, nodes: list[NodeProto]) -> str:
    """Return the name of an output in float32."""
    from onnx import TensorProto

    (output,) = [each for each in model.graph.output if each.name == name]
    if output.type.tensor_type.elem_type == TensorProto.FLOAT:
        return name
    nodes.append(make_node("Cast", [name], f"{name}_float", to=TensorProto.FLOAT))
    return f"{name}_float"


def refuse_class_token(how: str, shape: tuple[int, ...], prefix: int, where: object) -> None:
    """Raise UsageError where a class token is asked for and there is none."""
    if "cls" in how and not prefix:
        what = "a feature map has" if len(shape) == 4 else f"the {shape[1]} tokens are a grid and have"
        raise UsageError(f"{what} no class token", where=where, fix="--pooling avg or gem")


def pool_output(
    model: ModelProto,
    source: str,
    shape: tuple[int, ...],
    how: str,
    prefix: int,
    nodes: list[NodeProto],
) -> None:
    """Add the nodes that pool tokens (N, L, C) or maps (N, C, H, W), and that show what was pooled as ``features``."""
    if len(shape) == 4:
        nodes.append(make_node("Identity", [source], FEATURES))
    else:
        lay_out_grid(model, source, shape, prefix, nodes)
    parts = []
    if "cls" in how:
        first = add_constant(model, "first_token", np.int64(0))
        nodes.append(make_node("Gather", [source, first], "class_token", axis=1))
        parts.append("class_token")
    if how != "cls":
        parts.append(pool_map(model, FEATURES, nodes, gem="gem" in how))
    if len(parts) == 1:
        nodes.append(make_node("Identity", parts, ROWS))
        return
    units = [f"{part}_unit" for part in parts]
    nodes += [make_node("LpNormalization", [part], unit, axis=1, p=2) for part, unit in zip(parts, units, strict=True)]
    nodes.append(make_node("Concat", units, ROWS, axis=1))


def lay_out_grid(model: ModelProto, source: str, shape: tuple[int, ...], prefix: int, nodes: list[NodeProto]) -> None:
    """Add the nodes that lay out the grid among tokens (N, L, C) as a map (N, C, H, W), named ``features``."""
    side = math.isqrt(shape[1] - prefix)
    begin = add_constant(model, "grid_begin", np.array([prefix], np.int64))
    end = add_constant(model, "grid_end", np.array([shape[1]], np.int64))
    axis = add_constant(model, "grid_axis", np.array([1], np.int64))
    sides = add_constant(model, "grid_sides", np.array([0, shape[2], side, side], np.int64))
    nodes += [
        make_node("Slice", [source, begin, end, axis], "grid_tokens"),
        make_node("Transpose", ["grid_tokens"], "grid_channels", perm=[0, 2, 1]),
        make_node("Reshape", ["grid_channels", sides], FEATURES),
    ]


def pool_map(model: ModelProto, source: str, nodes: list[NodeProto], *, gem: bool) -> str:
    """Add the nodes that pool a map (N, C, H, W) by its average or by GeM; return the name of the rows."""
    if gem:
        numbers = {"gem_least": SMALLEST, "gem_power": EXPONENT, "gem_root": 1 / EXPONENT}
        least, power, root = (add_constant(model, name, np.float32(number)) for name, number in numbers.items())
        power, root = (
            add_constant(model, f"gem_{n}", np.float32(p)) for n, p in (("p", EXPONENT), ("q", 1 / EXPONENT))
        )
        nodes += [
            make_node("Max", [source, least], "gem_positive"),
            make_node("Pow", ["gem_positive", power], "gem_powers"),
            make_node("GlobalAveragePool", ["gem_powers"], "gem_mean"),
            make_node("Pow", ["gem_mean", root], "pooled_map"),
        ]
    else:
        nodes.append(make_node("GlobalAveragePool", [source], "pooled_map"))
    nodes.append(make_node("Flatten", ["pooled_map"], "pooled_rows", axis=1))
    return "pooled_rows"


def add_features(
    model: ModelProto,
    shapes: dict[str, tuple[int, ...]],
    chosen: str,
    size: int,
    patch: int,
    nodes: list[NodeProto],
) -> bool:
    """Make a map, or a grid of tokens, among the other outputs ``features``; return whether there is one."""
    for name, shape in shapes.items():
        if name == chosen or len(shape) not in (3, 4) or math.prod(shape[2:]) == 1:
            continue
        if len(shape) == 4:
            nodes.append(make_node("Identity", [cast_to_float(model, name, nodes)], FEATURES))
            return True
        try:
            prefix = count_prefix(shape[1], size, patch, "")
        except ModelError:
            continue
        lay_out_grid(model, cast_to_float(model, name, nodes), shape, prefix, nodes)
        return True
    return False


def finish(model: ModelProto, nodes: Sequence[NodeProto], outputs: Sequence[str]) -> None:
    """Add nodes to the end of a graph, and let it give only these outputs: rows, and a map."""
    from onnx import TensorProto, helper

    rows = shape_of(model.graph.input[0])[0] or "N"
    model.graph.node.extend(nodes)
    del model.graph.output[:]
    for name in outputs:
        sides = [rows, None] if name == EMBEDDING else [rows, None, None, None]
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, sides))
