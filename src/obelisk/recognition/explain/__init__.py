"""Pictures that show what an answer rests on; drawn with Pillow alone."""

from __future__ import annotations

from obelisk.recognition.explain.explanation import explain_answer
from obelisk.recognition.explain.picture_folder import PictureFolder
from obelisk.recognition.explain.strip import draw_recognitions, draw_strip

__all__ = ["PictureFolder", "draw_recognitions", "draw_strip", "explain_answer"]
