"""The batch: what one step of training takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Photos (n, 3, H, W) or descriptors (n, D_in), with their landmarks (n,) and their indices in the training set.

    Photos that mixup or CutMix has mixed also count for their partners' landmarks, ``others`` (n,), by 1 − ``weight``.
    ``unreadable`` are the errors, by index, of photos that should have been in the batch.
    """

    inputs: Tensor
    landmarks: Tensor
    indices: Sequence[int]
    others: Tensor | None = None
    weight: float = 1.0
    unreadable: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.landmarks)

    def split(self, parts: int, group: int) -> list[Batch]:
        """Split into as many micro-batches, or fewer.

        Where M-per-class sampling draws a ``group`` of photos per landmark, each group stays in one micro-batch.
        """
        if parts == 1:
            return [self]
        return [
            Batch(
                inputs=self.inputs[rows],
                landmarks=self.landmarks[rows],
                indices=self.indices[rows],
                others=None if self.others is None else self.others[rows],
                weight=self.weight,
            )
            for rows in micro_batch_rows(self.landmarks, parts, group)
        ]

    def to(self, device: torch.device) -> Batch:
        """Return the batch with its tensors on a device."""
        if device.type == "cpu":
            return self
        others = None if self.others is None else self.others.to(device)
        return replace(self, inputs=self.inputs.to(device), landmarks=self.landmarks.to(device), others=others)


def micro_batch_rows(landmarks: Tensor, parts: int, group: int) -> list[slice]:
    """Return the rows of each micro-batch of a batch of photos with these landmarks (n,)."""
    groups = torch.unique_consecutive(landmarks, return_counts=True)[1] if group else torch.ones_like(landmarks)
    sizes = [int(part.sum()) for part in groups.tensor_split(min(parts, len(groups)))]
    return [slice(end - size, end) for size, end in zip(sizes, accumulate(sizes), strict=True)]
