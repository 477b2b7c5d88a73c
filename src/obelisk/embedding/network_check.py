"""Refuse ONNX graphs that could do harm, by their bytes alone and before any runtime sees them.

A graph may keep its weights in other files, named by any path. A bundle's fingerprint would not cover them, and the
path could lead out of the bundle, so such a graph is refused, whichever runtime would read it. So is one with a loop:
how often it runs may depend on the photo, so no trial says how long the next photo takes, and no embedding network
needs one. Field numbers are those of onnx.proto3 (ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto); the
encoding is that of https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator

from obelisk.errors import ModelError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
DEEPEST = 32
MOST_FIELDS = 1_000_000  # a network of 10,000 nodes has a fifth of them

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
OPERATOR = 4
LOOPS = frozenset({b"Loop", b"Scan", b"SequenceMap"})


def check_network(network: bytes, *, where: object = "") -> None:
    """Raise ModelError for bytes that are not an ONNX graph, for weights in other files, and for loops."""
    fix = "export it whole, or copy it again"
    try:
        for number, (kind, field, value) in enumerate(walk(memoryview(network), "model", DEEPEST)):
            if number == MOST_FIELDS:
                raise ValueError("too many parts")
            if kind == "tensor" and (field == EXTERNAL_DATA or (field == DATA_LOCATION and value != 0)):
                raise ModelError("the network keeps its weights in another file", where=where, fix=fix)
            if kind == "node" and field == OPERATOR and isinstance(value, memoryview) and bytes(value) in LOOPS:
                what = f"the network has a loop (`{bytes(value).decode()}`)"
                raise ModelError(what, where=where, fix="export it without control flow")
    except (IndexError, ValueError) as error:
        raise ModelError("the network cannot be read: it is damaged or cut off", where=where, fix=fix) from error


def walk(message: memoryview, kind: str, depth: int) -> Iterator[tuple[str, int, int | memoryview]]:
    """Yield the fields (message type, number, value) of a serialized message and of the messages in it.

    Raises IndexError or ValueError for a damaged one.
    """
    if depth == 0:
        raise ValueError("nested too deeply")
    for number, value in read_fields(message):
        yield kind, number, value
        inner = PATHS[kind].get(number)
        if inner and isinstance(value, memoryview):
            yield from walk(value, inner, depth - 1)


def read_fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield the fields (number, value) of a serialized message; raises IndexError or ValueError if it is damaged."""
    position, end = 0, len(message)
    while position < end:
        tag, position = read_varint(message, position)
        kind = tag & 7
        if tag < 8:
            raise ValueError("field number 0")
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
