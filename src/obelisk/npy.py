"""Read `.npy` files that somebody else may have made.

``np.load`` also takes pickles and zip archives, evaluates the header as Python, and allocates what it claims before
anything is read. This reader takes what ``np.save`` writes of numbers and ASCII strings, and nothing else.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAGIC = b"\x93NUMPY"
LONGEST_HEADER = 2000  # bytes
# Integers, floating-point numbers and ASCII strings, alone or in a table's columns; never Python objects.
TYPE = r"'[<>|][iufS][1-9]\d{0,3}'"
COLUMN = rf"\('\w{{1,40}}', {TYPE}\)"
HEADER = re.compile(
    rf"\{{'descr': (?P<type>{TYPE}|\[{COLUMN}(?:, {COLUMN}){{0,19}}\]), "
    r"'fortran_order': (?P<fortran>True|False), "
    r"'shape': \((?P<shape>|\d{1,18},|\d{1,18}(?:, \d{1,18}){1,7})\), \} *\n",
    re.ASCII,
)


def parse_npy(content: bytes) -> NDArray[Any]:
    """Return the array in the content of a `.npy` file, which need not be trusted; the array can't be written to.

    Raises ValueError, whose text is the reason, for anything else and for a file of another size than its header says.
    """
    start = {b"\1": 10, b"\2": 12, b"\3": 12}.get(content[6:7])  # version → where the header begins
    if start is None or not content.startswith(MAGIC):
        raise ValueError("it is not a NumPy array (.npy)")
    length = int.from_bytes(content[8:start], "little")
    header = content[start : start + min(length, LONGEST_HEADER)].decode("latin-1")
    found = HEADER.fullmatch(header)
    if found is None:
        raise ValueError(f"the header of the array cannot be read: {header[:100]!r}")
    dtype = npy_type(found["type"])
    shape = tuple(int(side) for side in re.findall(r"\d+", found["shape"]))
    size = start + length + math.prod(shape) * dtype.itemsize
    if len(content) != size:
        raise ValueError(f"an array {shape} of {dtype} takes {size:,} bytes, not {len(content):,}")
    flat: NDArray[Any] = np.frombuffer(content, dtype, offset=start + length)
    return flat.reshape(shape, order="F" if found["fortran"] == "True" else "C")


def npy_type(text: str) -> np.dtype[Any]:
    """Return the element type that a `.npy` header states, one type or a table's columns; raises ValueError."""
    fields = re.findall(r"\('(\w+)', '([^']+)'\)", text)
    try:
        return np.dtype(fields) if fields else np.dtype(text.strip("'"))
    except (TypeError, ValueError) as error:
        raise ValueError(f"the array has elements of an unknown type: {text[:100]}") from error
