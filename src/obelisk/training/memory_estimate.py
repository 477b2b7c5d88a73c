"""The memory a training run needs, estimated before it starts, and a refusal if there is too little.

With C landmarks of K sub-centers, a neck of D dimensions, a backbone's descriptor of D_in values, N photos and V views,
the landmark weights are W = 4 · C · K · D bytes, and a run holds at its peak ::

    neck          W · (1 weights + 1 gradient + 2 moments of AdamW + 1 EMA + 1 best epoch) + the same for the neck
                  + 7 matrices of batch by landmarks + 4 · V · N · D_in + 8 · N · D_in  of descriptors
    fine-tuning   W · (1 + 1 + 2 + 1 EMA + 1 best epoch + 1 of before) + the same for backbone and neck
                  + 7 such matrices + 2 · V · N · D_in of descriptors + 1.4 · what a step keeps of its photos
                  + the backbone again, to save it

The EMA, the best epoch and the weights of before count only if the recipe keeps them. Descriptors are float16, twice
while views are joined or split, and float32 where they are compared. What a step keeps of a photo is measured on one;
two fifths more are gradients in flight and freed blocks that fit nothing since (measured on Lite0 in batches of 32 and
64).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from obelisk.config import MARGIN_SOFTMAX, Recipe
from obelisk.data import Catalog
from obelisk.errors import RecipeError
from obelisk.training.head import NAMED_AT_ONCE
from obelisk.training.machine import format_bytes, processes_here, processes_in_all
from obelisk.training.model.backbones import FrozenBackbone
from obelisk.training.model.network import build_neck, count_trainable
from obelisk.training.optim.optimizer import free_layers

FLOAT = 4
MATRICES = 7  # of batch by landmarks that a margin softmax holds, forward and backward
IN_FLIGHT = 0.4  # of what a step keeps of its photos

MemoryStages = Mapping[str, Mapping[str, int]]
"""Bytes by what they hold, for each stage of a run."""


@dataclass(frozen=True, kw_only=True)
class TrainingSizes:
    """What the memory of a run depends on, besides its recipe.

    ``parts`` are the lengths of the descriptor's parts, by backbone. ``network`` and ``trained`` count the weights of
    the backbone that is fine-tuned, and those that move; ``photo`` is the bytes that a step keeps of one photo for its
    backward pass. All three are 0 without fine-tuning.
    """

    landmarks: int
    photos: int
    validation: int
    parts: tuple[tuple[int, ...], ...]
    network: int = 0
    trained: int = 0
    photo: int = 0


def measure_sizes(recipe: Recipe, catalog: Catalog, backbones: Sequence[FrozenBackbone]) -> TrainingSizes:
    """Count what a run will hold; a backbone that is to be fine-tuned sees one empty photo."""
    counted = TrainingSizes(
        landmarks=catalog.references["landmark_id"].n_unique(),
        photos=catalog.references.height,
        validation=int((catalog.references["split"] == "val").sum()),
        parts=tuple(backbone.parts for backbone in backbones),
    )
    if not recipe.finetuning.epochs:
        return counted
    module = backbones[0].module
    free_layers(module, recipe.finetuning.frozen_groups)
    pixels = torch.zeros(1, 3, recipe.photos.size, recipe.photos.size)
    counted = replace(
        counted,
        network=sum(weights.numel() for weights in module.parameters()),
        trained=count_trainable(module),
        photo=count_saved_bytes(module, lambda: module(pixels)),
    )
    module.requires_grad_(requires_grad=False)
    return counted


def count_saved_bytes(module: nn.Module, forward: Callable[[], object]) -> int:
    """Count the bytes that autograd keeps for the backward pass, without the module's own tensors."""
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


def estimate_memory(recipe: Recipe, sizes: TrainingSizes) -> MemoryStages:
    """Estimate the bytes that each stage of a run takes, besides the loaded backbones, by what they hold."""
    stages = {"neck": head_memory(recipe, sizes)}
    if recipe.finetuning.epochs:
        stages["fine-tuning"] = finetuning_memory(recipe, sizes)
    return stages


def head_memory(recipe: Recipe, sizes: TrainingSizes) -> dict[str, int]:
    """Estimate what training the heads takes, one after the other; finished ones stay."""
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
        "averaged weights, best epoch, and finished heads": FLOAT
        * both
        * (bool(recipe.training.ema_decay) + bool(sizes.validation) + others),
        "batch by landmarks": batch_memory(recipe, sizes, recipe.views_at_once * recipe.training.batch_size),
        "naming validation photos": FLOAT * named,
        "descriptors": descriptors,
    }


