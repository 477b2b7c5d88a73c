"""From a run on disk back to the torch modules that it trained: backbones, necks, and the softmax layer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from obelisk.config import Recipe
from obelisk.embedding import LayerLandmarks, read_layer
from obelisk.errors import ModelError
from obelisk.evaluation.run_reader import Run
from obelisk.training.model.backbones import FrozenBackbone, freeze, load_backbones
from obelisk.training.model.network import EmbeddingWithLogits, Necks, PhotoEmbedder, build_neck
from obelisk.training.model.pooled_backbone import PooledBackbone
from obelisk.training.model.state_dict import read_safetensors

LOSS, PROBE = "loss", "probe"  # where head.safetensors has a softmax layer: the loss's own, or one trained afterwards


@dataclass(frozen=True, kw_only=True, eq=False)
class SoftmaxLayer:
    """The linear layer that a run classifies by, over C ``landmarks``.

    It reads unit embeddings (``on_embedding``: a probe), or the features before normalization (the loss's own).
    """

    linear: nn.Module
    on_embedding: bool
    landmarks: LayerLandmarks

    def follow(self, necks: Necks) -> EmbeddingWithLogits:
        """Return the necks with this layer behind them."""
        return EmbeddingWithLogits(necks, self.linear, on_embedding=self.on_embedding).eval()


def members_of(recipe: Recipe, backbones: Sequence[FrozenBackbone]) -> list[tuple[slice, tuple[int, ...]]]:
    """Return the columns of the descriptor that each neck of the recipe sees, with their parts."""
    if not recipe.neck.per_backbone:
        parts = tuple(part for backbone in backbones for part in backbone.parts)
        return [(slice(0, sum(parts)), parts)]
    ends = np.cumsum([sum(backbone.parts) for backbone in backbones]).tolist()
    starts = [0, *ends[:-1]]
    return [(slice(start, end), backbone.parts) for start, end, backbone in zip(starts, ends, backbones, strict=True)]


def load_frozen(run: Run) -> Sequence[FrozenBackbone]:
    """Load the backbones that a run started from; raises ModelError if they have changed."""
    backbones = load_backbones(run.recipe.backbone, run.recipe.photos, run.recipe.seed)
    if [backbone.bundle.fingerprint for backbone in backbones] != list(run.backbones):
        raise ModelError(
            "the run was trained on other backbone weights than those found here",
            where=run.folder,
            fix="bring back the weights or the versions it was trained with, or train again",
        )
    return backbones


def load_necks(run: Run, backbones: Sequence[FrozenBackbone], weights: Mapping[str, Tensor]) -> Necks:
    """Build a run's necks with their trained weights, which are those of ``head.safetensors``."""
    members = members_of(run.recipe, backbones)
    necks = Necks([build_neck(run.recipe.neck, parts) for _, parts in members], [sum(parts) for _, parts in members])
    trained = {name.removeprefix("necks."): value for name, value in weights.items() if name.startswith("necks.")}
    with refusing_misfits(run.folder / "head.safetensors"):
        if run.recipe.second_order.stages:
            dimensions, width = trained["second_order.weight"].shape
            necks.add_second_order(nn.Linear(width, dimensions), run.recipe.second_order.weight)
        necks.load_state_dict(trained)
    return necks.eval()


@contextlib.contextmanager
def refusing_misfits(path: Path) -> Iterator[None]:
    """Raise ModelError if the tensors of a run's file are not those that its recipe needs."""
    try:
        yield
    except (RuntimeError, LookupError) as error:
        reason = (str(error).splitlines() or [""])[-1].strip()
        fix = "copy the run again, or train again"
        raise ModelError(f"the weights do not fit the run: {reason}", where=path, fix=fix) from error


def load_trained(run: Run) -> Sequence[FrozenBackbone]:
    """Load the backbones of a run with the weights that it ended with; their bundles are those that it started from."""
    backbones = load_frozen(run)
    if run.recipe.finetuning.epochs:
        with refusing_misfits(path := run.folder / "backbone.safetensors"):
            backbones[0].module.load_tuned(read_safetensors(path))
    backbones[0].module.second_order = run.recipe.second_order.stages
    return backbones


def load_tuned(run: Run, size: int | None = None) -> Sequence[FrozenBackbone]:
    """Load the backbones that a run ended with, and export them to the cache if they have changed since they started.

    With ``size`` they take photos of that side instead of the recipe's.
    """
    backbones = load_trained(run)
    if size is None and not (run.recipe.finetuning.epochs or run.recipe.second_order.stages):
        return backbones
    photos = run.recipe.photos.model_copy(update={} if size is None else {"size": size})
    recipe = run.recipe.model_copy(update={"photos": photos})
    return [freeze_tuned(recipe, backbone, backbone.module) for backbone in backbones]


def freeze_tuned(recipe: Recipe, before: FrozenBackbone, module: PooledBackbone) -> FrozenBackbone:
    """Freeze a backbone as training left it; ``before`` is what it started from."""
    bundle = before.bundle
    origin = f"{bundle.manifest.data}, fine-tuned" if recipe.finetuning.epochs else bundle.manifest.data
    return freeze(bundle.name, module, recipe.backbone, recipe.photos, licence=bundle.manifest.licence, origin=origin)


def load_module(run: Run) -> PhotoEmbedder:
    """Load a run's whole network as a torch module: photos (N, 3, H, W) → embeddings (N, D) of unit length.

    Raises ModelError for a run that joins others.
    """
    refuse_joined(run)
    backbones = load_trained(run)
    necks = load_necks(run, backbones, read_safetensors(run.folder / "head.safetensors"))
    return PhotoEmbedder([backbone.module for backbone in backbones], necks).eval()


def refuse_joined(run: Run) -> None:
    """Refuse a run that joins others."""
    if run.recipe.ensemble.runs:
        joined = " ".join(run.recipe.ensemble.runs)
        raise ModelError("the run joins others and has no network of its own", where=run.folder, fix=f"name {joined}")


def load_layer(run: Run) -> SoftmaxLayer | None:
    """Load the softmax layer that a run classifies by, None where its recipe leaves that to neighbors.

    Raises ModelError for a run that has none.
    """
    if run.recipe.classifier.kind != "softmax":
        return None
    weights = read_safetensors(run.folder / "head.safetensors")
    source = next((part for part in (LOSS, PROBE) if f"{part}.classifier.weight" in weights), None)
    if source is None:
        fix = "train its recipe with --set classifier.kind=softmax"
        raise ModelError("this run has no softmax layer", where=run.folder, fix=fix)
    with refusing_misfits(run.folder / "head.safetensors"):
        weight, bias = (weights[f"{source}.classifier.{name}"] for name in ("weight", "bias"))
        linear = nn.Linear(weight.shape[1], weight.shape[0])
        linear.load_state_dict({"weight": weight, "bias": bias})
    landmarks = read_layer(run.bundle) or LayerLandmarks(landmarks=run.landmarks)
    return SoftmaxLayer(linear=linear, on_embedding=source == PROBE, landmarks=landmarks)
