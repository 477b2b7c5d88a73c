"""Fine-tuning: what moves, what stays, what it is held against, and that a stop costs nothing."""

import copy
import functools
import json
import math
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from obelisk.config import Recipe, ViewsSection, load_recipe
from obelisk.data import read_catalog
from obelisk.embedding import Embedder
from obelisk.errors import DataError, ModelError, ObeliskError, RecipeError
from obelisk.evaluation.run_reader import Run
from obelisk.photos import ModelInput, prepare, read_photo
from obelisk.synthetic import generate_dataset
from obelisk.training.export.onnx import check_export
from obelisk.training.export.restore import load_module
from obelisk.training.finetune import finetune, interpolate, part_distance
from obelisk.training.loading.augmentation import AugmentedView, augmented_views
from obelisk.training.loading.batch import micro_batch_rows
from obelisk.training.loading.loader import LabeledPhotos
from obelisk.training.loading.photo_batches import photo_side
from obelisk.training.loading.samplers import epoch_batches, epoch_seed
from obelisk.training.losses import ArcFace, CurricularFace, InstanceDiscrimination, Loss
from obelisk.training.model import (
    Necks,
    PhotoEmbedder,
    PooledBackbone,
    avg,
    build_neck,
    create_network,
    export_backbone,
    load_backbones,
)
from obelisk.training.optim.checkpoint import CheckpointFile
from obelisk.training.optim.logs import Epoch, StepReport
from obelisk.training.optim.optimizer import group_layers
from obelisk.training.optim.trainer import EmbedderWithLoss, Trainer, Validation
from obelisk.training.train import train_run

pytestmark = pytest.mark.usefixtures("loads_in_process")

TINY = "test_efficientnet"
SIZE = 64


