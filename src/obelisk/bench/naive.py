"""The same work the way it is done without Obelisk: timm in eager float32, and scikit-learn's neighbours.

It is what ``obelisk bench`` is held against, written as a reader of both libraries' first pages would write it.
The network's weights and the references are random: they make no difference to the time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.neighbors import NearestNeighbors

from obelisk.photos import ModelInput

BATCH = 32
NEIGHBOURS = 3


class EagerRecognizer:
    """A timm backbone and the neighbours among so many reference rows."""

    def __init__(self, backbone: str, rule: ModelInput, *, references: int) -> None:
        self._model = timm.create_model(backbone, pretrained=False, num_classes=0).eval()
        config = {"input_size": (3, rule.size, rule.size), "mean": rule.mean, "std": rule.std, "crop_pct": 1.0}
        self._transform = timm.data.create_transform(**config, interpolation="bicubic")
        rows = np.random.default_rng(0).standard_normal((references, self._model.num_features), dtype=np.float32)
        self._neighbours = NearestNeighbors(n_neighbors=min(NEIGHBOURS, references), metric="cosine").fit(rows)

    def recognize(self, photos: Sequence[Path]) -> Iterator[NDArray[np.int64]]:
        """Yield the places of the nearest references, (n, k), of n photos at a time."""
        for start in range(0, len(photos), BATCH):
            with torch.inference_mode():
                # Read as anybody would: whole, by suffix or content, whatever its size.
                pixels = [self._transform(Image.open(photo).convert("RGB")) for photo in photos[start : start + BATCH]]
                rows = self._model(torch.stack(pixels)).numpy()
            yield self._neighbours.kneighbors(rows, return_distance=False)
