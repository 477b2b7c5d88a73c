"""The margin softmax family, on all landmarks or on a sampled share of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from obelisk.training.losses.margins import add_angular_margin, add_cosine_margin, raise_hard_negatives
from obelisk.training.losses.subcenters import compare


class MarginSoftmax(nn.Module):
    """ArcFace; with several centres a landmark, sub-center ArcFace; with unequal margins, dynamic margins.

    ``margins`` (C,) in radians; ``weight`` (C · K, D) holds the K centres of each landmark one after the other, of any
    length. Deng, Guo, Liu, Gong, Zafeiriou, *Sub-center ArcFace*, ECCV 2020, equation 4.

    With ``sampled_share`` r below 1, a training step compares with the landmarks of its batch and with random others,
    r · C together, and only their centres get a gradient. An et al., *Killing Two Birds with One Stone: Efficient and
    Robust Training of Face Recognition CNNs by Partial FC*, CVPR 2022.
    """

    margins: Tensor

    def __init__(
        self, dimensions: int, margins: Tensor, *, scale: float, centres: int = 1, sampled_share: float = 1.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(len(margins) * centres, dimensions))
        nn.init.xavier_normal_(self.weight)
        self.register_buffer("margins", margins)
        self.scale = scale
        self.centres = centres
        self.sampled_share = sampled_share

    def cosines(self, features: Tensor) -> Tensor:
        """Return cos θ, (N, C), of each row with the nearest centre of each landmark."""
        return compare(features, self.weight, self.centres)

    def handicap(self, cosines: Tensor, columns: Tensor, margins: Tensor) -> Tensor:
        """Return cosines (N, C) with the true ones, at ``columns`` (N,), made worse by ``margins`` (N,)."""
        return add_angular_margin(cosines, columns, margins)

    def forward(self, features: Tensor, landmarks: Tensor) -> Tensor:
        """Return the mean loss of features (N, D) with true landmarks (N,)."""
        if self.training and self.sampled_share < 1.0:
            sampled = sample_landmarks(landmarks, len(self.margins), self.sampled_share)
            rows = sampled[:, None] * self.centres + torch.arange(self.centres, device=sampled.device)
            cosines = compare(features, self.weight[rows.flatten()], self.centres)
            columns = torch.searchsorted(sampled, landmarks)
        else:
            cosines, columns = self.cosines(features), landmarks
        handicapped = self.handicap(cosines, columns, self.margins[landmarks])
        return nn.functional.cross_entropy(self.scale * handicapped, columns)


class CosFace(MarginSoftmax):
    """CosFace: as ArcFace, with ``margins`` (C,) taken off the true cosine itself."""

    def handicap(self, cosines: Tensor, columns: Tensor, margins: Tensor) -> Tensor:
        """Return cosines (N, C) with the true ones, at ``columns`` (N,), made smaller by ``margins`` (N,)."""
        return add_cosine_margin(cosines, columns, margins)


class CurricularFace(MarginSoftmax):
    """CurricularFace: ArcFace that turns to hard negatives as the true cosines get better.

    t follows the mean true cosine r of the batches, ``t ← 0.01 · r + 0.99 · t``, from 0. Huang et al., CVPR 2020,
    equation 7. It moves at the end of a step: only then all parts of a batch have been seen, on all processes. (The
    authors' code, where a batch comes whole, moves it just before it is used.)
    """

    t: Tensor

    def __init__(
        self, dimensions: int, margins: Tensor, *, scale: float, centres: int = 1, sampled_share: float = 1.0
    ) -> None:
        super().__init__(dimensions, margins, scale=scale, centres=centres, sampled_share=sampled_share)
        self.register_buffer("t", torch.zeros(()))
        self.seen = (0.0, 0)  # sum and number of the true cosines of the step that goes on

    def handicap(self, cosines: Tensor, columns: Tensor, margins: Tensor) -> Tensor:
        """Return cosines (N, C) with true ones made worse and hard negatives weighed by t; training notes r."""
        if self.training:
            total, count = self.seen
            true = cosines.detach().gather(1, columns[:, None])
            self.seen = (total + true.sum(dtype=torch.float64).item(), count + len(true))
        return raise_hard_negatives(add_angular_margin(cosines, columns, margins), columns, self.t)

    def end_step(self, sum_over: Callable[..., Sequence[float]] = lambda *values: values) -> None:
        """Move t by the step's photos; ``sum_over`` adds numbers up over all processes."""
        total, count = sum_over(*self.seen)
        if count:
            self.t.lerp_(self.t.new_tensor(total / count), 0.01)
        self.seen = (0.0, 0)


def sample_landmarks(landmarks: Tensor, count: int, share: float) -> Tensor:
    """Return ``share`` of ``count`` landmarks, sorted: all of ``landmarks`` (N,), and others at random.

    More than the share when the batch alone has more. The others are drawn from torch's own generator.
    """
    chances = torch.rand(count, device=landmarks.device)
    chances[landmarks] = 2.0
    present = int((chances == 2.0).sum())
    return torch.topk(chances, max(present, round(share * count))).indices.sort().values
