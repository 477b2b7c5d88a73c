"""``ranges.json``: which activations of a bundle's networks may be computed in int8, and their value ranges.

This attachment maps the file of each network to tensors, and each tensor to the smallest and largest value that its
256 levels represent::

    {"model.onnx": {"hardtanh_1": [0.0, 6.0], "add_208": [-31.2, 28.7]}}

A convolution whose input is named here may be computed from rounded values, with its weights rounded to 255 levels a
channel (Jacob et al., *Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference*,
CVPR 2018); other convolutions may not. A runtime is free to ignore this, because the network holds float weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, TypeAdapter

from obelisk.embedding.strict_json import parse_json

RANGES = "ranges.json"
LEVELS = 256

Range = tuple[float, float]
Ranges = Mapping[str, Range]


def check_range(values: Range) -> Range:
    """Raise ValueError for an empty range, and for one without the zero that convolutions pad with."""
    low, high = values
    if not low <= 0.0 <= high or low == high:
        raise ValueError(f"from {low} to {high} is not a range that includes 0")
    return values


FILE: TypeAdapter[dict[str, dict[str, Range]]] = TypeAdapter(
    dict[str, dict[str, Annotated[Range, AfterValidator(check_range)]]], config=ConfigDict(allow_inf_nan=False)
)


def read_ranges(content: bytes, where: Path) -> dict[str, dict[str, Range]]:
    """Parse the attachment: network → tensor → range; raises ModelError if it cannot be used."""
    return parse_json(content, FILE, where=where / RANGES, what="ranges", fix="copy or export the bundle again")


def pack_ranges(ranges: Mapping[str, Ranges]) -> bytes:
    """Serialize network → tensor → range as the attachment."""
    return (json.dumps({file: dict(tensors) for file, tensors in ranges.items()}, indent=1) + "\n").encode()
