"""Instance discrimination against its equations read literally, and the pairs of views that it needs."""

import math

import pytest
import torch
from torch import Tensor

from obelisk.config import LossSection, TrainingSection
from obelisk.training.head import DescriptorBatches, TrainingPhotos
from obelisk.training.losses import ArcFace, InstanceDiscrimination, build_loss
from obelisk.training.model.pooling import l2n

N, D, C = 24, 16, 5
TEMPERATURE, ENTROPY, WEIGHT = 0.1, 3.0, 0.7


@pytest.fixture
def pairs() -> tuple[Tensor, Tensor]:
    """Rows 2i and 2i + 1 are near each other."""
    torch.manual_seed(5)
    centers = torch.randn(N // 2, D).repeat_interleave(2, dim=0)
    return 3.0 * (centers + 0.3 * torch.randn(N, D)), torch.randint(C, (N // 2,)).repeat_interleave(2)


@pytest.fixture
def loss() -> InstanceDiscrimination:
    torch.manual_seed(6)
    section = LossSection(
        kind="arcface", instance=WEIGHT, instance_temperature=TEMPERATURE, instance_entropy=ENTROPY, margin=0.2
    )
    built = build_loss(section, D, torch.full((C,), 4))
    assert isinstance(built, InstanceDiscrimination)
    return built


def literal(features: Tensor, landmarks: Tensor) -> float:
    rows, total = l2n(features.double()), 0.0
    for i in range(N):
        j = i + 1 if i % 2 == 0 else i - 1
        others = [k for k in range(N) if landmarks[k] != landmarks[i]]
        found = math.exp(float(rows[i] @ rows[j]) / TEMPERATURE)
        total -= math.log(found / (found + sum(math.exp(float(rows[i] @ rows[k]) / TEMPERATURE) for k in others)))
        total -= ENTROPY * math.log(min(float((rows[i] - rows[k]).norm()) for k in others))
    return total / N


def test_the_loss_agrees_with_the_equation(loss: InstanceDiscrimination, pairs: tuple[Tensor, Tensor]) -> None:
    features, landmarks = pairs
    alone = loss.within(features, landmarks).item()
    assert loss.train()(features, landmarks).item() == pytest.approx(
        alone + WEIGHT * literal(features, landmarks), rel=1e-5
    )


def test_only_the_inner_loss_counts_in_evaluation(loss: InstanceDiscrimination, pairs: tuple[Tensor, Tensor]) -> None:
    features, landmarks = pairs
    assert torch.equal(loss.eval()(features, landmarks), loss.within(features, landmarks))
    assert torch.equal(loss.score_landmarks(features), loss.within.score_landmarks(features))


def test_a_batch_of_one_landmark_adds_nothing(loss: InstanceDiscrimination, pairs: tuple[Tensor, Tensor]) -> None:
    features, landmarks = pairs[0].requires_grad_(), torch.zeros_like(pairs[1])
    value = loss.train()(features, landmarks)
    value.backward()
    assert value.item() == pytest.approx(loss.within(features, landmarks).item())
    assert features.grad is not None
    assert features.grad.isfinite().all()


def test_equal_photos_of_two_landmarks_have_finite_gradients(loss: InstanceDiscrimination) -> None:
    features = torch.ones(4, D, requires_grad=True)
    loss.train()(features, torch.tensor([0, 0, 1, 1])).backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()


def test_training_pulls_the_views_of_a_photo_together(pairs: tuple[Tensor, Tensor]) -> None:
    features = torch.nn.Parameter(torch.randn(N, D))
    loss = InstanceDiscrimination(
        ArcFace(D, torch.zeros(C), scale=1e-6), weight=1.0, temperature=0.05, entropy=0.0
    ).train()
    optimizer = torch.optim.SGD([features], lr=5.0)
    for _ in range(50):
        optimizer.zero_grad()
        loss(features, pairs[1]).backward()
        optimizer.step()
    rows = l2n(features.detach())
    own = (rows[::2] * rows[1::2]).sum(dim=1)
    others = (rows @ rows.T)[pairs[1][:, None] != pairs[1]]
    assert own.min() > others.max()


def test_heads_see_each_photo_in_two_different_views() -> None:
    descriptors = torch.arange(3.0)[:, None, None] + 10.0 * torch.arange(7.0)[None, :, None]
    photos = TrainingPhotos(views=descriptors, landmarks=torch.arange(7) % 3)
    section = TrainingSection(epochs=4, batch_size=4)
    for batch in DescriptorBatches(photos=photos, section=section, seed=0, views_at_once=2).stream(0, 0):
        photo, view = batch.inputs[:, 0] // 10, batch.inputs[:, 0] % 10
        assert torch.equal(photo[::2], photo[1::2])
        assert (view[::2] != view[1::2]).all()
        assert photo.int().tolist() == list(batch.indices)
        assert torch.equal(batch.landmarks, photos.landmarks[photo.long()])


def test_the_only_view_of_a_photo_comes_twice() -> None:
    photos = TrainingPhotos(views=torch.arange(5.0)[None, :, None], landmarks=torch.arange(5) % 2)
    (batch,) = DescriptorBatches(
        photos=photos, section=TrainingSection(epochs=1, batch_size=8), seed=0, views_at_once=2
    ).stream(0, 0)
    assert torch.equal(batch.inputs[::2], batch.inputs[1::2])
    assert len(batch) == 10
