"""Heads of many landmarks: blocks against the plain formula, and a sampled share of the landmarks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from obelisk.training.losses import (
    ArcFace,
    CosFace,
    CurricularFace,
    MarginSoftmax,
    nearest_cosines,
    sample_landmarks,
    subcenters,
)
from obelisk.training.model.pooling import l2n

N, D, C = 9, 8, 11


def plain(features: Tensor, weight: Tensor, K: int) -> Tensor:
    return (l2n(features) @ l2n(weight).T).view(len(features), -1, K).amax(dim=2)


@pytest.mark.parametrize("K", [1, 2, 3])
@pytest.mark.parametrize("at_once", [1, 4, 7, 3072], ids=lambda n: f"{n} sub-centers a block")
def test_cosines_and_slopes_by_blocks_are_those_of_the_plain_formula(
    monkeypatch: pytest.MonkeyPatch, K: int, at_once: int
) -> None:
    monkeypatch.setattr(subcenters, "BLOCK", at_once)
    torch.manual_seed(K)
    features = torch.randn(N, D, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(C * K, D, dtype=torch.float64, requires_grad=True)
    towards = torch.randn(N, C, dtype=torch.float64)
    ours, theirs = nearest_cosines(features, weight, K), plain(features, weight, K)
    torch.testing.assert_close(ours, theirs)
    found = torch.autograd.grad(ours, (features, weight), towards)
    torch.testing.assert_close(found, torch.autograd.grad(theirs, (features, weight), towards))


def test_a_zero_center_has_cosines_of_zero_and_stays_a_number() -> None:
    features, weight = torch.randn(N, D), torch.randn(C, D)
    weight[3] = 0.0
    weight.requires_grad_()
    cosines = nearest_cosines(features, weight, 1)
    (slopes,) = torch.autograd.grad(cosines.sum(), weight)
    assert (cosines[:, 3] == 0.0).all()
    assert slopes.isfinite().all()


def test_slopes_agree_with_differences() -> None:
    torch.manual_seed(1)
    features = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, w: nearest_cosines(x, w, 2), (features, weight))


def test_half_precision_features_are_compared_in_single_precision() -> None:
    torch.manual_seed(2)
    features, weight = torch.randn(N, D).bfloat16(), torch.randn(C, D, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = nearest_cosines(features, weight, 1)
    assert found.dtype == torch.float32
    assert torch.equal(found, nearest_cosines(features.float(), weight, 1))


@settings(deadline=None, max_examples=40)
@given(
    present=st.lists(st.integers(0, 49), min_size=1, max_size=20),
    share=st.floats(0.01, 1.0),
    seed=st.integers(0, 3),
)
def test_a_sample_holds_the_batch_and_fills_up_to_its_share(present: list[int], share: float, seed: int) -> None:
    torch.manual_seed(seed)
    sampled = sample_landmarks(torch.tensor(present), 50, share).tolist()
    assert sampled == sorted(set(sampled))
    assert set(present) <= set(sampled)
    assert len(sampled) == max(len(set(present)), round(share * 50))


def test_every_other_landmark_is_sampled_equally_often() -> None:
    torch.manual_seed(0)
    counts = torch.zeros(20)
    for _ in range(2000):
        counts[sample_landmarks(torch.tensor([3, 7]), 20, 0.5)] += 1
    others = counts[[c for c in range(20) if c not in (3, 7)]] / 2000
    assert counts[3] == counts[7] == 2000
    # 8 of 18 are drawn; five standard deviations are 0.056.
    assert (others - 8 / 18).abs().max() < 0.056


@pytest.mark.parametrize("kind", [ArcFace, CosFace, CurricularFace])
@pytest.mark.parametrize("K", [1, 3])
def test_a_sampled_step_is_that_of_a_smaller_head_and_touches_no_other_row(kind: type[MarginSoftmax], K: int) -> None:
    torch.manual_seed(4)
    features, landmarks = torch.randn(N, D), torch.tensor([1, 1, 4, 9, 9, 9, 0, 4, 1])
    margins = torch.linspace(0.1, 0.5, C)
    loss = kind(D, margins, scale=16.0, subcenters=K, sampled_share=0.6)
    torch.manual_seed(5)
    value = loss(features, landmarks)
    value.backward()
    torch.manual_seed(5)
    sampled = sample_landmarks(landmarks, C, 0.6)
    small = kind(D, margins[sampled], scale=16.0, subcenters=K)
    with torch.no_grad():
        small.weight.copy_(loss.weight.view(C, K, D)[sampled].flatten(0, 1))
    expected = small(features, torch.tensor([sampled.tolist().index(y) for y in landmarks.tolist()]))
    expected.backward()
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    assert loss.weight.grad is not None
    assert small.weight.grad is not None
    gradient = loss.weight.grad.view(C, K, D)
    torch.testing.assert_close(gradient[sampled].flatten(0, 1), small.weight.grad)
    touched = gradient.abs().sum(dim=(1, 2)) > 0
    assert set(touched.nonzero().flatten().tolist()) <= set(sampled.tolist())


def test_all_landmarks_are_compared_with_outside_of_training() -> None:
    torch.manual_seed(6)
    features, landmarks = torch.randn(N, D), torch.randint(C, (N,))
    sampling = ArcFace(D, torch.full((C,), 0.2), scale=16.0, sampled_share=0.5).eval()
    whole = ArcFace(D, torch.full((C,), 0.2), scale=16.0)
    whole.load_state_dict(sampling.state_dict())
    assert sampling(features, landmarks).item() == whole(features, landmarks).item()


def test_a_sampled_head_learns_every_landmark() -> None:
    """Landmarks as directions: after some steps on shares, each is nearest to its own center among all."""
    torch.manual_seed(7)
    directions = torch.randn(40, 16)
    loss = ArcFace(16, torch.full((40,), 0.2), scale=16.0, sampled_share=0.3)
    optimizer = torch.optim.AdamW(loss.parameters(), lr=0.05)
    for _ in range(60):
        landmarks = torch.randint(40, (16,))
        optimizer.zero_grad()
        loss(directions[landmarks] + 0.3 * torch.randn(16, 16), landmarks).backward()
        optimizer.step()
    assert (loss.cosines(directions).argmax(dim=1) == torch.arange(40)).all()
