"""The same work without Obelisk: timm in eager float32, and scikit-learn's nearest neighbors.

``obelisk bench`` compares Obelisk with this. It follows the introductory pages of both libraries. The weights and the
references are random; that makes no difference to the time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from sklearn.neighbors import NearestNeighbors

from obelisk.arrays import Integers
from obelisk.photos import ModelInput

BATCH_SIZE = 32
NEIGHBORS = 3


class NaiveRecognizer:
    """A timm backbone and a nearest-neighbor search among ``references`` random rows."""

    def __init__(self, backbone: str, rule: ModelInput, *, references: int) -> None:
        self._model = timm.create_model(backbone, pretrained=False, num_classes=0).eval()
        config = {"input_size": (3, rule.size, rule.size), "mean": rule.mean, "std": rule.std, "crop_pct": 1.0}
        self._transform = timm.data.create_transform(**config, interpolation="bicubic")
        rows = np.random.default_rng(0).standard_normal((references, self._model.num_features), dtype=np.float32)
        self._neighbors = NearestNeighbors(n_neighbors=min(NEIGHBORS, references), metric="cosine").fit(rows)

    def recognize(self, photos: Sequence[Path]) -> Iterator[Integers]:
        """Yield the row indices of the nearest references, (n, k), for n photos at a time."""
        for start in range(0, len(photos), BATCH_SIZE):
            with torch.inference_mode():
                batch = photos[start : start + BATCH_SIZE]
                # The obvious way to read a photo: at full size.
                pixels = torch.stack([self._transform(Image.open(photo).convert("RGB")) for photo in batch])
                embeddings = self._model(pixels).numpy()
            yield self._neighbors.kneighbors(embeddings, return_distance=False)
