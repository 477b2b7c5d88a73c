"""Obelisk names the landmark in a photo.

Four lines are enough::

    import obelisk

    recognizer = obelisk.Recognizer.open()
    for answer in recognizer.recognize(["photo.jpg"]):
        print(answer.landmark or "not a landmark I know", answer.confidence)

Without a name, ``open`` opens the gallery that comes with the package. A photo is a path, bytes, an open file, a Pillow
image or an array. :func:`to_polars` makes a table of answers.

Importing this package is quick: it opens no file and loads no model. Each name below is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from obelisk.errors import ObeliskError, PhotoError, UsageError
    from obelisk.gallery import Gallery
    from obelisk.outputs import to_polars
    from obelisk.recognition import Recognizer
    from obelisk.records import Candidate, Neighbor, Recognition

__version__ = "0.1.0"

__all__ = [
    "Candidate",
    "Gallery",
    "Neighbor",
    "ObeliskError",
    "PhotoError",
    "Recognition",
    "Recognizer",
    "UsageError",
    "__version__",
    "to_polars",
]

_HOMES = {
    "Candidate": "obelisk.records",
    "Gallery": "obelisk.gallery",
    "Neighbor": "obelisk.records",
    "ObeliskError": "obelisk.errors",
    "PhotoError": "obelisk.errors",
    "Recognition": "obelisk.records",
    "Recognizer": "obelisk.recognition",
    "UsageError": "obelisk.errors",
    "to_polars": "obelisk.outputs",
}

_FORMER_NAMES = {"Neighbour": "Neighbor"}  # resolved, not listed: scripts may still import them


def __getattr__(name: str) -> Any:
    name = _FORMER_NAMES.get(name, name)
    if name not in _HOMES:
        raise AttributeError(f"module 'obelisk' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
