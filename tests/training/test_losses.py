"""The losses against a reference library, and against the papers read literally."""

import math

import pytest
import torch
from pytorch_metric_learning import losses as reference_losses
from torch import Tensor

from obelisk.config import LossSection
from obelisk.training.losses import (
    ArcFace,
    CosFace,
    CurricularFace,
    MarginSoftmax,
    SubCenterArcFace,
    add_angular_margin,
    build_loss,
    dynamic_margins,
)

N, D, C = 24, 16, 7


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    torch.manual_seed(3)
    return torch.randn(N, D), torch.randint(C, (N,))


@pytest.mark.parametrize("degrees", [0.0, 5.0, 28.6, 57.0], ids=lambda d: f"margin of {d} degrees")
@pytest.mark.parametrize("scale", [1.0, 30.0, 64.0], ids=lambda s: f"scale {s}")
def test_arcface_agrees_with_the_reference_library(batch: tuple[Tensor, Tensor], degrees: float, scale: float) -> None:
    features, landmarks = batch
    ours = ArcFace(D, torch.full((C,), math.radians(degrees)), scale=scale)
    theirs = reference_losses.ArcFaceLoss(num_classes=C, embedding_size=D, margin=degrees, scale=scale)
    with torch.no_grad():
        theirs.W.copy_(ours.weight.T)
    assert ours(features, landmarks).item() == pytest.approx(theirs(features, landmarks).item(), rel=1e-4)


@pytest.mark.parametrize("subcenters", [1, 2, 3])
def test_subcenter_arcface_agrees_with_the_reference_library(batch: tuple[Tensor, Tensor], subcenters: int) -> None:
    features, landmarks = batch
    ours = SubCenterArcFace(D, torch.full((C,), 0.4), scale=32.0, subcenters=subcenters)
    theirs = reference_losses.SubCenterArcFaceLoss(
        num_classes=C, embedding_size=D, margin=math.degrees(0.4), scale=32.0, sub_centers=subcenters
    )
    with torch.no_grad():
        theirs.W.copy_(ours.weight.T)
    assert ours(features, landmarks).item() == pytest.approx(theirs(features, landmarks).item(), rel=1e-4)


def literal_margin_softmax(loss: MarginSoftmax, features: Tensor, landmarks: Tensor) -> float:
    """Read the equations aloud: one photo, one landmark, one sub-center at a time."""
    total = 0.0
    for x, y in zip(features.double(), landmarks.tolist(), strict=True):
        logits = []
        for j in range(C):
            cosines = []
            for k in range(loss.subcenters):
                w = loss.weight[j * loss.subcenters + k].detach().double()
                cosines.append(float(x @ w / (x.norm() * w.norm())))
            theta = math.acos(max(cosines))
            if j == y:
                margin = float(loss.margins[j])
                value = (
                    math.cos(theta + margin)
                    if theta + margin < math.pi
                    else (math.cos(theta) - margin * math.sin(math.pi - margin))
                )
            else:
                value = math.cos(theta)
            logits.append(loss.scale * value)
        highest = max(logits)
        total += highest + math.log(sum(math.exp(logit - highest) for logit in logits)) - logits[y]
    return total / len(landmarks)


@pytest.mark.parametrize("subcenters", [1, 3])
def test_dynamic_margins_agree_with_the_equations(batch: tuple[Tensor, Tensor], subcenters: int) -> None:
    features, landmarks = batch
    margins = dynamic_margins(torch.tensor([3, 254, 8, 8, 40, 5, 90]), 0.05, 0.45)
    loss = SubCenterArcFace(D, margins, scale=20.0, subcenters=subcenters)
    assert loss(features, landmarks).item() == pytest.approx(
        literal_margin_softmax(loss, features, landmarks), rel=1e-4
    )


@pytest.mark.parametrize("margin", [0.0, 0.2, 0.35])
def test_cosface_agrees_with_the_reference_library(batch: tuple[Tensor, Tensor], margin: float) -> None:
    features, landmarks = batch
    ours = CosFace(D, torch.full((C,), margin), scale=30.0)
    theirs = reference_losses.CosFaceLoss(num_classes=C, embedding_size=D, margin=margin, scale=30.0)
    with torch.no_grad():
        theirs.W.copy_(ours.weight.T)
    assert ours(features, landmarks).item() == pytest.approx(theirs(features, landmarks).item(), rel=1e-4)


def literal_curricularface(loss: CurricularFace, features: Tensor, landmarks: Tensor, t: float) -> tuple[float, float]:
    """Read equations 6 and 7 aloud; return the loss of a step that t leads into, and the t that it leaves."""
    weight, margin = loss.weight.detach().double(), float(loss.margins[0])
    cosines = [[float(x @ w / (x.norm() * w.norm())) for w in weight] for x in features.double()]
    true = [row[y] for row, y in zip(cosines, landmarks.tolist(), strict=True)]
    total = 0.0
    for row, y in zip(cosines, landmarks.tolist(), strict=True):
        modified = math.cos(math.acos(row[y]) + margin)
        logits = [loss.scale * (modified if j == y else c if modified >= c else c * (t + c)) for j, c in enumerate(row)]
        total += math.log(sum(math.exp(logit) for logit in logits)) - logits[y]
    return total / len(true), 0.01 * sum(true) / len(true) + 0.99 * t


def test_curricularface_agrees_with_the_equations_step_by_step() -> None:
    torch.manual_seed(8)
    # Features near their landmarks, so that t rises and stays clear of zero.
    loss = CurricularFace(D, torch.full((C,), 0.5), scale=16.0)
    t = 0.0
    for _ in range(5):
        landmarks = torch.randint(C, (N,))
        features = loss.weight.detach()[landmarks] + 0.2 * torch.randn(N, D)
        expected, t = literal_curricularface(loss, features, landmarks, t)
        assert loss(features, landmarks).item() == pytest.approx(expected, rel=1e-4)
        loss.after_step()
        assert loss.t.item() == pytest.approx(t, rel=1e-4)
    assert t > 0.0