def finetuning_memory(recipe: Recipe, sizes: TrainingSizes) -> dict[str, int]:
    """Estimate what fine-tuning takes, besides the backbone itself."""
    section = recipe.finetuning
    neck, classes = count_neck(recipe, sizes), count_landmark_weights(recipe, sizes)
    whole, trained = sizes.network + neck + classes, sizes.trained + neck + classes
    copies = bool(section.ema_decay) + (section.keep == "best")
    at_once = recipe.views_at_once * -(-section.batch_size // min(section.micro_batches, section.batch_size))
    before = sizes.network + neck
    return {
        "landmark weights": FLOAT * classes,
        "neck": FLOAT * neck,
        "weights of before": FLOAT * before * (bool(section.frozen_share) + bool(section.distillation)),
        "gradients": FLOAT * trained,
        "moments of AdamW": 2 * FLOAT * trained,
        "averaged weights, best epoch": FLOAT * whole * copies,
        "photos of a step": sizes.photo * at_once,
        "gradients in flight, and freed blocks": int(IN_FLIGHT * sizes.photo * at_once),
        "batch by landmarks": batch_memory(recipe, sizes, at_once),
        "descriptors": 2 * (recipe.views.count + 1) * sizes.photos * sum(map(sum, sizes.parts)),
        # Tensors in channels-last order are copied before they are written.
        "checkpoint as it is written": FLOAT * (sizes.network * (1 + copies) + 2 * sizes.trained),
    }


def count_neck(recipe: Recipe, sizes: TrainingSizes) -> int:
    """Count the weights of the largest neck that is trained."""
    with torch.device("meta"):
        necks = [build_neck(recipe.neck, parts) for parts in neck_parts(recipe, sizes)]
    return max(count_trainable(neck) for neck in necks)


def neck_parts(recipe: Recipe, sizes: TrainingSizes) -> Sequence[tuple[int, ...]]:
    """Return the parts of the descriptor that each neck sees."""
    return sizes.parts if recipe.neck.per_backbone else [tuple(part for parts in sizes.parts for part in parts)]


def count_landmark_weights(recipe: Recipe, sizes: TrainingSizes) -> int:
    """Count the weights of the landmarks that a process keeps, C · K · D, or those of a softmax layer; else 0."""
    kind = recipe.loss.kind
    with torch.device("meta"):
        dimensions = max(build_neck(recipe.neck, parts).dimensions for parts in neck_parts(recipe, sizes))
    if kind == "softmax":
        return sizes.landmarks * (dimensions + 1)
    if kind in MARGIN_SOFTMAX:
        return (
            count_own_landmarks(recipe, sizes)
            * dimensions
            * (recipe.loss.subcenters if kind == "subcenter_arcface" else 1)
        )
    return 0


def count_own_landmarks(recipe: Recipe, sizes: TrainingSizes) -> int:
    """Count the landmarks whose weights one process keeps."""
    return -(-sizes.landmarks // processes_in_all()) if recipe.loss.sharded else sizes.landmarks


def batch_memory(recipe: Recipe, sizes: TrainingSizes, photos: int) -> int:
    """Estimate the matrices of a batch by landmarks, and of the sub-centers that a step samples."""
    if recipe.loss.kind not in (*MARGIN_SOFTMAX, "softmax"):
        return 0
    share = recipe.loss.sampled_share
    sampled = 2 * round(share * count_landmark_weights(recipe, sizes)) if share < 1.0 else 0
    return FLOAT * (MATRICES * photos * round(share * count_own_landmarks(recipe, sizes)) + sampled)


def refuse_out_of_memory(
    recipe: Recipe, sizes: TrainingSizes, available: Callable[[], int | None], *, where: object = ""
) -> None:
    """Raise RecipeError for a run that cannot fit in memory: what it needs, and which keys lower that.

    ``available`` returns the bytes that may be taken, None if they are not known: then nothing is refused.
    """
    limit, processes = available(), processes_here()
    stage, parts = max(estimate_memory(recipe, sizes).items(), key=lambda item: sum(item[1].values()))
    total = sum(parts.values())
    if limit is None or processes * total <= limit:
        return
    largest = sorted(parts.items(), key=lambda item: -item[1])[:4]
    listed = ", ".join(f"{name} {format_bytes(size)}" for name, size in largest)
    each = f" in each of {processes} processes" if processes > 1 else ""
    raise RecipeError(
        f"{sizes.landmarks:,} landmarks and {sizes.photos:,} photos take {format_bytes(total)}{each} "
        f"({stage}: {listed}), but {format_bytes(limit)} are available",
        where=where,
        fix=f"lower {', '.join(list_memory_keys(recipe, stage))}, or train on fewer photos or landmarks "
        "(obelisk data subset)",
    )


def list_memory_keys(recipe: Recipe, stage: str) -> list[str]:
    """Return the keys of a recipe that lower the memory of a stage, the gentlest first."""
    margin, finetuning = recipe.loss.kind in MARGIN_SOFTMAX, stage == "fine-tuning"
    keys = {
        "training.batch_size": not finetuning,
        "finetuning.batch_size (or raise finetuning.micro_batches)": finetuning,
        "loss.sharded": margin and not recipe.loss.sharded and processes_in_all() > 1,
        "loss.sampled_share": margin and not recipe.loss.sharded,
        "views.count": recipe.views.count > 0,
        "loss.subcenters": recipe.loss.kind == "subcenter_arcface" and recipe.loss.subcenters > 1,
        "neck.dimensions": recipe.neck.kind in ("linear", "whitening"),
        "photos.size": finetuning,
    }
    return [key for key, helps in keys.items() if helps]
