"""Writing what a finished training run leaves: its head, its fine-tuned weights, and the bundle of its model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from obelisk.config import ClassifierSection, Recipe, SecondOrderSection
from obelisk.embedding import CLASSIFIER, LAYER, LOGITS, MODEL_FILE, BundleClassifier, LayerLandmarks, write_bundle
from obelisk.errors import PhotoError
from obelisk.files import replace_file
from obelisk.photos import ModelInput, prepare, read_photo
from obelisk.training.export.onnx import check_export, join_graphs, to_onnx
from obelisk.training.export.restore import LOSS, PROBE, SoftmaxLayer, freeze_tuned
from obelisk.training.head import TrainingPhotos, train_probe
from obelisk.training.loading.features import ReferenceFeatures
from obelisk.training.losses import Softmax
from obelisk.training.model.backbones import FrozenBackbone
from obelisk.training.model.network import Embedding, Necks, PhotoClassifier, PhotoEmbedder

CHECKED_PHOTOS = 16


def write_head(
    folder: Path, recipe: Recipe, necks: Necks, loss: nn.Module | None, features: ReferenceFeatures
) -> SoftmaxLayer | None:
    """Write the necks and the softmax layer; return the layer that the recipe classifies by, None where it does not.

    Where the recipe classifies by one that its loss lacks, a probe is trained.
    """
    weights = {f"necks.{name}": tensor for name, tensor in necks.state_dict().items()}
    layer: Softmax | None = None
    if isinstance(loss, Softmax):
        layer = loss
        weights |= {f"{LOSS}.{name}": tensor for name, tensor in loss.state_dict().items()}
    elif recipe.classifier.kind == "softmax":
        layer = train_probe(recipe, necks, choose_trained_photos(recipe, features), len(features.landmarks))
        weights |= {f"{PROBE}.{name}": tensor for name, tensor in layer.state_dict().items()}
    write_tensors(folder / "head.safetensors", weights)
    if layer is None or recipe.classifier.kind != "softmax":
        return None
    landmarks = LayerLandmarks(landmarks=tuple(features.landmarks.tolist()), names=tuple(features.names))
    return SoftmaxLayer(linear=layer.classifier, on_embedding=layer is not loss, landmarks=landmarks)


def choose_trained_photos(recipe: Recipe, features: ReferenceFeatures) -> TrainingPhotos:
    """Return the photos that the kept neck was trained on: all where the recipe refits, else those not for validation.

    Labels keep their numbers among all landmarks.
    """
    views, labels = torch.from_numpy(features.views), torch.from_numpy(features.labels)
    kept = torch.from_numpy(features.choose_trained(recipe))
    return TrainingPhotos(views=views[:, kept], landmarks=labels[kept])


def write_model(
    folder: Path,
    recipe: Recipe,
    backbones: Sequence[FrozenBackbone],
    embedder: PhotoEmbedder,
    layer: SoftmaxLayer | None,
    features: ReferenceFeatures,
) -> None:
    """Write the fine-tuned weights and the model bundle, and check the bundle against torch on a few photos."""
    rule, necks, tuned = backbones[0].bundle.input, embedder.necks, backbones
    if recipe.finetuning.epochs:
        write_tensors(folder / "backbone.safetensors", embedder.only_backbone.tuned_state())
    if recipe.finetuning.epochs or recipe.second_order.stages:
        tuned = [freeze_tuned(recipe, backbones[0], embedder.only_backbone)]
    network = join_network(tuned, necks, layer)
    whole = add_layer(embedder, layer)
    check_export(network, whole, list(islice(prepare_readable(features.paths, rule), CHECKED_PHOTOS)))
    write_bundle(
        folder / "model",
        network=network,
        card=write_run_card(recipe, backbones, embedder, len(features.landmarks)),
        attachments=pack_classifier(recipe.classifier, layer),
        name=recipe.name,
        size=rule.size,
        resize=rule.resize,
        mean=rule.mean,
        std=rule.std,
        dimensions=necks.dimensions,
        whitening=recipe.neck.kind == "whitening" or recipe.neck.start == "whitening",
        licence=" AND ".join(sorted({backbone.bundle.manifest.licence for backbone in backbones})),
        data=describe_training_data(recipe, backbones, len(features.landmarks)),
    )


def join_network(backbones: Sequence[FrozenBackbone], necks: Necks, layer: SoftmaxLayer | None) -> bytes:
    """Join exported backbones, necks and a softmax layer into one graph: photos → embedding, and logits."""
    graphs = [(backbone.bundle.folder / MODEL_FILE).read_bytes() for backbone in backbones]
    descriptors = torch.zeros(2, necks.width)
    if layer is None:
        return join_graphs(graphs, to_onnx(Embedding(necks), descriptors, "descriptors", "embedding"))
    return join_graphs(graphs, to_onnx(layer.follow(necks), descriptors, "descriptors", "embedding", LOGITS))


def add_layer(embedder: PhotoEmbedder, layer: SoftmaxLayer | None) -> PhotoEmbedder | PhotoClassifier:
    """Return the whole network as torch runs it, with the softmax layer where there is one."""
    return embedder if layer is None else PhotoClassifier(embedder, layer.follow(embedder.necks)).eval()


def pack_classifier(section: ClassifierSection, layer: SoftmaxLayer | None) -> dict[str, bytes]:
    """Return the attachments that say how the bundle's embeddings become answers."""
    packed = {CLASSIFIER: BundleClassifier(kind=section.kind, k=section.k, vote=section.vote).pack()}
    return packed if layer is None else {**packed, LAYER: layer.landmarks.pack()}


