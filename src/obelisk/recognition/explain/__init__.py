"""Pictures that show what an answer rests on, drawn with Pillow alone."""

from __future__ import annotations

from obelisk.recognition.explain.explanation import explain_answer, find_resemblance
from obelisk.recognition.explain.picture_folder import PictureFolder
from obelisk.recognition.explain.seen_photos import SeenPhotos
from obelisk.recognition.explain.strip import (
    StripCell,
    draw_cells,
    draw_recognitions,
    draw_strip,
    name_landmark,
    stack_pictures,
)

__all__ = [
    "PictureFolder",
    "SeenPhotos",
    "StripCell",
    "draw_cells",
    "draw_recognitions",
    "draw_strip",
    "explain_answer",
    "find_resemblance",
    "name_landmark",
    "stack_pictures",
]
