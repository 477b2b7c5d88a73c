"""What the trainer asks of a loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn


class Loss(nn.Module):
    """Features (N, D) and true landmarks (N,) → the mean loss of the batch, ().

    Subclasses define ``forward``; the hooks do nothing unless a loss needs them.
    """

    def score_landmarks(self, features: Tensor) -> Tensor | None:
        """Return how well features (N, D) fit each landmark, (N, C); None for a loss that only compares photos."""
        return None

    def start_at_means(self, find_means: Callable[[], Tensor]) -> None:
        """Initialize the landmark weights from the mean embeddings (C, D) that ``find_means`` computes."""

    def after_step(self, all_reduce: Callable[..., Sequence[float]] = lambda *values: values) -> None:
        """Update what follows the optimizer's steps; ``all_reduce`` sums numbers over all processes."""
