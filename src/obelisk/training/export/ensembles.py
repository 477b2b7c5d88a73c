"""Several runs as one model: their embeddings, weighted and side by side.

With eᵢ the unit embedding of run i, the ensemble's is ``(√a₁ e₁, √a₂ e₂, …)`` with weights that add up to one. So the
cosine of two photos is the weighted mean ``Σ aᵢ cosᵢ`` of the members' cosines, and a member that contributes little
can get a small weight. Embeddings may be whitened over the reference photos first, which helps those of an untrained
neck, and undoes what a trained one has learned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from obelisk.arrays import Embeddings
from obelisk.config import ClassifierSection, Recipe
from obelisk.data import Catalog
from obelisk.embedding import Bundle, DescriptorCache, Member, Precision, write_bundle
from obelisk.errors import DataError, ModelError, PhotoError, UsageError
from obelisk.evaluation.run_reader import Run
from obelisk.photos import prepare, read_photo
from obelisk.records import Progress, no_progress
from obelisk.training.export.export_run import CHECKED_PHOTOS, COMPARED_PHOTOS, convert_checked, spread_evenly
from obelisk.training.export.onnx import check_export, drop_logits, join_graphs, to_onnx
from obelisk.training.export.precision import ComparedPhotos
from obelisk.training.export.restore import load_module
from obelisk.training.export.write_bundle import pack_classifier
from obelisk.training.loading.references import split_for_validation
from obelisk.training.machine import one_thread
from obelisk.training.model.pooling import l2n
from obelisk.training.model.whitening import pca_whitening
from obelisk.training.run import begin_folder, forget_folder, write_facts

Weights = Literal["validation", "equal"] | Sequence[float]

STEPS = 20  # weights are tried in steps of a twentieth
MOST_RUNS = 5  # beyond it, there are too many combinations to try
ASKED_PHOTOS, SEARCHED_PHOTOS = 1_000, 20_000


class Whitened(nn.Module):
    """An embedding (N, D_in) → its whitening over reference photos, (N, D), at unit length."""

    def __init__(self, references: Tensor) -> None:
        super().__init__()
        projection, bias = pca_whitening(references, references.shape[1])
        self.linear = nn.Linear(references.shape[1], len(projection))
        self.linear.weight.data, self.linear.bias.data = projection, bias

    def forward(self, rows: Tensor) -> Tensor:
        """Return whitened unit rows."""
        return l2n(self.linear(rows))


class Weighted(nn.Module):
    """Unit rows of several members, side by side (N, D) → each scaled by the root of its weight."""

    def __init__(self, widths: Sequence[int], weights: Sequence[float]) -> None:
        super().__init__()
        scales = torch.tensor(weights).sqrt().repeat_interleave(torch.tensor(widths))
        self.scales = nn.Parameter(scales, requires_grad=False)

    def forward(self, rows: Tensor) -> Tensor:
        """Return rows of unit length, where the weights add up to one."""
        return rows * self.scales


class SideBySide(nn.Module):
    """Several networks of the same photos, weighted: the whole ensemble where the photo rules are equal."""

    def __init__(self, members: Sequence[nn.Module], weighted: nn.Module) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.weighted = weighted

    def forward(self, photos: Tensor) -> Tensor:
        """Return the ensemble's embeddings (N, D)."""
        rows: Tensor = self.weighted(torch.cat([member(photos) for member in self.members], dim=1))
        return rows


@dataclass(frozen=True, kw_only=True)
class Combined:
    """The bundle of an ensemble, and the weights of its runs, in their order; they add up to one.

    ``unread`` are the errors of reference photos that could not be read, by row of the catalog.
    """

    bundle: Bundle
    weights: Sequence[float]
    unread: Mapping[int, PhotoError]


