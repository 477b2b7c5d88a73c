"""Pair losses on unit embeddings, within a batch or against earlier batches; from pytorch-metric-learning."""

from __future__ import annotations

import torch
from pytorch_metric_learning import losses, miners
from torch import Tensor, nn

from obelisk.training.losses.loss import Loss
from obelisk.training.model.pooling import l2n


class PairLoss(Loss):
    """A loss over mined pairs or triplets of unit embeddings; zero where mining leaves none."""

    def __init__(self, loss: nn.Module, miner: miners.BaseMiner | None) -> None:
        super().__init__()
        self.loss = loss
        self.miner = miner

    def forward(self, features: Tensor, landmarks: Tensor) -> Tensor:
        """Return the mean loss of features (N, D) with true landmarks (N,)."""
        rows = l2n(features)
        mined = self.miner(rows, landmarks) if self.miner else None
        value: Tensor = self.loss(rows, landmarks, mined)
        return value


class Triplet(PairLoss):
    """Triplet loss on unit embeddings with mining inside the batch.

    ``max(0, m + d(a, p) − d(a, n))`` with the L2 distance d, averaged over the mined triplets that are not yet
    satisfied. Schroff, Kalenichenko, Philbin, *FaceNet*, CVPR 2015, equation 3.
    """

    def __init__(self, margin: float, mining: str) -> None:
        super().__init__(losses.TripletMarginLoss(margin=margin), build_miner(mining, margin))


class MultiSimilarity(PairLoss):
    """Multi-similarity loss on unit embeddings with the cosine s, averaged over anchors.

    ``1/α · log(1 + Σ_p e^(−α(s_p − λ))) + 1/β · log(1 + Σ_n e^(β(s_n − λ)))``. Wang, Han, Huang, Dong, Scott,
    *Multi-Similarity Loss with General Pair Weighting*, CVPR 2019, equation 15.
    """

    def __init__(self, *, alpha: float, beta: float, threshold: float, mining: str) -> None:
        super().__init__(losses.MultiSimilarityLoss(alpha=alpha, beta=beta, base=threshold), build_miner(mining, 0.0))


class CrossBatch(Loss):
    """Cross-batch memory: a pair loss of each batch against the last M embeddings, its own among them.

    Embeddings move slowly, so those of earlier steps still serve as positives and negatives. The memory fills only
    while training; in evaluation the loss compares within the batch. M must not be smaller than a batch. Wang, Zhang,
    Huang, Scott, *Cross-Batch Memory for Embedding Learning*, CVPR 2020.
    """

    position: Tensor

    def __init__(self, within_batch: PairLoss, dimensions: int, size: int) -> None:
        super().__init__()
        self.within_batch = within_batch
        self.memory = losses.CrossBatchMemory(within_batch.loss, dimensions, memory_size=size, miner=within_batch.miner)
        # The next row to overwrite, and whether the memory is full: the library keeps both out of its state dict.
        self.register_buffer("position", torch.zeros(2, dtype=torch.long))

    def forward(self, features: Tensor, landmarks: Tensor) -> Tensor:
        """Return the mean loss of features (N, D) with true landmarks (N,), and remember them."""
        if not self.training:
            alone: Tensor = self.within_batch(features, landmarks)
            return alone
        row, full = self.position.tolist()
        self.memory.queue_idx, self.memory.has_been_filled = row, bool(full)
        value: Tensor = self.memory(l2n(features), landmarks)
        self.position.copy_(torch.tensor([self.memory.queue_idx, self.memory.has_been_filled]))
        return value


def build_miner(mining: str, margin: float) -> miners.BaseMiner | None:
    """Build a miner by its name in recipes; None for ``all``, which keeps every pair.

    Batch-hard mining is Hermans, Beyer, Leibe, arXiv:1703.07737; semi-hard FaceNet, CVPR 2015, section 3.2;
    multi-similarity Wang et al., CVPR 2019, section 3.2.
    """
    if mining == "semihard":
        return miners.TripletMarginMiner(margin=margin, type_of_triplets="semihard")
    if mining == "batch_hard":
        return miners.BatchHardMiner()
    if mining == "multi_similarity":
        return miners.MultiSimilarityMiner()
    return None
