"""Instance discrimination beside another loss: every photo is told apart, whatever it shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from obelisk.training.losses.loss import Loss
from obelisk.training.model.pooling import l2n

NEAREST = 1e-8  # added to distances, whose logarithm has no bound


class InstanceDiscrimination(Loss):
    """A loss, and beside it one that finds each photo's other view among photos of other landmarks.

    While it trains, rows 2i and 2i + 1 show two views of one photo. With unit rows z, the other view j of row i, and
    N_i the rows of other landmarks, the loss is that of ``within`` plus ``weight`` times the mean over i of ::

        −log( e^(z_i·z_j / τ) / (e^(z_i·z_j / τ) + Σ_{k ∈ N_i} e^(z_i·z_k / τ)) )  −  λ · log min_{k ∈ N_i} |z_i − z_k|

    InfoNCE with ``temperature`` τ, and the differential entropy with weight λ = ``entropy``, which spreads embeddings
    evenly. Other photos of the same landmark play no part: ``within`` draws them together. A row without others adds
    nothing. In evaluation, where photos come in one view, only ``within`` counts. Pizzi, Roy, Ravindra, Goyal, Douze,
    *A Self-Supervised Descriptor for Image Copy Detection*, CVPR 2022, equations 2 to 5.
    """

    def __init__(self, within: Loss, *, weight: float, temperature: float, entropy: float) -> None:
        super().__init__()
        self.within = within
        self.weight = weight
        self.temperature = temperature
        self.entropy = entropy

    def forward(self, features: Tensor, landmarks: Tensor) -> Tensor:
        """Return the mean loss of features (N, D) with true landmarks (N,)."""
        value: Tensor = self.within(features, landmarks)
        if not self.training:
            return value
        with torch.autocast(features.device.type, enabled=False):
            rows = l2n(features.float())
            same = landmarks[:, None] == landmarks
            terms = info_nce(rows, same, self.temperature)
            if self.entropy:
                terms = terms - self.entropy * log_distances(rows, same)
        return value + self.weight * terms.mean()

    def score_landmarks(self, features: Tensor) -> Tensor | None:
        """Return the scores of ``within``."""
        return self.within.score_landmarks(features)

    def start_at_means(self, find_means: Callable[[], Tensor]) -> None:
        """Initialize the landmark weights of ``within``."""
        self.within.start_at_means(find_means)

    def after_step(self, all_reduce: Callable[..., Sequence[float]] = lambda *values: values) -> None:
        """Update ``within``."""
        self.within.after_step(all_reduce)


def info_nce(rows: Tensor, same: Tensor, temperature: float) -> Tensor:
    """Return for each unit row of (N, D) how poorly it finds its other view, (N,).

    ``same`` (N, N) is true where two rows show the same landmark.
    """
    logits = rows @ rows.T / temperature
    index = torch.arange(len(rows), device=rows.device)
    found = logits[index, index ^ 1]
    others = logits.masked_fill(same, -torch.inf).logsumexp(dim=1)
    return nn.functional.softplus(others - found)


def log_distances(rows: Tensor, same: Tensor) -> Tensor:
    """Return the logarithm of the distance from each unit row of (N, D) to the nearest of another landmark, (N,).

    It is 0 for a row without others.
    """
    nearest = (rows @ rows.T).masked_fill(same, -torch.inf).argmax(dim=1)
    distances = (rows - rows[nearest]).norm(dim=1) + NEAREST
    return torch.where(same.all(dim=1), 0.0, distances.log())