def test_curricularface_keeps_its_t_outside_of_training(batch: tuple[Tensor, Tensor]) -> None:
    loss = CurricularFace(D, torch.full((C,), 0.5), scale=16.0)
    loss(*batch)
    loss.after_step()
    before = loss.t.item()
    loss.eval()(*batch)
    loss.after_step()
    assert loss.t.item() == before != 0.0


@pytest.mark.parametrize("cuts", [[12, 12], [1, 20, 3]], ids=["even parts", "uneven parts"])
def test_curricularface_moves_its_t_by_a_batch_in_parts_as_by_the_whole(
    batch: tuple[Tensor, Tensor], cuts: list[int]
) -> None:
    whole, parted = (CurricularFace(D, torch.full((C,), 0.5), scale=16.0) for _ in range(2))
    parted.load_state_dict(whole.state_dict())
    whole(*batch)
    whole.after_step()
    for features, landmarks in zip(*(torch.split(each, cuts) for each in batch), strict=True):
        parted(features, landmarks)
    parted.after_step()
    assert parted.t.item() == pytest.approx(whole.t.item(), rel=1e-5)
    assert whole.t.item() != 0.0


def test_curricularface_moves_its_t_by_the_photos_of_all_processes(batch: tuple[Tensor, Tensor]) -> None:
    loss = CurricularFace(D, torch.full((C,), 0.5), scale=16.0)
    loss(*batch)
    # Another process with as many photos, whose true cosines are all 1.
    mine, _ = loss.seen
    loss.after_step(lambda total, count: (total + N, count + N))
    assert loss.t.item() == pytest.approx(0.01 * (mine + N) / (2 * N), rel=1e-5)


def test_label_smoothing_spreads_its_share_over_all_landmarks(batch: tuple[Tensor, Tensor]) -> None:
    features, landmarks = batch
    section = LossSection(kind="softmax", label_smoothing=0.1)
    loss = build_loss(section, D, torch.bincount(landmarks, minlength=C))
    logs = loss.logits(features).log_softmax(dim=1)
    wanted = torch.full((N, C), 0.1 / C).scatter_add(1, landmarks[:, None], torch.full((N, 1), 0.9))
    assert loss(features, landmarks).item() == pytest.approx(-(wanted * logs).sum(dim=1).mean().item(), rel=1e-5)


def test_dynamic_margins_run_from_the_most_to_the_least_photographed() -> None:
    margins = dynamic_margins(torch.tensor([254, 3, 20]), 0.05, 0.45)
    assert margins[0] == pytest.approx(0.05)
    assert margins[1] == pytest.approx(0.50)
    assert 0.05 < margins[2] < 0.50
    # The third place's own numbers: the fourth root of the count, inverted and stretched to [0, 1].
    expected = (20**-0.25 - 254**-0.25) / (3**-0.25 - 254**-0.25)
    assert margins[2] == pytest.approx(0.05 + 0.45 * expected, rel=1e-5)


def test_equal_counts_give_equal_margins() -> None:
    assert dynamic_margins(torch.tensor([4, 4, 4]), 0.1, 0.4).tolist() == pytest.approx([0.1, 0.1, 0.1])


def test_the_margin_keeps_falling_past_the_turn() -> None:
    """A worse angle must never be rewarded, not even where θ + m passes π."""
    angles = torch.linspace(0.01, math.pi - 0.01, 400)
    modified = add_angular_margin(
        torch.cos(angles)[:, None], torch.zeros(400, dtype=torch.long), torch.full((400,), 0.5)
    ).squeeze(1)
    assert (modified.diff() < 0).all()


def test_gradients_stay_finite_at_perfect_and_opposite_angles() -> None:
    loss = ArcFace(2, torch.tensor([0.5, 0.5]), scale=64.0)
    with torch.no_grad():
        loss.weight.copy_(torch.eye(2))
    features = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], requires_grad=True)
    loss(features, torch.tensor([0, 0])).backward()
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()


@pytest.mark.parametrize(
    "keys",
    [
        {"kind": "softmax"},
        {"kind": "softmax", "label_smoothing": 0.1},
        {"kind": "arcface"},
        {"kind": "arcface", "sampled_share": 0.5},
        {"kind": "cosface"},
        {"kind": "curricularface"},
        {"kind": "subcenter_arcface", "margin_range": 0.3},
        {"kind": "triplet", "mining": "all"},
        {"kind": "triplet", "mining": "semihard"},
        {"kind": "triplet", "mining": "batch_hard"},
        {"kind": "triplet", "mining": "multi_similarity"},
        {"kind": "triplet", "memory": 64},
        {"kind": "multi_similarity", "mining": "all"},
        {"kind": "multi_similarity", "mining": "multi_similarity"},
        {"kind": "multi_similarity", "mining": "multi_similarity", "memory": 64},
    ],
    ids=lambda keys: ", ".join(map(str, keys.values())),
)
def test_every_loss_of_a_recipe_can_be_built_and_learned_from(
    batch: tuple[Tensor, Tensor], keys: dict[str, object]
) -> None:
    features, landmarks = batch
    features.requires_grad_()
    section = LossSection.model_validate(keys)
    value = build_loss(section, D, torch.bincount(landmarks, minlength=C))(features, landmarks)
    value.backward()
    assert torch.isfinite(value)
    assert features.grad is not None
    assert features.grad.abs().sum() > 0
