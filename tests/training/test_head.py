"""Head training on made-up descriptors: it learns, stops early, resumes, and repeats itself to the bit."""

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from obelisk.config import Recipe
from obelisk.errors import ModelError, ObeliskError
from obelisk.training.head import TrainingPhotos, build_head_trainer, train_head
from obelisk.training.model import build_neck
from obelisk.training.optim.checkpoint import CheckpointFile
from obelisk.training.optim.logs import Epoch, StepReport
from obelisk.training.optim.trainer import EmbedderWithLoss

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


ALL_THAT_VARIES = [
    {"kind": "softmax"},
    {"kind": "curricularface"},
    {"kind": "subcenter_arcface", "sampled_share": 0.5},
    {"kind": "triplet", "memory": 64},
]


@pytest.mark.parametrize("loss", ALL_THAT_VARIES, ids=lambda loss: loss["kind"])
def test_a_head_stopped_after_any_step_resumes_to_the_same_weights(loss: dict[str, object], tmp_path: Path) -> None:
    changes = {"epochs": 3, "ema_decay": 0.5, "clip_grad_norm": 1.0}
    plain = recipe_of(str(loss["kind"]), **changes)
    neck = {**dict(plain.neck), "dropout": 0.3}
    recipe = Recipe.model_validate({**plain.model_dump(), "loss": loss, "neck": neck})
    photos, validation = made_up(90, 1), made_up(30, 2)

    def train(name: str, watch: Callable[[StepReport], None], log: list[Epoch]) -> EmbedderWithLoss[nn.Module]:
        torch.manual_seed(recipe.seed)
        neck = build_neck(recipe.neck, (D,), photos.plain())
        trainer = build_head_trainer(recipe, neck, photos, torch.bincount(photos.landmarks), validation)
        trainer.checkpoint = CheckpointFile(path=tmp_path / f"{name}.safetensors", owner="mine")
        trainer.watch, trainer.log = watch, log.append
        return trainer.fit()

    def stop(report: StepReport) -> None:
        if not report.ended:
            signal.raise_signal(signal.SIGTERM)

    expected, log, stops = list[Epoch](), list[Epoch](), 0
    whole = train("whole", lambda report: None, expected)
    for _ in range(1000):
        try:
            resumed = train("stopped", stop, log)
            break
        except SystemExit:
            stops += 1
    assert stops > 5
    assert log == expected
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name
    # A finished head is loaded, not trained again.
    again = train("whole", stop, expected)
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in whole.state_dict().items())
    assert log == expected


def test_a_checkpoint_of_other_photos_is_replaced_if_that_is_allowed(tmp_path: Path) -> None:
    photos = made_up(60, 1)
    recipe, counts = recipe_of("arcface", epochs=2), torch.bincount(photos.landmarks)
    file = CheckpointFile(path=tmp_path / "state.safetensors", owner="mine", replaceable=True)
    first = train_head(recipe, photos, (D,), counts, checkpoint=file)
    other = train_head(recipe, made_up(60, 2), (D,), counts, checkpoint=replace(file, owner="other"))
    assert not torch.equal(weights_of(first), weights_of(other))
    with pytest.raises(ModelError, match="not a checkpoint of this run"):
        train_head(recipe, photos, (D,), counts, checkpoint=replace(file, replaceable=False))


def test_averaged_weights_lag_behind_and_are_what_is_kept() -> None:
    photos = made_up(120, 1)
    counts = torch.bincount(photos.landmarks)

    def distance(decay: float) -> float:
        torch.manual_seed(0)
        start = build_neck(recipe_of("arcface").neck, (D,), photos.plain())
        trained = train_head(recipe_of("arcface", epochs=2, ema_decay=decay), photos, (D,), counts)
        pairs = zip(start.parameters(), trained.neck.parameters(), strict=True)
        return sum(float((one - other).detach().norm()) for one, other in pairs)

    assert 0.0 < distance(0.99) < distance(0.0)


def test_the_gradient_of_the_neck_is_clipped_and_logged() -> None:
    photos = made_up(120, 1)
    counts = torch.bincount(photos.landmarks)
    logs: list[list[Epoch]] = [[], []]
    for limit, log in zip((0.0, 1e-3), logs, strict=True):
        train_head(recipe_of("arcface", epochs=1, clip_grad_norm=limit), photos, (D,), counts, log=log.append)
    (free,), (clipped,) = logs
    assert free.gradient_largest is not None
    assert free.gradient_mean is not None
    assert free.gradient_largest >= free.gradient_mean > 1e-3
    assert clipped.gradient_mean is not None
    assert clipped.gradient_mean > 1e-3  # the norm before clipping
    assert clipped.train_loss != free.train_loss


@pytest.mark.parametrize(("each_epoch", "kept"), [(True, 2), (False, None)])
def test_a_checkpoint_of_each_epoch_waits_for_no_clock(tmp_path: Path, each_epoch: bool, kept: int | None) -> None:
    photos = made_up(120, 1)
    file = CheckpointFile(path=tmp_path / "head.safetensors", owner="own", every=1e9, each_epoch=each_epoch)

    def crash(epoch: Epoch) -> None:
        if epoch.epoch == 3:
            raise InterruptedError

    counts = torch.bincount(photos.landmarks)
    with pytest.raises(InterruptedError):
        train_head(recipe_of("arcface", epochs=5), photos, (D,), counts, checkpoint=file, log=crash)
    if kept is None:
        assert not file.path.exists()
        return
    log: list[Epoch] = []
    train_head(recipe_of("arcface", epochs=5), photos, (D,), counts, checkpoint=file, log=log.append)
    assert [epoch.epoch for epoch in log] == [3, 4, 5]