def prepare_readable(paths: Sequence[Path], rule: ModelInput) -> Iterator[NDArray[np.float32]]:
    """Yield prepared photos, evenly spread, without those that cannot be read any more."""
    apart = -(-len(paths) // CHECKED_PHOTOS)
    for path in chain.from_iterable(paths[start::apart] for start in range(apart)):
        with suppress(PhotoError):
            yield prepare(read_photo(path, min_side=rule.size), rule)


def describe_training_data(recipe: Recipe, backbones: Sequence[FrozenBackbone], landmarks: int) -> str:
    """Say what the weights were trained on."""
    trained = "fine-tuned" if recipe.finetuning.epochs else "neck"
    return f"{weights_of(backbones)}; {trained} on {landmarks} landmarks"


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a state dict as safetensors, in its own order, whole or not at all."""
    from safetensors.torch import save

    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    serialized = save(whole, metadata={"order": json.dumps(list(whole))})
    replace_file(path, lambda partial: partial.write_bytes(serialized))


def weights_of(backbones: Sequence[FrozenBackbone]) -> str:
    """Say where the weights of each backbone come from, and under which licence."""
    return ", ".join(
        f"{backbone.bundle.name} ({backbone.bundle.manifest.data}, {backbone.bundle.manifest.licence})"
        for backbone in backbones
    )


def write_run_card(recipe: Recipe, backbones: Sequence[FrozenBackbone], embedder: PhotoEmbedder, landmarks: int) -> str:
    """Return the model card: what it is, what it was made from, and how to make it again."""
    learned = embedder.only_backbone.exponents if recipe.finetuning.epochs else None
    exponents = [] if learned is None else [f"{p:.2f}" for p in learned.tolist()]
    return (
        f"# {recipe.name}\n\n"
        f"Embeds photos of landmarks. {'Fine-tuned' if recipe.finetuning.epochs else 'Frozen'} backbone: "
        f"{weights_of(backbones)}.\n"
        + (f"GeM exponents, learned, finest stage first: {', '.join(exponents)}.\n" if exponents else "")
        + f"Neck: {recipe.neck.kind}, loss: {recipe.loss.kind}, trained on {landmarks} landmarks.\n"
        + (f"Second order: {describe_second_order(recipe.second_order)}.\n" if recipe.second_order.stages else "")
        + f"\nThe recipe, whole:\n\n```toml\n{recipe.to_toml()}```\n"
    )


def describe_second_order(section: SecondOrderSection) -> str:
    """Say what the embedding of second order reads."""
    stages = ", ".join(map(str, section.stages))
    return f"covariances of stages {stages}, whitened, with weight {section.weight:g} in the cosine"
