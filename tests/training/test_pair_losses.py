"""Pair losses against their equations read literally, inside the batch and with a memory of earlier ones."""

import copy
import math

import pytest
import torch
from torch import Tensor

from obelisk.training.losses import CrossBatch, MultiSimilarity, Triplet
from obelisk.training.model.pooling import l2n

N, D, C = 24, 16, 7


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    torch.manual_seed(3)
    return torch.randn(N, D), torch.randint(C, (N,))


def test_triplet_over_all_triplets_agrees_with_the_equation(batch: tuple[Tensor, Tensor]) -> None:
    features, landmarks = batch
    rows = torch.nn.functional.normalize(features, dim=1)
    terms = [
        max(0.0, 0.2 + (rows[a] - rows[p]).norm().item() - (rows[a] - rows[n]).norm().item())
        for a in range(N)
        for p in range(N)
        for n in range(N)
        if a != p and landmarks[a] == landmarks[p] and landmarks[a] != landmarks[n]
    ]
    active = [term for term in terms if term > 0]
    assert Triplet(0.2, "all")(features, landmarks).item() == pytest.approx(sum(active) / len(active), rel=1e-4)


def test_batch_hard_takes_the_farthest_positive_and_the_nearest_negative(batch: tuple[Tensor, Tensor]) -> None:
    features, landmarks = batch
    rows = torch.nn.functional.normalize(features, dim=1)
    terms = []
    for a in range(N):
        away = (rows - rows[a]).norm(dim=1)
        positives = [away[p].item() for p in range(N) if p != a and landmarks[p] == landmarks[a]]
        negatives = [away[n].item() for n in range(N) if landmarks[n] != landmarks[a]]
        if positives:
            terms.append(max(0.0, 0.2 + max(positives) - min(negatives)))
    active = [term for term in terms if term > 0]
    assert Triplet(0.2, "batch_hard")(features, landmarks).item() == pytest.approx(sum(active) / len(active), rel=1e-4)


def literal_multi_similarity(features: Tensor, landmarks: Tensor, memory: Tensor, known: Tensor, own: int) -> float:
    """Equation 15 with α = 2, β = 50, λ = 0.5; rows of the memory from ``own`` on are the batch itself."""
    rows, references, total = l2n(features), l2n(memory), 0.0
    for i in range(len(rows)):
        others = [(float(rows[i] @ references[j]), known[j] == landmarks[i]) for j in range(len(known)) if j != own + i]
        positives = sum(math.exp(-2 * (s - 0.5)) for s, same in others if same)
        negatives = sum(math.exp(50 * (s - 0.5)) for s, same in others if not same)
        total += math.log1p(positives) / 2 + math.log1p(negatives) / 50
    return total / len(rows)


def multi_similarity(mining: str = "all") -> MultiSimilarity:
    return MultiSimilarity(alpha=2.0, beta=50.0, threshold=0.5, mining=mining)


def test_multi_similarity_agrees_with_the_equation(batch: tuple[Tensor, Tensor]) -> None:
    expected = literal_multi_similarity(*batch, *batch, own=0)
    assert multi_similarity()(*batch).item() == pytest.approx(expected, rel=1e-4)


def test_multi_similarity_mining_keeps_the_pairs_of_its_two_rules(batch: tuple[Tensor, Tensor]) -> None:
    """Negatives above the least similar positive − 0.1, positives below the most similar negative + 0.1."""
    features, landmarks = batch
    similarity = l2n(features) @ l2n(features).T
    total = 0.0
    for i in range(N):
        same = [j for j in range(N) if j != i and landmarks[j] == landmarks[i]]
        other = [j for j in range(N) if landmarks[j] != landmarks[i]]
        if not same:
            continue
        near, far = max(similarity[i, other]), min(similarity[i, same])
        positives = sum(math.exp(-2 * (similarity[i, j] - 0.5)) for j in same if similarity[i, j] < near + 0.1)
        negatives = sum(math.exp(50 * (similarity[i, j] - 0.5)) for j in other if similarity[i, j] > far - 0.1)
        total += math.log1p(positives) / 2 + math.log1p(negatives) / 50
    assert multi_similarity("multi_similarity")(*batch).item() == pytest.approx(total / N, rel=1e-4)


def made_up_batches(count: int) -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(5)
    return [(torch.randn(8, D), torch.randint(C, (8,))) for _ in range(count)]


def test_a_memory_compares_with_the_last_embeddings_its_own_batch_among_them() -> None:
    loss = CrossBatch(multi_similarity(), D, 24)
    batches = made_up_batches(6)
    for step, (features, landmarks) in enumerate(batches):
        # Three batches fill the memory; later ones take the place of the oldest.
        kept = batches[max(0, step - 2) : step + 1]
        memory, known = (torch.cat(tensors) for tensors in zip(*kept, strict=True))
        expected = literal_multi_similarity(features, landmarks, memory, known, own=len(known) - 8)
        assert loss(features, landmarks).item() == pytest.approx(expected, rel=1e-4)


def test_validation_neither_looks_into_the_memory_nor_fills_it(batch: tuple[Tensor, Tensor]) -> None:
    loss = CrossBatch(multi_similarity(), D, 64)
    loss(*made_up_batches(1)[0])
    before = copy.deepcopy(loss.state_dict())
    loss.eval()
    assert loss(*batch).item() == multi_similarity()(*batch).item()
    assert all(torch.equal(tensor, before[name]) for name, tensor in loss.state_dict().items())


@pytest.mark.parametrize("steps", [1, 4], ids=["a memory half full", "a memory that has turned over"])
def test_a_memory_goes_on_from_its_state_as_if_nothing_had_happened(steps: int) -> None:
    *before, last = made_up_batches(steps + 1)
    loss, again = (CrossBatch(Triplet(0.2, "batch_hard"), D, 24) for _ in range(2))
    for each in before:
        loss(*each)
    again.load_state_dict(loss.state_dict())
    assert again(*last).item() == loss(*last).item()
    assert again.position.tolist() == loss.position.tolist()


@pytest.mark.parametrize("mining", ["all", "semihard", "batch_hard", "multi_similarity"])
def test_a_landmark_of_one_photo_serves_as_a_negative_and_breaks_nothing(mining: str) -> None:
    """M-per-class sampling gives its only photo M times, at distance zero of itself."""
    torch.manual_seed(6)
    photos = torch.randn(3, D, requires_grad=True)
    features, landmarks = photos[[0, 0, 1, 2]], torch.tensor([0, 0, 1, 1])
    value = Triplet(2.0, mining)(features, landmarks)
    value.backward()
    assert torch.isfinite(value)
    assert photos.grad is not None
    assert torch.isfinite(photos.grad).all()