@dataclass(frozen=True, kw_only=True)
class EnsembleMember:
    """A run as a member of an ensemble: its photo rule, what comes after its embedding, and all as one graph."""

    run: Run
    member: Member
    after: nn.Module
    graph: bytes

    def module(self) -> nn.Module:
        """Load the run's network, with what comes after it, as a torch module."""
        return nn.Sequential(load_module(self.run), self.after)


@one_thread()
def combine_runs(
    runs: Sequence[Run],
    catalog: Catalog,
    out: Path,
    *,
    name: str = "ensemble",
    weights: Weights = "validation",
    whiten: bool = False,
    precision: Precision = "fp32",
    classifier: ClassifierSection | None = None,
    progress: Progress = no_progress,
) -> Combined:
    """Write the ensemble of several runs as one bundle: one joined network where their photo rules are equal.

    ``whiten`` whitens each embedding over the catalog's reference photos. ``weights``, one per run, are chosen by the
    top-1 of validation photos that no run was trained on (``validation``), or ``equal``, or given. A smaller
    ``precision`` of each network is compared with the original on the reference photos. The ``classifier`` travels in
    the bundle; without one, the default neighbors decide.

    Raises UsageError for weights that do not fit, or that validation cannot choose because a run was refitted on the
    validation photos; ModelError when the networks differ from torch, or in their precision too much.
    """
    if len(runs) < 2:
        raise UsageError(f"an ensemble of {len(runs)} run", fix="name two runs or more")
    paths = catalog.locate_photos(catalog.references)
    rows, unread = embed_with_all(runs, paths, progress)
    kept = np.setdiff1d(np.arange(len(paths)), list(unread)).astype(np.int64)
    parts = [make_part(run, torch.from_numpy(each[kept]), whiten) for run, each in zip(runs, rows, strict=True)]
    if isinstance(weights, str):
        chosen = [1 / len(runs)] * len(runs) if weights == "equal" else choose_weights(parts, rows, kept, catalog)
    else:
        chosen = check_weights(weights, len(runs))
    labels = catalog.references["landmark_id"].to_numpy()
    known = spread_evenly(kept, COMPARED_PHOTOS)
    trial = Trial(precision=precision, paths=[paths[row] for row in known], landmarks=labels[known])
    return Combined(bundle=write_ensemble(parts, chosen, out, name, trial, classifier), weights=chosen, unread=unread)


def join_runs(recipe: Recipe, catalog: Catalog, data: str, out: Path, progress: Progress = no_progress) -> None:
    """Make the run of a recipe that names other runs; ``data`` is the fingerprint of the dataset.

    Raises ModelError for a folder without a finished run, and what :func:`combine_runs` raises.
    """
    runs = [Run.open(Path(folder)) for folder in recipe.ensemble.runs]
    begin_folder(recipe, out)
    try:
        combined = combine_runs(
            runs,
            catalog,
            out / "model",
            name=recipe.name,
            weights=recipe.ensemble.weights or "validation",
            whiten=recipe.ensemble.whiten,
            classifier=recipe.classifier,
            progress=progress,
        )
    except UsageError:
        forget_folder(out)
        raise
    images = catalog.references["image_id"].to_list()
    kept = np.setdiff1d(np.arange(len(images)), list(combined.unread))
    facts = {
        "recipe": recipe.fingerprint,
        "data": data,
        "backbones": [run.bundle.fingerprint for run in runs],
        "landmarks": catalog.references[kept]["landmark_id"].unique().sort().to_list(),
        "photos": len(kept),
        "best_epochs": [],
        "skipped": {images[row]: str(error) for row, error in sorted(combined.unread.items())},
        "weights": list(combined.weights),
    }
    write_facts(out, facts)


@dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """Photos with their landmarks (N,), to compare networks with torch, and smaller precisions with the original."""

    precision: Precision
    paths: Sequence[Path]
    landmarks: NDArray[np.int64]

    def shrink(self, network: bytes, module: nn.Module, member: Member) -> bytes:
        """Return a network in the wanted precision; raises ModelError if it, or the original, differs too much."""
        few = [self.paths[index] for index in spread_evenly(np.arange(len(self.paths)), CHECKED_PHOTOS)]
        inputs = [prepare(read_photo(path, min_side=member.size), member.input) for path in few]
        check_export(network, module.eval(), inputs)
        compared = ComparedPhotos(paths=self.paths, rule=member.input, landmarks=self.landmarks)
        return convert_checked(network, self.precision, compared)[0]


def embed_with_all(
    runs: Sequence[Run], paths: Sequence[Path], progress: Progress
) -> tuple[list[Embeddings], dict[int, PhotoError]]:
    """Embed photos with every run; return the rows (N, D) of each, and the errors of those that could not be read."""
    rows: list[Embeddings] = []
    unread: dict[int, PhotoError] = {}
    for run in runs:
        found = DescriptorCache(run.bundle).get(paths, what=f"embeddings of {run.recipe.name}", progress=progress)
        rows.append(l2n(torch.from_numpy(found.rows)).numpy())
        unread |= found.failed
    if len(unread) == len(paths):
        raise DataError(f"none of the {len(paths)} reference photos could be read", fix="obelisk data check DIR")
    return rows, unread


def make_part(run: Run, references: Tensor, whiten: bool) -> EnsembleMember:
    """Turn a run into a member, whitened over the embeddings (N, D) of reference photos if requested."""
    bundle = run.bundle
    if len(bundle.members) > 1:
        raise ModelError("an ensemble cannot be a member of another", where=bundle.folder, fix="name its runs instead")
    (member,) = bundle.members
    network = drop_logits(bundle.read_network(member))
    member = member.model_copy(update={"dimensions": bundle.dimensions})
    if not whiten:
        return EnsembleMember(run=run, member=member, after=nn.Identity(), graph=network)
    whitened = Whitened(references).eval()
    neck = to_onnx(whitened, torch.zeros(2, references.shape[1]), "descriptors", "embedding")
    member = member.model_copy(update={"dimensions": whitened.linear.out_features})
    return EnsembleMember(run=run, member=member, after=whitened, graph=join_graphs([network], neck))


def check_weights(weights: Sequence[float], runs: int) -> list[float]:
    """Return given weights, scaled to add up to one."""
    if len(weights) != runs or not all(0 < weight < float("inf") for weight in weights):
        fix = "give a positive number for each run"
        raise UsageError(f"weights {', '.join(map(str, weights))} for {runs} runs", fix=fix)
    return [weight / sum(weights) for weight in weights]


def choose_weights(
    parts: Sequence[EnsembleMember], rows: Sequence[Embeddings], kept: NDArray[np.int64], catalog: Catalog
) -> list[float]:
    """Choose the weights with which most validation photos are nearest to a photo of their landmark.

    Among equals, the weights that separate the right landmark best from the others win.
    """
    runs = [part.run for part in parts]
    if len(runs) > MOST_RUNS:
        raise UsageError(f"{len(runs)} runs are too many to choose weights for", fix="give them, or take equal ones")
    asked, searched = split_validation_rows(runs, catalog, kept)
    labels = catalog.references["landmark_id"].to_numpy()
    right = labels[asked][:, None] == labels[searched]
    with torch.inference_mode():
        joined = [part.after(torch.from_numpy(each)).numpy() for part, each in zip(parts, rows, strict=True)]
    cosines = [each[asked] @ each[searched].T for each in joined]

    def judge(weights: Sequence[float]) -> tuple[int, float]:
        mixed = sum(weight * each for weight, each in zip(weights, cosines, strict=True))
        lead = np.where(right, mixed, -2).max(axis=1) - np.where(right, -2, mixed).max(axis=1)
        return int((lead > 0).sum()), float(lead.mean())

    return max(compositions(len(runs), STEPS), key=judge)


