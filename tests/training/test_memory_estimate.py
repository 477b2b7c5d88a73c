"""What memory a training needs: counted as its page says, held against what one takes, and refused where it is not."""

from pathlib import Path

import pytest
import torch
from torch import nn

from obelisk.config import Recipe, load_recipe
from obelisk.data import read_catalog
from obelisk.errors import RecipeError
from obelisk.training.memory_estimate import (
    TrainingSizes,
    count_saved_bytes,
    estimate_memory,
    refuse_out_of_memory,
)
from obelisk.training.train import train_run

MIB, GIB = 2**20, 2**30
# Google Landmarks v2, clean: three stages of EfficientNet-Lite0.
GLDV2 = TrainingSizes(landmarks=81_313, photos=1_580_470, validation=0, parts=((112, 320, 1280),))


def subcenter(*overrides: str) -> Recipe:
    return load_recipe("subcenter_arcface", ["neck.dimensions=512", "loss.subcenters=3", "views.count=0", *overrides])


def test_landmark_weights_take_what_the_architecture_says() -> None:
    estimate = estimate_memory(subcenter(), GLDV2)["neck"]
    assert round(estimate["landmark weights"] / MIB) == 476
    assert estimate["gradients"] == pytest.approx(estimate["landmark weights"], rel=0.01)
    assert estimate["moments of AdamW"] == 2 * estimate["gradients"]
    assert estimate["batch by landmarks"] == 7 * 4 * subcenter().training.batch_size * 81_313


def test_processes_that_share_the_landmarks_have_a_part_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "8")
    whole, shared = (estimate_memory(subcenter(*more), GLDV2)["neck"] for more in ([], ["loss.sharded=true"]))
    for name in ("landmark weights", "batch by landmarks"):
        assert shared[name] == pytest.approx(whole[name] / 8, rel=1e-3)
    with pytest.raises(RecipeError, match=r"lower training\.batch_size, loss\.sharded, loss\.sampled_share"):
        refuse_out_of_memory(subcenter(), GLDV2, lambda: GIB)


def test_averaged_and_best_weights_are_counted() -> None:
    sizes = TrainingSizes(
        landmarks=1000, photos=5000, validation=500, parts=((64,),), network=10**6, trained=10**5, photo=MIB
    )
    keys = ["finetuning.epochs=1", "data.refit=false"]
    plain, averaged, both = (
        estimate_memory(load_recipe("arcface", [*keys, *more]), sizes)["fine-tuning"]
        for more in ([], ["finetuning.ema_decay=0.9"], ["finetuning.ema_decay=0.9", "finetuning.keep=best"])
    )
    copy = averaged["averaged weights, best epoch"]
    assert plain["averaged weights, best epoch"] == 0
    assert both["averaged weights, best epoch"] == 2 * copy > 4 * 10**6
    assert averaged["checkpoint as it is written"] - plain["checkpoint as it is written"] == 4 * 10**6
    assert plain["photos of a step"] == 64 * MIB
    parted = estimate_memory(load_recipe("arcface", [*keys, "finetuning.micro_batches=10"]), sizes)["fine-tuning"]
    assert parted["photos of a step"] == 7 * MIB
    paired = estimate_memory(load_recipe("arcface", [*keys, "loss.instance=1"]), sizes)["fine-tuning"]
    assert paired["photos of a step"] == 2 * plain["photos of a step"]


def test_what_autograd_keeps_is_counted_to_the_byte() -> None:
    module = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))
    rows = torch.randn(5, 8)
    # The input of each layer that has weights; Tanh's result is the second layer's input, the weights are not counted.
    assert count_saved_bytes(module, lambda: module(rows)) == 4 * (5 * 8 + 5 * 16)
    module.requires_grad_(requires_grad=False)
    assert count_saved_bytes(module, lambda: module(rows)) == 0


@pytest.mark.parametrize(
    ("overrides", "gib", "keys"),
    [
        # landmark weights, batches by landmarks and descriptors of many views: every key that lowers them is named
        (["views.count=7"], 31.6, "training.batch_size, loss.sampled_share, views.count, loss.subcenters, neck.dim"),
        # no views and no sub-centers to lower
        (["loss.subcenters=1", "training.batch_size=8192"], 10, "training.batch_size, loss.sampled_share, neck.dimen"),
    ],
)
def test_what_cannot_fit_is_refused_with_the_keys_that_lower_it(overrides: list[str], gib: float, keys: str) -> None:
    recipe = subcenter(*overrides)
    with pytest.raises(RecipeError, match=r"81,313 landmarks and 1,580,470 photos take .* GiB are available") as caught:
        refuse_out_of_memory(recipe, GLDV2, lambda: int(gib * GIB))
    assert caught.value.fix.startswith(f"lower {keys}")
    assert "obelisk data subset" in caught.value.fix


@pytest.mark.parametrize(
    "override",
    ["training.batch_size=128", "loss.sampled_share=0.1", "views.count=1", "loss.subcenters=1", "neck.dimensions=256"],
)
def test_the_keys_named_do_lower_the_memory(override: str) -> None:
    def total(recipe: Recipe) -> int:
        return sum(estimate_memory(recipe, GLDV2)["neck"].values())

    assert total(subcenter("views.count=7", override)) < total(subcenter("views.count=7"))


def test_fine_tuning_names_micro_batches() -> None:
    sizes = TrainingSizes(
        landmarks=10, photos=50, validation=0, parts=((64,),), network=10**6, trained=10**6, photo=MIB
    )
    with pytest.raises(RecipeError) as caught:
        refuse_out_of_memory(load_recipe("arcface", ["finetuning.epochs=1"]), sizes, lambda: MIB)
    assert "finetuning.batch_size (or raise finetuning.micro_batches)" in caught.value.fix


def test_where_the_system_reports_nothing_every_run_may_begin() -> None:
    refuse_out_of_memory(subcenter(), GLDV2, lambda: None)
    refuse_out_of_memory(subcenter(), GLDV2, lambda: 10**15)


def test_a_run_that_cannot_fit_leaves_no_folder(
    tiny_recipe: Recipe, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("obelisk.training.train.available_memory", lambda: 1000)
    with pytest.raises(RecipeError, match="6 landmarks and 60 photos take"):
        train_run(tiny_recipe, read_catalog(tiny_dataset), tmp_path / "run")
    assert not (tmp_path / "run").exists()
