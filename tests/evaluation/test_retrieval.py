"""Geometry brings the photo of the same scene to the front, and leaves photos without a file where they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from obelisk.errors import UsageError
from obelisk.evaluation import Retrieval
from obelisk.evaluation.part_search import NearestRows
from obelisk.evaluation.retrieval import reorder
from obelisk.evaluation.revisited_protocol import move_ranks
from obelisk.records import no_progress
from obelisk.synthetic import render_distractor


def test_the_photo_of_the_same_scene_comes_first(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="verification needs OpenCV")
    photos = [render_distractor(7, number, size=256) for number in range(3)]
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for photo, file in zip(photos, files, strict=True):
        photo.save(file)
    query = photos[2].resize((240, 240), Image.Resampling.BICUBIC).rotate(3)
    nearest = NearestRows(
        indices=np.array([[7, 0, 1, 2]]),  # 7 is beyond the files
        similarities=np.array([[0.9, 0.8, 0.7, 0.6]], np.float32),
        rows=np.zeros((1, 4, 2), np.float32),
    )
    order = reorder(nearest, [query], files, no_progress)
    np.testing.assert_array_equal(order, [[2, 7, 0, 1]])
    ranks = move_ranks(np.array([3, 1, 12]), np.array([2, 0, 5]), order[0])
    np.testing.assert_array_equal(ranks, [0, 2, 12])


def test_unknown_expansions_are_refused() -> None:
    with pytest.raises(UsageError, match="unknown expansion"):
        Retrieval(expand="all")
