"""What memory a training needs: counted as its page says, held against what one takes, and refused where it is not."""

import gc
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from obelisk.config import Recipe, load_recipe
from obelisk.data import read_catalog
from obelisk.errors import RecipeError
from obelisk.training.memory_estimate import Sizes, count_kept, estimate_needs, refuse_too_large
from obelisk.training.train import train_run

MIB, GIB = 2**20, 2**30
# Google Landmarks v2, clean: three stages of EfficientNet-Lite0.
GLDV2 = Sizes(landmarks=81_313, photos=1_580_470, validation=0, parts=((112, 320, 1280),))


def subcenter(*overrides: str) -> Recipe:
    return load_recipe("subcenter_arcface", ["neck.dimensions=512", "loss.subcenters=3", "views.count=0", *overrides])


def test_landmark_weights_take_what_the_architecture_says() -> None:
    needs = estimate_needs(subcenter(), GLDV2)["neck"]
    assert round(needs["landmark weights"] / MIB) == 476
    assert needs["gradients"] == pytest.approx(needs["landmark weights"], rel=0.01)
    assert needs["moments of AdamW"] == 2 * needs["gradients"]
    assert needs["batch by landmarks"] == 7 * 4 * subcenter().training.batch_size * 81_313


def test_averaged_and_best_weights_are_counted() -> None:
    sizes = Sizes(landmarks=1000, photos=5000, validation=500, parts=((64,),), network=10**6, trained=10**5, photo=MIB)
    keys = ["finetuning.epochs=1", "data.refit=false"]
    plain, averaged, both = (
        estimate_needs(load_recipe("arcface", [*keys, *more]), sizes)["fine-tuning"]
        for more in ([], ["finetuning.ema_decay=0.9"], ["finetuning.ema_decay=0.9", "finetuning.keep=best"])
    )
    copy = averaged["averaged weights, best epoch"]
    assert plain["averaged weights, best epoch"] == 0
    assert both["averaged weights, best epoch"] == 2 * copy > 4 * 10**6
    assert averaged["checkpoint as it is written"] - plain["checkpoint as it is written"] == 4 * 10**6
    assert plain["photos of a step"] == 64 * MIB
    parted = estimate_needs(load_recipe("arcface", [*keys, "finetuning.micro_batches=10"]), sizes)["fine-tuning"]
    assert parted["photos of a step"] == 7 * MIB


def test_what_autograd_keeps_is_counted_to_the_byte() -> None:
    module = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))
    rows = torch.randn(5, 8)
    # The input of each layer that has weights; Tanh's result is the second layer's input, the weights are not counted.
    assert count_kept(module, lambda: module(rows)) == 4 * (5 * 8 + 5 * 16)
    module.requires_grad_(requires_grad=False)
    assert count_kept(module, lambda: module(rows)) == 0


@pytest.mark.parametrize(
    ("overrides", "gib", "fix"),
    [
        # landmark weights: fewer centres, or a smaller neck
        ([], 31.6, "--set loss.subcenters=1 or --set neck.dimensions=128"),
        # batches by landmarks: a sample of the landmarks
        (["training.batch_size=8192"], 35, "--set loss.sampled_share=0.1"),
        # descriptors of many views
        (["views.count=7"], 80, "--set views.count=3"),
        # nothing alone is enough
        (["views.count=7"], 31.6, "--set loss.sampled_share=0.1 --set views.count=0 --set loss.subcenters=1"),
        # nothing at all
        ([], 1, r"obelisk data subset"),
    ],
)
def test_what_cannot_fit_is_refused_with_what_helps(overrides: list[str], gib: float, fix: str) -> None:
    recipe = subcenter(*overrides)
    with pytest.raises(RecipeError, match=r"81,313 landmarks and 1,580,470 photos take .* GiB are available") as caught:
        refuse_too_large(recipe, GLDV2, lambda: int(gib * GIB))
    assert fix in caught.value.fix
    for change in caught.value.fix.split(" or "):
        keys = [word for word in change.split() if "=" in word]
        if keys:
            refuse_too_large(subcenter(*overrides, *keys), GLDV2, lambda: int(gib * GIB))


def test_where_the_system_tells_nothing_all_may_begin() -> None:
    refuse_too_large(subcenter(), GLDV2, lambda: None)
    refuse_too_large(subcenter(), GLDV2, lambda: 10**15)


def test_a_run_that_cannot_fit_leaves_no_folder(
    tiny_recipe: Recipe, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("obelisk.training.train.available_memory", lambda: 1000)
    with pytest.raises(RecipeError, match="6 landmarks and 60 photos take"):
        train_run(tiny_recipe, read_catalog(tiny_dataset), tmp_path / "run")
    assert not (tmp_path / "run").exists()


MEASURE = """
import json, sys, torch
from obelisk.config import load_recipe
from obelisk.training.necks import TrainingPhotos, train_neck
from obelisk.training.machine import peak_memory, resident_memory
torch.set_num_threads(1)
C, D, D_IN = map(int, sys.argv[1:])
def run(landmarks):
    photos = TrainingPhotos(views=torch.randn(1, 256, D_IN).half(), landmarks=torch.arange(256) % landmarks)
    keys = [f"neck.dimensions={D}", "training.epochs=2", "training.batch_size=128", "neck.start=random"]
    train_neck(load_recipe("arcface", keys), photos, (D_IN,), torch.ones(landmarks), validation=photos)
run(8)
before = resident_memory()
run(C)
print(json.dumps(peak_memory() - before))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the memory is read from /proc")
def test_the_count_is_what_a_training_takes() -> None:
    C, D, D_in = 60_000, 256, 64
    gc.collect()
    words = [sys.executable, "-c", MEASURE, str(C), str(D), str(D_in)]
    taken = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    keys = [f"neck.dimensions={D}", "training.batch_size=128", "views.count=0"]
    sizes = Sizes(landmarks=C, photos=512, validation=256, parts=((D_in,),))
    counted = sum(estimate_needs(load_recipe("arcface", keys), sizes)["neck"].values())
    print(f"counted {counted / MIB:.0f} MiB, taken {taken / MIB:.0f} MiB")
    assert 0.75 * counted < taken < 1.2 * counted
