"""The dense softmax layer."""

from __future__ import annotations

from torch import Tensor, nn

from obelisk.training.losses.loss import Loss


class Softmax(Loss):
    """Cross entropy over a dense layer of C landmarks."""

    def __init__(self, dimensions: int, landmarks: int, *, label_smoothing: float = 0.0, dropout: float = 0.0) -> None:
        super().__init__()
        self.classifier = nn.Linear(dimensions, landmarks)
        self.dropout = nn.Dropout(dropout)
        self.label_smoothing = label_smoothing

    def logits(self, features: Tensor) -> Tensor:
        """Return logits (N, C)."""
        scores: Tensor = self.classifier(self.dropout(features))
        return scores

    def score_landmarks(self, features: Tensor) -> Tensor:
        """Return the logits (N, C)."""
        return self.logits(features)

    def forward(self, features: Tensor, landmarks: Tensor) -> Tensor:
        """Return the mean loss of features (N, D) with true landmarks (N,)."""
        return nn.functional.cross_entropy(self.logits(features), landmarks, label_smoothing=self.label_smoothing)
