"""The margin softmax family, on all landmarks or on a sampled share of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from obelisk.training.distributed import Distributed, ShardedWeight
from obelisk.training.losses.class_parallel import GatherRows, ShardedCrossEntropy
from obelisk.training.losses.loss import Loss
from obelisk.training.losses.subcenters import nearest_cosines

DRAWN_AT_ONCE = 4096  # rows of random numbers; a multiple of the 16 numbers that torch draws at a time
EDGE = 1e-6  # keeps acos away from ±1, where its gradient is infinite


class MarginSoftmax(Loss, ShardedWeight):
    """Cross entropy over ``s · cos θ_j`` with a margin on the true landmark: the base of the family.

    ``margins`` (C,) is one margin per landmark. ``weight`` (C · K, D) holds the K sub-centers of each landmark one
    after the other, of any length.

    With ``sampled_share`` r below 1, a training step compares with the landmarks of its batch and with random others,
    r · C together, and only their centers get a gradient: Partial FC. An et al., *Killing Two Birds with One Stone:
    Efficient and Robust Training of Face Recognition CNNs by Partial FC*, CVPR 2022.

    With ``dist``, each of its processes keeps the weights of its own share of the landmarks
    (:mod:`obelisk.training.losses.class_parallel`); all must call the loss together.
    """

    margins: Tensor

    def __init__(
        self,
        dimensions: int,
        margins: Tensor,
        *,
        scale: float,
        subcenters: int = 1,
        sampled_share: float = 1.0,
        dist: Distributed | None = None,
    ) -> None:
        super().__init__()
        self.dist = dist or Distributed()
        self.own = self.dist.share(len(margins))
        if self.dist.size > 1:
            self.row_counts = [subcenters * count for count in self.dist.share_sizes(len(margins))]
        self.weight = nn.Parameter(torch.empty(len(self.own) * subcenters, dimensions))
        if self.dist.size == 1:
            nn.init.xavier_normal_(self.weight)
        else:
            spread = (2.0 / (len(margins) * subcenters + dimensions)) ** 0.5
            drawn = draw_rows(len(margins), subcenters * dimensions, self.own).view_as(self.weight)
            self.weight.data.copy_(drawn).mul_(spread)
        self.register_buffer("margins", margins)
        self.scale = scale
        self.subcenters = subcenters
        self.sampled_share = sampled_share

    def cosines(self, features: Tensor) -> Tensor:
        """Return cos θ, (N, C), of each feature row with the nearest center of each landmark."""
        return nearest_cosines(features, self.weight, self.subcenters)

    def score_landmarks(self, features: Tensor) -> Tensor | None:
        """Return the cosines (N, C), without margins; None where this process has only a share of the landmarks."""
        return None if self.dist.size > 1 else self.cosines(features)

    def add_margin(self, cosines: Tensor, columns: Tensor, margins: Tensor) -> Tensor:
        """Apply ``margins`` (N,) to the true cosines, at ``columns`` (N,), of cosines (N, C)."""
        raise NotImplementedError

    def forward(self, features: Tensor, landmarks: Tensor) -> Tensor:
        """Return the mean loss of features (N, D) with true landmarks (N,)."""
        if self.dist.size > 1:
            return self.join_processes(features, landmarks)
        if self.training and self.sampled_share < 1.0:
            sampled = sample_landmarks(landmarks, len(self.margins), self.sampled_share)
            rows = sampled[:, None] * self.subcenters + torch.arange(self.subcenters, device=sampled.device)
            cosines = nearest_cosines(features, self.weight[rows.flatten()], self.subcenters)
            columns = torch.searchsorted(sampled, landmarks)
        else:
            cosines, columns = self.cosines(features), landmarks
        modified = self.add_margin(cosines, columns, self.margins[landmarks])
        self.note_cosines(cosines.detach().gather(1, columns[:, None]))
        logits = self.scale * self.weigh_negatives(modified, modified.gather(1, columns[:, None]))
        return nn.functional.cross_entropy(logits, columns)

    def join_processes(self, features: Tensor, landmarks: Tensor) -> Tensor:
        """Return the mean loss of this process's features, compared with the landmarks of all processes."""
        dist, counts = self.dist, self.dist.count_rows(features)
        wide = features if features.dtype == torch.float64 else features.float()
        every, truths = GatherRows.apply(wide, dist, counts), dist.gather_rows(landmarks, counts)
        cosines = self.cosines(every)
        mine = (truths >= self.own.start) & (truths < self.own.stop)
        columns = (truths - self.own.start).clamp(0, len(self.own) - 1)
        place = columns[:, None]
        plain = cosines.gather(1, place)
        self.note_cosines(plain.detach()[mine])

        # The margin is for the true cosine alone, which one process has.
        modified = self.add_margin(cosines, columns, self.margins[truths])
        true = torch.where(mine[:, None], modified.gather(1, place), plain)
        modified = modified.scatter(1, place, true)
        true = dist.reduce(torch.where(mine[:, None], true.detach(), 0.0))
        logits = self.scale * self.weigh_negatives(modified, true)

        losses: Tensor = ShardedCrossEntropy.apply(logits, columns, mine, dist)
        first = sum(counts[: dist.rank])
        return losses[first : first + len(features)].mean()

    def weigh_negatives(self, modified: Tensor, true: Tensor) -> Tensor:
        """Weight the cosines (N, C) with a margin by how they compare with the true ones, ``true`` (N, 1)."""
        return modified

    def note_cosines(self, true: Tensor) -> None:
        """Look at true cosines (n, 1) without a margin."""

    @torch.no_grad()
    def start_at_means(self, find_means: Callable[[], Tensor]) -> None:
        """Set the centers to the landmarks' mean embeddings (C, D) and some noise.

        From random centers the neck would first learn to turn towards them, and forget what its whitening knew.
        """
        means = find_means()
        width = means.shape[1]
        noise = draw_rows(len(means), self.subcenters * width, self.own).view(-1, self.subcenters, width)
        noise *= 0.5 / width**0.5
        # One sub-center sits on the mean; further ones lie around it, so that they can specialize.
        noise[:, 0] *= 0.01
        self.weight.copy_((means[self.own.start : self.own.stop, None] + noise).flatten(0, 1))


