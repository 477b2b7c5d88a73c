"""What memory a training needs, counted before it starts, and a refusal where there is too little.

With C landmarks of K centres, a neck of D dimensions and a backbone's descriptor of D_in values, N photos and V views,
the landmark weights are W = 4 · C · K · D bytes, and a training holds at its worst moment ::

    neck          W · (1 weights + 1 gradient + 2 moments of AdamW + 1 best epoch) + the neck's alike
                  + 7 matrices of batch by landmarks + 4 · V · N · D_in + 8 · N · D_in  of descriptors
    fine-tuning   W · (1 + 1 + 2 + 1 + 1 averaged + 1 best epoch) + backbone and neck alike + 7 such matrices
                  + 2 · V · N · D_in of descriptors + 1.4 · what a step keeps of its photos
                  + the backbone again, to save it

Descriptors are float16, twice while views are joined or split, and in float32 where they are compared. What a step
keeps of a photo is measured on one, not guessed; two fifths more are gradients on their way, and blocks that were freed
and fit nothing since (measured on Lite0 in batches of 32 and 64).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from obelisk.config import MARGIN_SOFTMAX, Recipe
from obelisk.data import Catalog
from obelisk.errors import RecipeError
from obelisk.training.finetune import free_layers
from obelisk.training.machine import in_words, processes_here
from obelisk.training.model.backbones import FrozenBackbone
from obelisk.training.model.network import build_neck, count_trainable

FLOAT = 4
MATRICES = 7  # of batch by landmarks that a margin softmax holds, forwards and back
NAMED_AT_ONCE = 1024  # validation photos compared with all others at once
SMALLEST_NECK = 64
PASSING = 0.4  # of what a step keeps of its photos

Stages = Mapping[str, Mapping[str, int]]
"""Bytes by what they hold, for each stage of a training."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What the memory of a training depends on, beside its recipe.

    ``parts`` are the lengths of the descriptor's parts, by backbone. ``network`` and ``trained`` count the weights of
    the backbone that is fine-tuned, and those of them that move; ``photo`` are the bytes that a step keeps of one photo
    to find its gradients. All three are 0 where nothing is fine-tuned.
    """

    landmarks: int
    photos: int
    validation: int
    parts: tuple[tuple[int, ...], ...]
    network: int = 0
    trained: int = 0
    photo: int = 0


def measure_sizes(recipe: Recipe, catalog: Catalog, backbones: Sequence[FrozenBackbone]) -> Sizes:
    """Count what a training will hold; a backbone that is to be fine-tuned sees one empty photo."""
    counted = Sizes(
        landmarks=catalog.references["landmark_id"].n_unique(),
        photos=catalog.references.height,
        validation=int((catalog.references["split"] == "val").sum()),
        parts=tuple(backbone.parts for backbone in backbones),
    )
    if not recipe.finetuning.epochs:
        return counted
    module = backbones[0].module
    free_layers(module.network, recipe.finetuning.frozen_groups)
    pixels = torch.zeros(1, 3, recipe.photos.size, recipe.photos.size)
    counted = replace(
        counted,
        network=sum(weights.numel() for weights in module.parameters()),
        trained=count_trainable(module),
        photo=count_kept(module, lambda: module(pixels)),
    )
    module.requires_grad_(requires_grad=False)
    return counted


def count_kept(module: nn.Module, forward: Callable[[], object]) -> int:
    """Return the bytes that autograd keeps of a forward pass for the way back, besides the module's own tensors."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*module.parameters(), *module.buffers())}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = forward()
    del result
    return sum(kept.values())


def estimate_needs(recipe: Recipe, sizes: Sizes) -> Stages:
    """Return the bytes that each stage of a training takes, beyond the loaded backbones, by what they hold."""
    stages = {"neck": neck_needs(recipe, sizes)}
    if recipe.finetuning.epochs:
        stages["fine-tuning"] = finetuning_needs(recipe, sizes)
    return stages


def neck_needs(recipe: Recipe, sizes: Sizes) -> dict[str, int]:
    """Return what training the necks takes, one after the other; the kept ones stay."""
    width, views = sum(map(sum, sizes.parts)), recipe.views.count + 1
    descriptors = 4 * views * sizes.photos * width + 8 * sizes.photos * width
    if recipe.loss.kind == "none":
        return {"descriptors": descriptors}
    neck, classes = count_neck(recipe, sizes), count_landmark_weights(recipe, sizes)
    both = neck + classes
    named = min(NAMED_AT_ONCE, sizes.validation) * (sizes.photos - sizes.validation)
    others = len(sizes.parts) - 1 if recipe.neck.per_backbone else 0
    return {
        "landmark weights": FLOAT * classes,
        "neck": FLOAT * neck,
        "gradients": FLOAT * both,
        "moments of AdamW": 2 * FLOAT * both,
        "best epoch, and necks that are done": FLOAT * both * (bool(sizes.validation) + others),
        "batch by landmarks": batch_needs(recipe, sizes, recipe.training.batch_size),
        "naming validation photos": FLOAT * named,
        "descriptors": descriptors,
    }


