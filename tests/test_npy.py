"""Arrays from files that nobody vouches for."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from obelisk.npy import parse_npy


def save(array: NDArray[Any], version: tuple[int, int] | None = None) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=version)
    return file.getvalue()


def claim(header: str, data: bytes = b"") -> bytes:
    """A file whose header says what it likes."""
    padded = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded + data


TABLE = np.array([(b"0/a.jpg", 512, 7), (b"0/b.jpg", 2**40, 9)], [("path", "S9"), ("offset", "<i8"), ("bytes", "<i8")])


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float16).reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=">f4").reshape(2, 3)),
        np.arange(5, dtype=np.uint8),
        np.zeros((0, 4), np.int64),
        np.array(3.5),
        np.array([b"a", b"bc"]),
        TABLE,
    ],
)
def test_what_numpy_saves_is_read_as_numpy_reads_it(array: NDArray[Any], version: tuple[int, int]) -> None:
    content = save(array, version)
    found, expected = parse_npy(content), np.load(io.BytesIO(content))
    np.testing.assert_array_equal(found, expected, strict=True)


ROW = "{'descr': '<f2', 'fortran_order': False, 'shape': (1, 2), }"
HOSTILE = {
    "empty": b"",
    "text": b"calibration",
    "a pickle": b"\x80\x04N.",
    "a zip archive": b"PK\x03\x04" + bytes(26),
    "only the magic": b"\x93NUMPY",
    "version 9": b"\x93NUMPY\x09" + save(np.zeros((1, 2), np.float16))[7:],
    "no header": b"\x93NUMPY\x01\x00\x00\x00",
    "a header of 4 GB": b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + ROW.encode(),
    "a bracket that never closes": claim("{'descr': '<f2', 'shape': (((((", bytes(4)),
    "10,000 brackets": claim("(" * 10_000),
    "a shape of 2**40": claim(ROW.replace("(1, 2)", f"({2**40},)"), bytes(4)),
    "a shape whose product overflows": claim(ROW.replace("(1, 2)", "(4294967296, 4294967296, 2)"), bytes(4)),
    "a side of 400 digits": claim(ROW.replace("(1, 2)", f"({'9' * 400},)"), bytes(4)),
    "a negative side": claim(ROW.replace("(1, 2)", "(-1, -2)"), bytes(4)),
    "a fraction as side": claim(ROW.replace("(1, 2)", "(1.0, 2)"), bytes(4)),
    "Python objects": claim(ROW.replace("<f2", "|O"), bytes(16)),
    "a call": claim(ROW.replace("'<f2'", "print(1)"), bytes(4)),
    "elements of no bytes": claim(ROW.replace("<f2", "|S0")),
    "elements of 2 GB": claim(ROW.replace("<f2", "|S2147483647")),
    "a float of 3 bytes": claim(ROW.replace("<f2", "<f3"), bytes(6)),
    "a column twice": claim(ROW.replace("'<f2'", "[('a', '<f2'), ('a', '<f2')]"), bytes(8)),
    "a table in a column": claim(ROW.replace("'<f2'", "[('a', [('b', '<f2')])]"), bytes(4)),
    "bytes missing": save(np.zeros((3, 2)))[:-1],
    "bytes left over": save(np.zeros((3, 2))) + b"0",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_plain_array_is_refused_before_anything_is_allocated(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a NumPy array|header of the array|unknown type|takes .* bytes, not"):
        parse_npy(content)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4), st.integers(0, 300))
def test_a_damaged_array_is_read_or_refused(changes: list[tuple[int, int]], length: int) -> None:
    content = bytearray(save(TABLE))
    for position, value in changes:
        content[position % len(content)] = value
    with contextlib.suppress(ValueError):
        parse_npy(bytes(content[:length]))