class ArcFace(MarginSoftmax):
    """ArcFace: an additive angular margin, ``cos θ_y → cos(θ_y + m_y)``, ``margins`` (C,) in radians.

    Deng, Guo, Xue, Zafeiriou, *ArcFace*, CVPR 2019, equation 3. Unequal margins are the dynamic margins of
    :func:`dynamic_margins`.
    """

    def add_margin(self, cosines: Tensor, columns: Tensor, margins: Tensor) -> Tensor:
        """Replace the true cosines by cos(θ + m)."""
        return add_angular_margin(cosines, columns, margins)


class SubCenterArcFace(ArcFace):
    """Sub-center ArcFace: ArcFace in which each landmark has K centers, of which the nearest counts.

    Deng, Guo, Liu, Gong, Zafeiriou, *Sub-center ArcFace*, ECCV 2020, equation 4.
    """

    def __init__(self, dimensions: int, margins: Tensor, *, scale: float, subcenters: int = 3, **shared: Any) -> None:
        super().__init__(dimensions, margins, scale=scale, subcenters=subcenters, **shared)


class CosFace(MarginSoftmax):
    """CosFace: ``margins`` (C,) are subtracted from the true cosine itself."""

    def add_margin(self, cosines: Tensor, columns: Tensor, margins: Tensor) -> Tensor:
        """Replace the true cosines by cos θ − m."""
        return add_cosine_margin(cosines, columns, margins)


class CurricularFace(ArcFace):
    """CurricularFace: ArcFace that turns to hard negatives as the true cosines get better.

    t follows the mean true cosine r of the batches, ``t ← 0.01 · r + 0.99 · t``, from 0. Huang et al., CVPR 2020,
    equation 7. It moves after the step, when all micro-batches have been seen on all processes. (In the authors' code
    a batch comes whole, and t moves just before it is used.)
    """

    t: Tensor

    def __init__(self, dimensions: int, margins: Tensor, *, scale: float, **shared: Any) -> None:
        super().__init__(dimensions, margins, scale=scale, **shared)
        self.register_buffer("t", torch.zeros(()))
        self.seen = (0.0, 0)  # sum and number of the true cosines of the current step

    def note_cosines(self, true: Tensor) -> None:
        """While training, add up r."""
        if self.training:
            total, count = self.seen
            self.seen = (total + true.sum(dtype=torch.float64).item(), count + len(true))

    def weigh_negatives(self, modified: Tensor, true: Tensor) -> Tensor:
        """Weight hard negatives by t."""
        return modulate_hard_negatives(modified, true, self.t)

    def after_step(self, all_reduce: Callable[..., Sequence[float]] = lambda *values: values) -> None:
        """Move t by the photos of the step, on all processes."""
        total, count = all_reduce(*self.seen)
        if count:
            self.t.lerp_(self.t.new_tensor(total / count), 0.01)
        self.seen = (0.0, 0)