def split_validation_rows(
    runs: Sequence[Run], catalog: Catalog, kept: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of photos that every run kept for validation, and of those that none did."""
    for run in runs:
        if run.recipe.data.refit and run.recipe.loss.kind != "none":
            raise UsageError(
                "the run was refitted on its validation photos, so they can't tell its weight",
                where=run.folder,
                fix="take --weights equal, or learn the weights from runs trained with --set data.refit=false",
            )
    splits = {(run.recipe.seed, run.recipe.data.validation_share): run.recipe for run in runs}
    held = [
        (split_for_validation(recipe, catalog).references["split"] == "val").to_numpy() for recipe in splits.values()
    ]
    asked = kept[np.all(held, axis=0)[kept]]
    searched = kept[~np.any(held, axis=0)[kept]]
    if not len(asked) or not len(searched):
        raise UsageError("the runs have no validation photo in common", fix="train them with one seed and share")
    return spread_evenly(asked, ASKED_PHOTOS), spread_evenly(searched, SEARCHED_PHOTOS)


def compositions(members: int, steps: int) -> Iterator[list[float]]:
    """Yield every way to share ``steps`` equal parts among members, at least one each, as shares of one."""

    def share(left: int, among: int) -> Iterator[list[int]]:
        if among == 1:
            yield [left]
            return
        for first in range(1, left - among + 2):
            for others in share(left - first, among - 1):
                yield [first, *others]

    for counts in share(steps, members):
        yield [count / steps for count in counts]


def write_ensemble(
    parts: Sequence[EnsembleMember],
    weights: Sequence[float],
    out: Path,
    name: str,
    trial: Trial,
    classifier: ClassifierSection | None,
) -> Bundle:
    """Check an ensemble's networks on the photos of a trial, and write its bundle."""
    members = [part.member for part in parts]
    manifests = [part.run.bundle.manifest for part in parts]
    about: dict[str, Any] = {
        "name": name,
        "precision": trial.precision,
        "dimensions": sum(member.dimensions for member in members),
        "whitening": all(manifest.whitening for manifest in manifests) or not isinstance(parts[0].after, nn.Identity),
        "licence": " AND ".join(sorted({manifest.licence for manifest in manifests})),
        "data": "; ".join(dict.fromkeys(manifest.data for manifest in manifests)),
        "attachments": pack_classifier(classifier, None) if classifier else {},
    }
    card = write_ensemble_card(name, parts, weights)
    if len({member.input for member in members}) == 1:
        weighted = Weighted([member.dimensions for member in members], weights)
        neck = to_onnx(
            weighted, torch.zeros(2, sum(member.dimensions for member in members)), "descriptors", "embedding"
        )
        network = join_graphs([part.graph for part in parts], neck)
        network = trial.shrink(network, SideBySide([part.module() for part in parts], weighted), members[0])
        rule = members[0].model_dump(include={"size", "resize", "mean", "std"})
        return write_bundle(out, network=network, card=card, **about, **rule)
    files = [f"member{number}.onnx" for number in range(1, len(parts) + 1)]
    listed = [
        member.model_copy(update={"file": file, "weight": weight})
        for member, file, weight in zip(members, files, weights, strict=True)
    ]
    graphs = [trial.shrink(part.graph, part.module(), part.member) for part in parts]
    networks = dict(zip(files, graphs, strict=True))
    return write_bundle(out, network=networks, card=card, members=listed, **about)


def write_ensemble_card(name: str, parts: Sequence[EnsembleMember], weights: Sequence[float]) -> str:
    """Return the model card: the members, their weights, and their own cards."""
    listed = "".join(
        f"- {part.run.recipe.name}, weight {weight:.3g}\n" for part, weight in zip(parts, weights, strict=True)
    )
    cards = "\n".join(part.run.bundle.read_card() for part in parts)
    return f"# {name}\n\nThe embeddings of {len(parts)} models, side by side:\n\n{listed}\n{cards}"