@pytest.fixture
def photos(tiny_dataset: Path, tmp_path: Path) -> LabeledPhotos:
    catalog = read_catalog(shutil.copytree(tiny_dataset, tmp_path / "photos"))
    _, labels = np.unique(catalog.references["landmark_id"].to_numpy(), return_inverse=True)
    rule = ModelInput(size=SIZE, resize="squash", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    paths = catalog.locate_photos(catalog.references)
    return LabeledPhotos(paths=paths, landmarks=torch.from_numpy(labels), rule=rule)


def build(recipe: Recipe, landmarks: int) -> tuple[PhotoEmbedder, tuple[int, ...], Loss]:
    """Build a small network, the same each time."""
    network, _ = create_network(TINY, "random", 0)
    backbone = PooledBackbone(network, avg, 2).eval()
    parts = backbone.measure_parts(SIZE)
    torch.manual_seed(0)
    neck = build_neck(recipe.neck, parts)
    kind = CurricularFace if recipe.loss.kind == "curricularface" else ArcFace
    loss: Loss = kind(neck.dimensions, torch.full((landmarks,), 0.2), scale=16.0)
    if weight := recipe.loss.instance:
        loss = InstanceDiscrimination(loss, weight=weight, temperature=0.05, entropy=0.0)
    return PhotoEmbedder([backbone], Necks([neck], [sum(parts)])).eval(), parts, loss


@pytest.fixture
def tune(photos: LabeledPhotos, tmp_path: Path) -> Callable[..., tuple[PhotoEmbedder, PhotoEmbedder, list[Epoch]]]:
    def run(
        checkpoint: str = "state.safetensors",
        *overrides: str,
        watch: Callable[[StepReport], None] = lambda report: None,
        **section: object,
    ) -> tuple[PhotoEmbedder, PhotoEmbedder, list[Epoch]]:
        keys = {"epochs": 2, "batch_size": 16, "learning_rate": 1e-3, **section}
        keys_and_values = [f"finetuning.{key}={toml(value)}" for key, value in keys.items()]
        recipe = load_recipe("arcface", ["data.refit=false", *overrides, *keys_and_values])
        embedder, parts, loss = build(recipe, int(photos.landmarks.max()) + 1)
        before, log = copy.deepcopy(embedder), list[Epoch]()
        tuned, _ = finetune(
            recipe,
            embedder,
            parts,
            loss,
            photos,
            validation=photos,
            checkpoint=CheckpointFile(path=tmp_path / checkpoint, owner=recipe.fingerprint),
            log=log.append,
            watch=watch,
        )
        return before, tuned, log

    return run


def toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def moved(before: PhotoEmbedder, after: PhotoEmbedder) -> list[bool]:
    """Tell of each layer group whether it changed."""
    pairs = zip(group_layers(before.only_backbone.network), group_layers(after.only_backbone.network), strict=True)
    return [
        any(not torch.equal(one, other) for one, other in zip(layer, others, strict=True)) for layer, others in pairs
    ]


@pytest.mark.parametrize("frozen", [0, 2])
def test_frozen_groups_stay_and_the_others_move(tune: Callable[..., tuple], frozen: int) -> None:
    before, after, log = tune(frozen_groups=frozen)
    changed = moved(before, after)
    assert changed == [False] * frozen + [True] * (len(changed) - frozen)
    assert [epoch.epoch for epoch in log] == [1, 2]
    assert all(epoch.val_loss is not None and 0.0 <= epoch.val_top1 <= 1.0 for epoch in log)


def test_batch_norms_keep_their_statistics(tune: Callable[..., tuple]) -> None:
    before, after, _ = tune()
    kept = {name: tensor for name, tensor in before.state_dict().items() if "running" in name}
    assert kept
    assert all(torch.equal(after.state_dict()[name], tensor) for name, tensor in kept.items())


def test_every_epoch_sees_views_that_nothing_saw_before(
    tune: Callable[..., tuple], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {view.name for view in augmented_views(ViewsSection(count=2), 0)}
    augment = AugmentedView.__call__

    def note(view: AugmentedView, *photo: Any) -> Any:
        seen.add(view.name)
        return augment(view, *photo)

    monkeypatch.setattr(AugmentedView, "__call__", note)
    tune("state.safetensors", "views.count=2", epochs=3)
    assert len(seen) == 5


def test_it_learns_the_photos_it_sees(tune: Callable[..., tuple]) -> None:
    *_, log = tune(epochs=8)
    assert log[-1].val_loss < log[0].val_loss


def test_a_share_of_one_gives_the_frozen_weights_back(tune: Callable[..., tuple]) -> None:
    before, after, _ = tune(frozen_share=1.0)
    assert not any(moved(before, after))


def test_interpolation_is_linear_and_leaves_counters() -> None:
    before = {"w": torch.zeros(3), "n": torch.tensor(1)}
    after = {"w": torch.ones(3), "n": torch.tensor(7)}
    assert torch.allclose(interpolate(before, after, 0.25)["w"], torch.full((3,), 0.75))
    assert interpolate(before, after, 0.25)["n"] == 7


def test_distillation_keeps_the_descriptors_near_the_frozen_ones(
    tune: Callable[..., tuple], photos: LabeledPhotos
) -> None:
    def drift(weight: float) -> float:
        before, after, _ = tune(f"{weight}.safetensors", epochs=4, distillation=weight)
        rows = torch.randn(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            return float(part_distance(after.extract(rows), before.extract(rows), before.necks.widths))

    assert drift(50.0) < drift(0.0) / 2


def test_part_distance_is_the_mean_of_one_minus_cosine() -> None:
    # Parts of 2 and 1 columns: at right angles (1), and opposite (2).
    one, other = torch.tensor([[1.0, 0.0, 3.0]]), torch.tensor([[0.0, 5.0, -1.0]])
    assert part_distance(one, other, [2, 1]).item() == pytest.approx(1.5)


ALL_THAT_VARIES = ("loss.kind=curricularface", "backbone.pooling=gem", "views.erasing=0.5", "views.blur=0.02")


@pytest.mark.parametrize(
    ("overrides", "more"),
    [
        ((), {}),
        # At this rate the last epoch is not the best one.
        ((), {"ema_decay": 0.9, "keep": "best", "learning_rate": 3e-3}),
        (
            ALL_THAT_VARIES,
            {"ema_decay": 0.9, "mixup": 0.5, "cutmix": 1.0, "start_size": 32, "learned_exponent": True},
        ),
    ],
    ids=["as little as possible", "best averaged weights", "all that varies"],
)
def test_a_run_stopped_after_any_step_resumes_to_the_same_weights(
    tune: Callable[..., tuple], overrides: tuple[str, ...], more: dict
) -> None:
    keys = {"epochs": 2, "batch_size": 20, "micro_batches": 2, **more}
    _, whole, expected = tune("whole.safetensors", *overrides, **keys)
    steps, stops = 0, 0

    def stop(report: StepReport) -> None:
        nonlocal steps
        if not report.ended:
            steps += 1
            signal.raise_signal(signal.SIGTERM)

    resumed = log = None
    for _ in range(1000):
        try:
            _, resumed, log = tune("stopped.safetensors", *overrides, watch=stop, **keys)
            break
        except SystemExit:
            stops += 1
    assert stops == steps > 4
    assert log == expected[1:]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name


def test_photos_grow_from_the_start_size_to_the_whole_one() -> None:
    section = load_recipe("arcface", ["finetuning.epochs=5", "finetuning.start_size=100"]).finetuning
    assert [photo_side(section, 224, epoch) for epoch in range(5)] == [100, 128, 160, 192, 224]
    assert photo_side(load_recipe("arcface", ["finetuning.epochs=5"]).finetuning, 224, 0) == 224


def test_early_epochs_see_small_photos_and_validation_whole_ones(
    tune: Callable[..., tuple], monkeypatch: pytest.MonkeyPatch
) -> None:
    sides = []

    def note(network: PhotoEmbedder, photos: torch.Tensor) -> torch.Tensor:
        sides.append((torch.is_inference_mode_enabled(), photos.shape[-1]))
        return extract(network, photos)

    extract = PhotoEmbedder.extract
    monkeypatch.setattr(PhotoEmbedder, "extract", note)
    tune(start_size=32, batch_size=16)
    assert list(dict.fromkeys(sides)) == [(False, 32), (True, SIZE), (False, SIZE)]


def test_a_learned_exponent_moves_in_each_stage_and_is_exported(tune: Callable[..., tuple]) -> None:
    _, after, _ = tune("state.safetensors", "backbone.pooling=gem", learned_exponent=True)
    backbone = after.only_backbone
    assert backbone.exponents.shape == (2,)
    assert (backbone.exponents != 3.0).all()
    assert (backbone.exponents - 3.0).abs().max() < 1.0
    photos = torch.rand(5, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    graph = export_backbone(backbone, SIZE)
    assert check_export(graph, backbone, list(photos.numpy())) > 0.99999
    backbone.exponents.data += torch.tensor([0.0, 4.0])
    with pytest.raises(ModelError, match="differs from torch"):
        check_export(graph, backbone, list(photos.numpy()))


def test_a_backbone_brings_its_learned_exponents_back(tune: Callable[..., tuple]) -> None:
    _, after, _ = tune("state.safetensors", "backbone.pooling=gem", epochs=1, learned_exponent=True)
    network, _ = create_network(TINY, "random", 0)
    other = PooledBackbone(network, avg, 2)
    other.load_tuned(after.only_backbone.tuned_state())
    photos = torch.rand(2, 3, SIZE, SIZE)
    assert torch.equal(other.eval()(photos), after.only_backbone(photos))


def test_a_compiled_backbone_learns_the_same_under_the_same_names(
    tune: Callable[..., tuple], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _, eager, one = tune("eager.safetensors", epochs=1)
    # Traced as ever, but run by torch's own kernels: no compiler is needed.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    _, compiled, other = tune("compiled.safetensors", epochs=1, compile=True)
    assert other[0].train_loss == pytest.approx(one[0].train_loss, rel=1e-5)
    assert list(compiled.state_dict()) == list(eager.state_dict())
    names = [set(load_file(tmp_path / f"{name}.safetensors")) for name in ("eager", "compiled")]
    assert names[0] == names[1]


def test_float16_cuts_gradients_after_it_has_scaled_them_back(
    tune: Callable[..., tuple], monkeypatch: pytest.MonkeyPatch
) -> None:
    # All photos in one batch, as they are: until the weights move, each step has the gradient of the one before.
    still = [f"views.{key}=0" for key in ViewsSection.model_fields if key not in ("count", "crop")]

    def lengths_of(precision: str, epochs: int) -> list[float]:
        lengths = []

        def note(*words: Any) -> torch.Tensor:
            length = clip(*words)
            lengths.append(float(length))
            return length

        clip = torch.nn.utils.clip_grad_norm_
        with monkeypatch.context() as patch:
            patch.setattr(torch.nn.utils, "clip_grad_norm_", note)
            before, after, _ = tune(
                f"{precision}.safetensors", *still, epochs=epochs, batch_size=64, precision=precision
            )
        assert all(moved(before, after))
        return lengths

    # The first scale may be too large: steps whose gradients overflow are left out.
    half = next(length for length in lengths_of("float16", 8) if np.isfinite(length))
    assert half == pytest.approx(lengths_of("float32", 1)[0], rel=0.05)


@pytest.fixture
def validate_as(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, torch.Tensor]]]:
    """Replace what validation finds, epoch by epoch; return the list of the weights that were validated."""

    def replace(*found: tuple[float | None, float | None]) -> list[dict[str, torch.Tensor]]:
        results, weights = iter(found), list[dict[str, torch.Tensor]]()
        make = Trainer.__post_init__

        def patch(trainer: Trainer[Any]) -> None:
            make(trainer)
            validate = trainer.validate

            def tell(kept: EmbedderWithLoss[Any], stream: Iterator[Any]) -> Validation:
                validate(kept, stream)
                weights.append(copy.deepcopy(kept.embedder.state_dict()))
                loss, top1 = next(results)
                return Validation(loss=loss, top1=top1)

            trainer.validate = tell

        monkeypatch.setattr(Trainer, "__post_init__", patch)
        return weights

    return replace


def test_the_weights_of_the_best_epoch_are_kept(tune: Callable[..., tuple], validate_as: Callable[..., list]) -> None:
    after = validate_as((1.0, 0.4), (1.0, 0.7), (1.0, 0.7), (1.0, 0.6))
    _, tuned, log = tune(epochs=4, keep="best")
    assert [epoch.best for epoch in log] == [True, True, False, False]
    assert all(torch.equal(tensor, after[1][name]) for name, tensor in tuned.state_dict().items())
    assert not all(torch.equal(after[3][name], tensor) for name, tensor in after[1].items())


def test_without_a_top_1_the_least_validation_loss_is_best(
    tune: Callable[..., tuple], validate_as: Callable[..., list]
) -> None:
    validate_as((2.0, None), (1.0, None), (1.5, None))
    *_, log = tune(epochs=3, keep="best")
    assert [epoch.best for epoch in log] == [True, True, False]


def test_patience_ends_a_fine_tuning_that_gets_no_better(
    tune: Callable[..., tuple], validate_as: Callable[..., list]
) -> None:
    validate_as((1.0, 0.4), (1.0, 0.7), (1.0, 0.6), (1.0, 0.7), (1.0, 0.9))
    *_, log = tune(epochs=5, patience=2)
    assert [epoch.epoch for epoch in log] == [1, 2, 3, 4]


def test_the_log_has_rates_gradients_and_missing_photos(tune: Callable[..., tuple], photos: LabeledPhotos) -> None:
    photos.paths[3].unlink()
    keys = {"quarantine": 0.5, "clip_grad_norm": 1e-3, "head_lr_scale": 0.5, "learned_exponent": True}
    *_, log = tune("state.safetensors", "backbone.pooling=gem", epochs=2, **keys)
    for epoch in log:
        assert epoch.gradient_largest >= epoch.gradient_mean > 1e-3  # before it was cut
        assert epoch.unreadable == 1
        assert epoch.best is not None
    # One schedule for all: rates keep the proportions of the recipe, 1e-3 to half of 5e-4 and half of 5e-3.
    assert log[0].backbone_rate == pytest.approx(4 * log[0].neck_rate)
    assert log[0].learning_rate == pytest.approx(10 * log[0].neck_rate)
    assert log[1].backbone_rate < log[0].backbone_rate


def test_parts_of_a_batch_add_up_to_it(tune: Callable[..., tuple]) -> None:
    _, whole, one = tune("whole.safetensors", epochs=1)
    _, parted, other = tune("parted.safetensors", epochs=1, micro_batches=4)
    assert other[0].train_loss == pytest.approx(one[0].train_loss, rel=1e-4)
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(parted.state_dict()[name], tensor, rtol=0.05, atol=2e-3, msg=name)


def test_parts_of_a_batch_hold_whole_groups_of_a_landmark() -> None:
    landmarks = torch.tensor([7, 7, 7, 2, 2, 5, 5, 5])  # one photo of 2 could not be read
    assert micro_batch_rows(landmarks, 2, 3) == [slice(0, 5), slice(5, 8)]
    assert micro_batch_rows(landmarks, 8, 3) == [slice(0, 3), slice(3, 5), slice(5, 8)]
    assert micro_batch_rows(landmarks, 3, 0) == [slice(0, 3), slice(3, 6), slice(6, 8)]


def test_both_views_of_a_photo_are_in_one_part_of_a_batch(
    tune: Callable[..., tuple], photos: LabeledPhotos, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, forward = list[torch.Tensor](), InstanceDiscrimination.forward

    def note(loss: InstanceDiscrimination, features: torch.Tensor, landmarks: torch.Tensor) -> torch.Tensor:
        if loss.training:
            seen.append(landmarks)
        return forward(loss, features, landmarks)

    monkeypatch.setattr(InstanceDiscrimination, "forward", note)
    *_, log = tune("state.safetensors", "loss.instance=1.0", epochs=1, micro_batches=3, batch_size=15)
    assert math.isfinite(log[0].train_loss)
    assert sum(map(len, seen)) == 2 * len(photos)
    assert all(torch.equal(landmarks[::2], landmarks[1::2]) for landmarks in seen)


def test_averaged_weights_lag_behind(tune: Callable[..., tuple]) -> None:
    def distance(average: float) -> float:
        before, after, _ = tune(f"{average}.safetensors", ema_decay=average)
        pairs = zip(before.parameters(), after.parameters(), strict=True)
        return sum(float((one - other).detach().norm()) for one, other in pairs)

    assert 0.0 < distance(0.99) < distance(0.0)


def test_photos_that_rot_are_listed_and_spared(
    tune: Callable[..., tuple], photos: LabeledPhotos, tmp_path: Path
) -> None:
    photos.paths[3].write_bytes(b"no photo")
    photos.paths[5].unlink()
    _, _, log = tune(quarantine=0.5)
    assert [epoch.epoch for epoch in log] == [1, 2]
    listed = json.loads((tmp_path / "quarantine.json").read_text())
    assert set(listed) == {str(photos.paths[3]), str(photos.paths[5])}
    with pytest.raises(DataError, match=r"photos cannot be read any more .* finetuning.quarantine"):
        tune("again.safetensors", quarantine=0.0)


def stop(report: StepReport) -> None:
    signal.raise_signal(signal.SIGTERM)


@pytest.fixture
def tuning(tiny_recipe: Recipe) -> Recipe:
    """The tiny recipe with an epoch of fine-tuning."""
    section = tiny_recipe.finetuning.model_copy(update={"epochs": 1, "batch_size": 16, "learning_rate": 1e-3})
    return tiny_recipe.model_copy(update={"finetuning": section})


def lose_photos(patch: pytest.MonkeyPatch, folder: Path, share: float) -> Path:
    """Move photos out of a folder once their features are extracted, and return where they are."""

    def train_without(*words: Any, **names: Any) -> Any:
        photos = sorted(folder.rglob("*.jpg"))
        for photo in photos[: round(share * len(photos))]:
            (away / photo.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
            photo.rename(away / photo.relative_to(folder))
        return finetune(*words, **names)

    away = folder.with_name("away")
    patch.setattr("obelisk.training.train.finetune", train_without)
    return away


def test_photos_that_vanish_are_brought_back_and_the_run_goes_on(
    tuning: Recipe, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Path(shutil.copytree(tiny_dataset, tmp_path / "data"))
    with monkeypatch.context() as patch:
        away = lose_photos(patch, data / "train", 0.5)
        with pytest.raises(DataError, match=r"cannot be read any more .* add --resume"):
            train_run(tuning, read_catalog(data), tmp_path / "run")
    shutil.copytree(away, data / "train", dirs_exist_ok=True)
    run = train_run(tuning, read_catalog(data), tmp_path / "run", resume=True)
    assert (run.folder / "backbone.safetensors").is_file()


def test_photos_that_were_lost_before_a_stop_still_count(
    tune: Callable[..., tuple], photos: LabeledPhotos, tmp_path: Path
) -> None:
    section = load_recipe("arcface").training
    batches = epoch_batches(section, photos.landmarks, 16, epoch_seed(0, 0))
    first, *_, last = [photos.paths[int(batch[0])] for batch in batches]
    for path in (first, last):
        path.write_bytes(b"no photo")
    with pytest.raises(SystemExit):
        tune(epochs=1, quarantine=0.5, watch=stop)
    assert set(json.loads((tmp_path / "quarantine.json").read_text())) == {str(first)}
    tune(epochs=1, quarantine=0.5)
    assert set(json.loads((tmp_path / "quarantine.json").read_text())) == {str(first), str(last)}


def test_photos_that_are_spared_do_not_keep_the_model_from_being_written(
    tuning: Recipe, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Path(shutil.copytree(tiny_dataset, tmp_path / "data"))
    lose_photos(monkeypatch, data / "train", 0.05)  # the first of them is an example for the model's check
    spared = {"finetuning": tuning.finetuning.model_copy(update={"quarantine": 0.1})}
    run = train_run(tuning.model_copy(update=spared), read_catalog(data), tmp_path / "run")
    assert len(json.loads((run.folder / "quarantine.json").read_text())) == 3


def test_a_run_goes_on_with_its_own_photos_only(tuning: Recipe, tiny_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        train_run(tuning, read_catalog(tiny_dataset), tmp_path / "run", watch=stop)
    other = generate_dataset(tmp_path / "other", landmarks=6, references=60, queries=18, distractors=6, size=64, seed=1)
    with pytest.raises(ModelError, match=r"not to `recipe \w+ on photos \w+`.*give the recipe and the photos"):
        train_run(tuning, read_catalog(other), tmp_path / "run", resume=True)
    assert train_run(tuning, read_catalog(tiny_dataset), tmp_path / "run", resume=True).landmarks


def test_a_run_goes_on_without_photos_that_rotted(
    tuning: Recipe, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop_in_second_epoch(report: StepReport) -> None:
        if report.epoch == 2:
            signal.raise_signal(signal.SIGTERM)

    data = Path(shutil.copytree(tiny_dataset, tmp_path / "data"))
    spared = {"finetuning": tuning.finetuning.model_copy(update={"epochs": 2, "quarantine": 0.2, "batch_size": 20})}
    recipe = tuning.model_copy(update=spared)
    with monkeypatch.context() as patch:
        away = lose_photos(patch, data / "train", 0.15)
        whole = train_run(recipe, read_catalog(data), tmp_path / "whole")
    shutil.copytree(away, data / "train", dirs_exist_ok=True)
    with monkeypatch.context() as patch:
        lose_photos(patch, data / "train", 0.15)
        with pytest.raises(SystemExit):
            train_run(recipe, read_catalog(data), tmp_path / "run", watch=stop_in_second_epoch)
    for photo in away.rglob("*.jpg"):
        (data / "train" / photo.relative_to(away)).write_bytes(b"no photo")  # no catalog lists what is not there at all
    run = train_run(recipe, read_catalog(data), tmp_path / "run", resume=True)
    for name in ("backbone.safetensors", "finetuning.jsonl", "quarantine.json"):
        assert (run.folder / name).read_bytes() == (whole.folder / name).read_bytes(), name


def test_a_checkpoint_that_cannot_be_used_leaves_the_run_as_it_is(
    tuning: Recipe, tiny_dataset: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.toml").write_text(tuning.to_toml())
    (run / "finetuning.safetensors").write_bytes(b"cut off")
    with pytest.raises(ModelError, match="not a checkpoint of this run"):
        train_run(tuning, read_catalog(tiny_dataset), run, resume=True)
    assert {"recipe.toml", "log.jsonl"} <= {path.name for path in run.iterdir()}


def test_a_loss_that_is_no_number_is_reported(tune: Callable[..., tuple], tmp_path: Path) -> None:
    with pytest.raises(ObeliskError, match=r"the loss became .* finetuning.learning_rate"):
        tune(epochs=4, learning_rate=1e30)
    assert json.loads((tmp_path / "diverged.json").read_text())["photos"]


def test_a_gradient_that_is_no_number_moves_nothing_and_is_reported(
    tune: Callable[..., tuple], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(rows: torch.Tensor) -> torch.Tensor:
        rows.register_hook(lambda gradient: gradient * torch.inf)
        return rows

    extract = PhotoEmbedder.extract
    monkeypatch.setattr(PhotoEmbedder, "extract", lambda network, photos: explode(extract(network, photos)))
    with pytest.raises(
        ObeliskError, match=r"the gradient became (nan|inf) in epoch 1, step 1 .* finetuning.learning_rate"
    ):
        tune(epochs=1)
    assert json.loads((tmp_path / "diverged.json").read_text())["photos"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["backbone.names=['a', 'b']"], "trains one backbone"),
        (["loss.kind=none", "neck.kind=identity"], "needs a loss"),
        (["classifier.kind=softmax"], "trains no softmax layer with loss.kind = 'arcface'"),
        (["finetuning.learned_exponent=true"], "set backbone.pooling = 'gem'"),
        (["finetuning.epochs=2", "finetuning.start_size=256"], "not between 32 and photos.size = 224"),
        (["finetuning.start_size=128"], "set finetuning.epochs to 2 or more"),
        (["finetuning.epochs=2", "finetuning.start_size=128", "finetuning.compile=true"], "set only one of them"),
        (["finetuning.keep=best"], r"set data\.refit = false"),
    ],
)
def test_what_cannot_be_fine_tuned_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe("arcface", ["finetuning.epochs=1", *overrides])


def test_a_finetuned_run_embeds_as_its_bundle_does(tiny_recipe: Recipe, tiny_dataset: Path, tmp_path: Path) -> None:
    section = tiny_recipe.finetuning.model_copy(update={"epochs": 1, "batch_size": 16, "learning_rate": 1e-3})
    recipe = tiny_recipe.model_copy(update={"finetuning": section})
    run = train_run(recipe, read_catalog(tiny_dataset), tmp_path / "run")
    assert (run.folder / "backbone.safetensors").is_file()
    assert not (run.folder / "finetuning.safetensors").exists()
    assert len((run.folder / "finetuning.jsonl").read_text().splitlines()) == 1
    assert [json.loads(line)["epoch"] for line in (run.folder / "finetuning.jsonl").read_text().splitlines()] == [1]
    paths = sorted((tiny_dataset / "test").rglob("*.jpg"))
    rule = run.bundle.input
    pixels = np.stack([prepare(read_photo(path, min_side=rule.size), rule) for path in paths])
    with torch.inference_mode():
        rows = load_module(Run.open(run.folder))(torch.from_numpy(pixels)).numpy()
    embedded = np.stack([photo.embedding for photo in Embedder(run.bundle).embed(paths) if photo.embedding is not None])
    assert (rows * embedded).sum(axis=1).min() > 0.9999


def test_a_finetuned_softmax_layer_answers_through_the_finetuned_backbone(
    tiny_recipe: Recipe, tiny_dataset: Path, tmp_path: Path
) -> None:
    keys = {
        "neck": {"kind": "dense"},
        "loss": {"kind": "softmax"},
        "classifier": {"kind": "softmax"},
        "finetuning": {"epochs": 2, "batch_size": 16, "learning_rate": 1e-3, "ema_decay": 0.5, "frozen_share": 0.25},
        "data": {"refit": False},
    }
    changed = {name: {**dict(getattr(tiny_recipe, name)), **new} for name, new in keys.items()}
    recipe = Recipe.model_validate({**tiny_recipe.model_dump(), **changed})
    run = train_run(recipe, read_catalog(tiny_dataset), tmp_path / "run")
    log = [json.loads(line) for line in (run.folder / "finetuning.jsonl").read_text().splitlines()]
    assert all(0.0 <= epoch["val_top1"] <= 1.0 and epoch["val_loss"] > 0.0 for epoch in log)
    paths = sorted((tiny_dataset / "test").rglob("*.jpg"))
    photos = list(Embedder(run.bundle, logits=True).embed(paths))
    # The same by hand, in torch, from what the run keeps.
    module, head = load_module(run), load_file(run.folder / "head.safetensors")
    rule = run.bundle.input
    pixels = torch.stack([torch.from_numpy(prepare(read_photo(path, min_side=rule.size), rule)) for path in paths])
    with torch.inference_mode():
        features, embeddings = module.necks(module.extract(pixels)), module(pixels).numpy()
    logits = features @ head["loss.classifier.weight"].T + head["loss.classifier.bias"]
    assert np.allclose([photo.logits for photo in photos], logits.numpy(), atol=1e-3)
    rows = np.stack([photo.embedding for photo in photos if photo.embedding is not None])
    assert (rows * embeddings).sum(axis=1).min() > 0.9999


@pytest.mark.parametrize("frozen", [0, 3])
def test_a_run_trains_the_layer_groups_that_are_not_frozen(
    tiny_recipe: Recipe, tiny_dataset: Path, tmp_path: Path, frozen: int
) -> None:
    keys = {"epochs": 1, "batch_size": 16, "learning_rate": 1e-3, "frozen_groups": frozen}
    recipe = tiny_recipe.model_copy(update={"finetuning": tiny_recipe.finetuning.model_copy(update=keys)})
    run = train_run(recipe, read_catalog(tiny_dataset), tmp_path / "run")
    (before,) = load_backbones(recipe.backbone, recipe.photos, recipe.seed)
    tuned = copy.deepcopy(before.module)
    tuned.network.load_state_dict(load_file(run.folder / "backbone.safetensors"))
    changed = [
        any(not torch.equal(one, other) for one, other in zip(layer, others, strict=True))
        for layer, others in zip(group_layers(before.module.network), group_layers(tuned.network), strict=True)
    ]
    assert changed == [False] * frozen + [True] * (len(changed) - frozen)


def test_a_run_stopped_while_its_model_is_written_does_not_train_again(
    tiny_recipe: Recipe, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = tiny_recipe.finetuning.model_copy(update={"epochs": 1, "batch_size": 16, "learning_rate": 1e-3})
    recipe, catalog = tiny_recipe.model_copy(update={"finetuning": section}), read_catalog(tiny_dataset)

    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("obelisk.training.train.write_model", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train_run(recipe, catalog, tmp_path / "run")
    monkeypatch.setattr(Trainer, "step", interrupt)
    run = train_run(recipe, catalog, tmp_path / "run", resume=True)
    assert (run.folder / "backbone.safetensors").is_file()
    assert not (run.folder / "finetuning.safetensors").exists()