def add_angular_margin(cosines: Tensor, landmarks: Tensor, margins: Tensor) -> Tensor:
    """Replace each true cosine, cos θ_y, by cos(θ_y + m_y) in cosines (N, C).

    ``landmarks`` (N,) are the true columns, ``margins`` (N,) radians. Past θ + m = π the cosine would rise again
    and reward a worse angle; there the modified logit is ``cos θ − m · sin m`` instead, which keeps falling, as in
    the authors' code. Deng, Guo, Xue, Zafeiriou, *ArcFace*, CVPR 2019, equation 3.
    """
    true = cosines.gather(1, landmarks[:, None]).squeeze(1).clamp(-1 + EDGE, 1 - EDGE)
    modified = torch.cos(torch.acos(true) + margins)
    past_the_turn = true < -torch.cos(margins)
    modified = torch.where(past_the_turn, true - margins * torch.sin(margins), modified)
    return cosines.scatter(1, landmarks[:, None], modified[:, None])


def add_cosine_margin(cosines: Tensor, landmarks: Tensor, margins: Tensor) -> Tensor:
    """Replace each true cosine by cos θ_y − m_y, with ``margins`` (N,) in units of the cosine.

    Wang, Wang, Zhou, Ji, Gong, Zhou, Li, Liu, *CosFace*, CVPR 2018, equation 4.
    """
    return cosines.scatter_add(1, landmarks[:, None], -margins[:, None])


def modulate_hard_negatives(modified: Tensor, true: Tensor, t: Tensor) -> Tensor:
    """Replace cos θ_j by cos θ_j · (t + cos θ_j) if it exceeds the true landmark's modified cosine, ``true`` (N, 1).

    ``t`` () is near 0 early in training, which plays hard negatives down, and grows towards 1, which plays them up.
    Huang, Wang, Tai, Liu, Shen, Li, Li, Huang, *CurricularFace*, CVPR 2020, equation 6.
    """
    return torch.where(modified > true, modified * (t + modified), modified)


def dynamic_margins(photo_counts: Tensor, smallest: float, extra: float) -> Tensor:
    """Compute a margin per landmark, (C,), from the number of its reference photos, ``photo_counts`` (C,).

    ``m_c = smallest + extra · minmax(n_c^(−1/4))``: the most photographed landmark gets ``smallest``, the least
    photographed ``smallest + extra``. Ha, Liu, Kim, Lee, Park, *Google Landmark Recognition 2020 Competition Third
    Place Solution*, arXiv:2010.05350, section 2.2.
    """
    rarity = photo_counts.clamp(min=1).to(torch.float32).pow(-0.25)
    span = rarity.max() - rarity.min()
    if span == 0:
        return torch.full_like(rarity, smallest)
    return smallest + extra * (rarity - rarity.min()) / span


def draw_rows(count: int, width: int, own: range) -> Tensor:
    """Draw those rows of a normal matrix (count, width) that are ``own``: the same ones as if all were kept."""
    if len(own) == count:
        return torch.randn(count, width)
    kept = []
    for start in range(0, count, DRAWN_AT_ONCE):
        rows = torch.randn(min(DRAWN_AT_ONCE, count - start), width)
        kept.append(rows[max(0, own.start - start) : max(0, own.stop - start)])
    return torch.cat(kept)


def sample_landmarks(landmarks: Tensor, count: int, share: float) -> Tensor:
    """Return ``share`` of ``count`` landmarks, sorted: all of ``landmarks`` (N,), and others at random.

    There are more when the batch alone has more. The others are drawn from torch's own generator.
    """
    priorities = torch.rand(count, device=landmarks.device)
    priorities[landmarks] = 2.0
    present = int((priorities == 2.0).sum())
    return torch.topk(priorities, max(present, round(share * count))).indices.sort().values