def finetuning_needs(recipe: Recipe, sizes: Sizes) -> dict[str, int]:
    """Return what fine-tuning takes, besides the backbone itself."""
    section = recipe.finetuning
    neck, classes = count_neck(recipe, sizes), count_landmark_weights(recipe, sizes)
    whole, trained = sizes.network + neck + classes, sizes.trained + neck + classes
    copies = bool(section.ema_decay) + (section.keep == "best")
    at_once = -(-section.batch_size // min(section.micro_batches, section.batch_size))
    before = sizes.network + neck
    return {
        "landmark weights": FLOAT * classes,
        "neck": FLOAT * neck,
        "weights of before": FLOAT * before * (1 + bool(section.distillation)),
        "gradients": FLOAT * trained,
        "moments of AdamW": 2 * FLOAT * trained,
        "averaged weights, best epoch": FLOAT * whole * copies,
        "photos of a step": sizes.photo * at_once,
        "gradients on their way, and freed blocks": int(PASSING * sizes.photo * at_once),
        "batch by landmarks": batch_needs(recipe, sizes, at_once),
        "descriptors": 2 * (recipe.views.count + 1) * sizes.photos * sum(map(sum, sizes.parts)),
        # Tensors in channels-last order are copied before they are written.
        "checkpoint as it is written": FLOAT * (sizes.network * (1 + copies) + 2 * sizes.trained),
    }


def count_neck(recipe: Recipe, sizes: Sizes) -> int:
    """Count the weights of the largest neck that is trained."""
    with torch.device("meta"):
        necks = [build_neck(recipe.neck, parts) for parts in neck_parts(recipe, sizes)]
    return max(count_trainable(neck) for neck in necks)


def neck_parts(recipe: Recipe, sizes: Sizes) -> Sequence[tuple[int, ...]]:
    """Return the parts of the descriptor that each neck sees."""
    return sizes.parts if recipe.neck.per_backbone else [tuple(part for parts in sizes.parts for part in parts)]


def count_landmark_weights(recipe: Recipe, sizes: Sizes) -> int:
    """Count the weights of the landmarks, C · K · D, or those of a softmax layer; a pair loss has none to train."""
    kind = recipe.loss.kind
    with torch.device("meta"):
        dimensions = max(build_neck(recipe.neck, parts).dimensions for parts in neck_parts(recipe, sizes))
    if kind == "softmax":
        return sizes.landmarks * (dimensions + 1)
    if kind in MARGIN_SOFTMAX:
        return sizes.landmarks * dimensions * (recipe.loss.subcenters if kind == "subcenter_arcface" else 1)
    return 0


def batch_needs(recipe: Recipe, sizes: Sizes, photos: int) -> int:
    """Return the bytes of the matrices of a batch by landmarks, and of the centres that a step samples."""
    if recipe.loss.kind not in (*MARGIN_SOFTMAX, "softmax"):
        return 0
    share = recipe.loss.sampled_share
    sampled = 2 * round(share * count_landmark_weights(recipe, sizes)) if share < 1.0 else 0
    return FLOAT * (MATRICES * photos * round(share * sizes.landmarks) + sampled)


def refuse_too_large(recipe: Recipe, sizes: Sizes, available: Callable[[], int | None], *, where: object = "") -> None:
    """Raise RecipeError for a training that cannot fit in memory, with what it needs and what would make it fit.

    ``available`` tells the bytes that may be taken, None where that is not known: nothing is refused then.
    """
    room, processes = available(), processes_here()
    if room is None:
        return

    def total(changed: Recipe) -> int:
        return processes * max(sum(stage.values()) for stage in estimate_needs(changed, sizes).values())

    if total(recipe) <= room:
        return
    stage, parts = max(estimate_needs(recipe, sizes).items(), key=lambda item: sum(item[1].values()))
    largest = sorted(parts.items(), key=lambda item: -item[1])[:4]
    listed = ", ".join(f"{name} {in_words(size)}" for name, size in largest)
    each = f" in each of {processes} processes" if processes > 1 else ""
    raise RecipeError(
        f"{sizes.landmarks:,} landmarks and {sizes.photos:,} photos take {in_words(sum(parts.values()))}{each} "
        f"({stage}: {listed}), but {in_words(room)} are available",
        where=where,
        fix=what_helps(recipe, lambda changed: total(changed) <= room),
    )


def what_helps(recipe: Recipe, fits: Callable[[Recipe], bool]) -> str:
    """Say which single changes make a recipe fit, or else which changes together do; the gentler ones first."""
    alone = []
    for key, values in savings(recipe):
        enough = [value for value in values if fits(change(recipe, key, value))]
        alone += [f"--set {key}={value}" for value in enough[:1]]
    if alone:
        return " or ".join(alone)
    changed, told = recipe, ""
    for key, values in savings(recipe):
        for value in values[-1:]:
            changed, told = change(changed, key, value), f"{told} --set {key}={value}".lstrip()
        if fits(changed):
            return told
    return "train on fewer photos or landmarks (obelisk data subset), or where there is more memory"


def savings(recipe: Recipe) -> list[tuple[str, list[float]]]:
    """Return the keys of a recipe that save memory, each with the values to try, from gentle to harsh."""
    loss, neck, section = recipe.loss, recipe.neck, recipe.finetuning
    parts = halves(section.batch_size, 2)[::-1] if section.epochs else []
    return [
        ("finetuning.micro_batches", [value for value in parts if value > section.micro_batches]),
        ("loss.sampled_share", [0.1] if loss.kind in MARGIN_SOFTMAX and loss.sampled_share > 0.1 else []),
        ("views.count", [*halves(recipe.views.count, 1), 0] if recipe.views.count else []),
        ("loss.subcenters", halves(loss.subcenters, 1) if loss.kind == "subcenter_arcface" else []),
        ("neck.dimensions", halves(neck.dimensions, SMALLEST_NECK) if neck.kind in ("linear", "whitening") else []),
    ]


def halves(value: int, least: int) -> list[float]:
    """Return half of a number, a quarter of it, and so on, down to ``least``."""
    found: list[float] = []
    while value // 2 >= least:
        value //= 2
        found.append(value)
    return found


def change(recipe: Recipe, key: str, value: float) -> Recipe:
    """Return a recipe with one key changed."""
    section, name = key.split(".")
    return recipe.model_copy(update={section: getattr(recipe, section).model_copy(update={name: value})})
