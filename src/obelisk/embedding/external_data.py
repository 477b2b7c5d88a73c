"""Refuse ONNX graphs with external data, by their bytes alone and before any runtime sees them.

A graph may keep its weights in other files, named by any path. A bundle's fingerprint would not cover them, and the
path could lead out of the bundle, so such a graph is refused, whichever runtime would read it.
Field numbers are those of onnx.proto3 (ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto); the
encoding is that of https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator

from obelisk.errors import ModelError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
DEEPEST = 32

# Message type → the fields that lead to tensors: field number → message type. A tensor's own fields end the walk.
PATHS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
EXTERNAL_DATA, DATA_LOCATION = 13, 14


def refuse_external_data(network: bytes, *, where: object = "") -> None:
    """Raise ModelError for bytes that are not an ONNX graph, and for a graph that keeps weights in other files."""
    fix = "export it whole, or copy it again"
    try:
        outside = has_external_data(memoryview(network), "model", DEEPEST)
    except (IndexError, ValueError) as error:
        raise ModelError("the network cannot be read: it is damaged or cut off", where=where, fix=fix) from error
    if outside:
        raise ModelError("the network keeps its weights in another file", where=where, fix=fix)


def has_external_data(message: memoryview, kind: str, depth: int) -> bool:
    """Return whether a tensor inside a serialized message lies in another file."""
    if depth == 0:
        raise ValueError("nested too deeply")
    for number, value in read_fields(message):
        if kind == "tensor" and (number == EXTERNAL_DATA or (number == DATA_LOCATION and value != 0)):
            return True
        inner = PATHS[kind].get(number)
        if inner and isinstance(value, memoryview) and has_external_data(value, inner, depth - 1):
            return True
    return False


def read_fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield the fields (number, value) of a serialized message; raises IndexError or ValueError if it is damaged."""
    position, end = 0, len(message)
    while position < end:
        tag, position = read_varint(message, position)
        kind = tag & 7
        if kind == VARINT:
            value, position = read_varint(message, position)
            yield tag >> 3, value
            continue
        if kind == BYTES:
            length, position = read_varint(message, position)
        elif kind in (FIXED64, FIXED32):
            length = 8 if kind == FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if position + length > end:
            raise ValueError("cut off")
        yield tag >> 3, message[position : position + length]
        position += length


def read_varint(message: memoryview, position: int) -> tuple[int, int]:
    """Return the variable-length integer at a position, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number of more than 70 bits")
