"""Head training on made-up descriptors: it learns, stops early, resumes, and repeats itself to the bit."""

import pytest
import torch
from torch import Tensor

from obelisk.config import Recipe
from obelisk.errors import ObeliskError
from obelisk.training.head import TrainingPhotos, train_head
from obelisk.training.optim.logs import Epoch

C, D = 12, 32


def made_up(photos: int, seed: int) -> TrainingPhotos:
    """Landmarks as directions, photos as noisy copies, three views each; half of the noise is shared by all."""
    rng = torch.Generator().manual_seed(99)
    directions = torch.randn(C, D, generator=rng)
    nuisance = torch.randn(3, D, generator=rng) * 4
    rng = torch.Generator().manual_seed(seed)
    landmarks = torch.arange(photos) % C
    views = directions[landmarks] + torch.randn(3, photos, 3, generator=rng) @ nuisance
    return TrainingPhotos(views=views.half(), landmarks=landmarks)


def recipe_of(kind: str, **changes: object) -> Recipe:
    return Recipe.model_validate(
        {
            "name": kind,
            "neck": {"kind": "linear", "dimensions": 8, "dropout": 0.0, "normalize_parts": False},
            "loss": {"kind": kind, "margin": 0.2},
            "training": {"epochs": 30, "batch_size": 32, "photos_per_landmark": 4, "learning_rate": 1e-2} | changes,
            "classifier": {"kind": "softmax" if kind == "softmax" else "knn"},
        }
    )


def weights_of(trained: object) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in trained.neck.state_dict().values()])  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["softmax", "triplet", "arcface", "subcenter_arcface"])
def test_every_loss_learns_to_ignore_what_landmarks_share(kind: str) -> None:
    photos, validation = made_up(240, 1), made_up(120, 2)
    before = nearest_top1(photos, validation)
    log: list[Epoch] = []
    train_head(recipe_of(kind), photos, (D,), torch.bincount(photos.landmarks), validation=validation, log=log.append)
    assert max(epoch.val_top1 or 0.0 for epoch in log) > max(0.9, before + 0.1)
    assert log[-1].train_loss < log[0].train_loss


def nearest_top1(photos: TrainingPhotos, validation: TrainingPhotos) -> float:
    distances = torch.cdist(validation.plain(), photos.plain())
    return (photos.landmarks[distances.argmin(dim=1)] == validation.landmarks).float().mean().item()


def test_one_seed_gives_equal_weights_and_another_does_not() -> None:
    photos = made_up(120, 1)
    counts = torch.bincount(photos.landmarks)
    first, again = (train_head(recipe_of("arcface", epochs=3), photos, (D,), counts) for _ in range(2))
    other = train_head(recipe_of("arcface", epochs=3).model_copy(update={"seed": 1}), photos, (D,), counts)
    assert torch.equal(weights_of(first), weights_of(again))
    assert not torch.equal(weights_of(first), weights_of(other))


def test_training_stops_when_validation_gets_no_better_and_keeps_the_best_epoch() -> None:
    photos = made_up(120, 1)
    # Validation labels that mean nothing: no epoch after a lucky one helps.
    validation = TrainingPhotos(views=made_up(60, 2).views[:1], landmarks=torch.arange(60).flip(0) % C)
    log: list[Epoch] = []
    trained = train_head(
        recipe_of("arcface", epochs=200, patience=3),
        photos,
        (D,),
        torch.bincount(photos.landmarks),
        validation=validation,
        log=log.append,
    )
    assert len(log) == trained.best_epoch + 3 < 200


def test_a_refit_stops_at_the_given_epoch_of_the_same_schedule() -> None:
    photos = made_up(120, 1)
    counts = torch.bincount(photos.landmarks)
    whole: list[Epoch] = []
    part: list[Epoch] = []
    train_head(recipe_of("arcface"), photos, (D,), counts, log=whole.append)
    train_head(recipe_of("arcface"), photos, (D,), counts, stop_after=5, log=part.append)
    assert part == whole[:5]


def test_a_diverging_loss_stops_the_training_and_says_what_to_do() -> None:
    photos = made_up(60, 1)
    broken = TrainingPhotos(views=photos.views * float("inf"), landmarks=photos.landmarks)
    with pytest.raises(ObeliskError, match=r"loss became nan.*lower training.learning_rate"):
        train_head(recipe_of("softmax"), broken, (D,), torch.bincount(photos.landmarks))
