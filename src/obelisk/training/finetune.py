"""Fine-tuning: backbone, neck and loss trained together on photos, augmented on the fly.

It starts where the training of the neck ended, because a random or half-trained head would first drag the
backbone's features along (Kumar et al., *Fine-Tuning can Distort Pretrained Features*, ICLR 2022). With d⁰ the
frozen backbone, λ = ``finetuning.distillation`` and s = ``finetuning.frozen_share``, training minimises ::

    loss(neck(d(x)), y) + λ · mean over the descriptor's parts of (1 − cos(d(x), d⁰(x)))

and what leaves it is ``θ = s · θ⁰ + (1 − s) · θ¹``, between the weights of before and after (Wortsman et al.,
*Robust fine-tuning of zero-shot models*, CVPR 2022). Both keep the eye for places that no training saw.
Batch norms keep their statistics: a few thousand photos tell less than ImageNet did.

A checkpoint is written after every epoch. The order of the photos and their views depend on the seed and the
epoch alone, so that a training that was stopped goes on exactly as if it had not been.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from timm.models import group_parameters
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from obelisk.config import Recipe
from obelisk.photos import ModelInput, content_hash, prepare, read_bytes, read_photo
from obelisk.training.augmentation import AugmentedView
from obelisk.training.backbones import TimmNetwork
from obelisk.training.checkpoint import load_checkpoint, save_checkpoint
from obelisk.training.loop import Epoch, draw_batches, refuse_diverged, set_learning_rate
from obelisk.training.losses import MarginSoftmax
from obelisk.training.network import PhotoEmbedder
from obelisk.training.pooling import l2n

LOADERS = 2  # processes that decode and augment while the network trains


@dataclass(frozen=True, kw_only=True)
class LabelledPhotos:
    """N photos on disk with their landmarks (N,), counted from 0 to C − 1, and the rule that prepares them."""

    paths: Sequence[Path]
    landmarks: Tensor
    rule: ModelInput

    def __len__(self) -> int:
        return len(self.paths)


class PreparedPhotos(Dataset[tuple[Tensor, Tensor]]):
    """Photos as a network takes them, (3, H, W), augmented with a view or plain, each with its landmark."""

    def __init__(self, photos: LabelledPhotos, view: AugmentedView | None) -> None:
        self.photos = photos
        self.view = view

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor]:
        data = read_bytes(self.photos.paths[place])
        image = read_photo(data, min_side=self.photos.rule.size)
        if self.view:
            image = self.view(image, content_hash(data))
        return torch.from_numpy(prepare(image, self.photos.rule)), self.photos.landmarks[place]


class Finetuning(nn.Module):
    """What is trained, and what it is held against: photos (N, 3, H, W) and landmarks (N,) → the loss."""

    def __init__(self, embedder: PhotoEmbedder, loss: nn.Module, parts: Sequence[int], distillation: float) -> None:
        super().__init__()
        self.frozen = copy.deepcopy(embedder).requires_grad_(requires_grad=False) if distillation else None
        self.embedder = embedder
        self.loss = loss
        self.parts = list(parts)
        self.distillation = distillation

    def forward(self, photos: Tensor, landmarks: Tensor) -> Tensor:
        """Return the loss of the batch, with the distillation's share in it."""
        descriptors = self.embedder.describe(photos)
        value: Tensor = self.loss(self.embedder.necks(descriptors), landmarks)
        if self.frozen:
            with torch.no_grad():
                before = self.frozen.describe(photos)
            value = value + self.distillation * part_distance(descriptors, before, self.parts)
        return value

    def train(self, mode: bool = True) -> Finetuning:
        """Set the mode of neck and loss; that of the backbone stays, so that batch norms keep their statistics."""
        self.embedder.necks.train(mode)
        self.loss.train(mode)
        return self


def part_distance(descriptors: Tensor, others: Tensor, parts: Sequence[int]) -> Tensor:
    """Return the mean of 1 − cosine over the parts of descriptors (N, D_in) and their counterparts."""
    pairs = zip(torch.split(descriptors, list(parts), dim=1), torch.split(others, list(parts), dim=1), strict=True)
    return torch.stack([1.0 - (l2n(part) * l2n(other)).sum(dim=1) for part, other in pairs]).mean()


def finetune(
    recipe: Recipe,
    embedder: PhotoEmbedder,
    parts: Sequence[int],
    loss: nn.Module,
    photos: LabelledPhotos,
    *,
    validation: LabelledPhotos | None,
    checkpoint: Path,
    log: Callable[[Epoch], None],
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> PhotoEmbedder:
    """Train a photo embedder of one backbone with its loss, and return it with the weights that the recipe keeps.

    ``checkpoint`` is the file of the state after the last finished epoch; what it holds is gone on from.
    Raises ObeliskError when the loss stops being a number.
    """
    torch.use_deterministic_algorithms(mode=True)
    torch.manual_seed(recipe.seed)
    before = copy.deepcopy(embedder.state_dict())
    tuned = Finetuning(embedder.eval(), loss, parts, recipe.finetuning.distillation)
    tuned.to(memory_format=torch.channels_last)
    optimiser = build_optimiser(recipe, tuned)
    trained = nn.ModuleList([embedder, loss])
    for epoch in range(load_checkpoint(checkpoint, trained, optimiser), recipe.finetuning.epochs):
        tuned.train()
        train_loss = run_epoch(recipe, tuned, optimiser, photos, epoch, progress)
        tuned.eval()
        val_loss, val_top1 = validate(tuned, validation)
        save_checkpoint(checkpoint, trained, optimiser, epoch=epoch + 1)
        log(
            Epoch(
                member=1,
                epoch=epoch + 1,
                train_loss=train_loss,
                val_loss=val_loss,
                val_top1=val_top1,
                embedding_std=None,
                learning_rate=optimiser.param_groups[-1]["lr"],
            )
        )
    embedder.load_state_dict(interpolate(before, embedder.state_dict(), recipe.finetuning.frozen_share))
    return embedder.to(memory_format=torch.contiguous_format).requires_grad_(requires_grad=False)


def run_epoch(
    recipe: Recipe,
    tuned: Finetuning,
    optimiser: torch.optim.Optimizer,
    photos: LabelledPhotos,
    epoch: int,
    progress: Callable[[str, int, int], None],
) -> float:
    """Take one pass over the photos; return the mean loss."""
    section = recipe.finetuning
    chance = torch.Generator().manual_seed(recipe.seed * 1_000_003 + epoch)
    torch.manual_seed(recipe.seed * 1_000_003 + epoch)
    batches = list(draw_batches(recipe, photos.landmarks, section.batch_size, chance))
    view = AugmentedView(number=epoch + 1, seed=recipe.seed, ranges=recipe.views)
    total = 0.0
    for step, (pixels, landmarks) in enumerate(load_batches(photos, batches, view)):
        set_learning_rate(optimiser, recipe.training.warm_up, (epoch + step / len(batches)) / section.epochs)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=section.precision == "bfloat16"):
            value = tuned(pixels, landmarks)
        refuse_diverged(value, epoch, step, fix="lower finetuning.learning_rate")
        optimiser.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(tuned.embedder.backbones.parameters(), section.largest_gradient)
        optimiser.step()
        total += value.item()
        progress(f"fine-tuning, epoch {epoch + 1} of {section.epochs}", step + 1, len(batches))
    return total / len(batches)


def load_batches(
    photos: LabelledPhotos, batches: Sequence[Tensor], view: AugmentedView | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of prepared photos (N, 3, H, W), in channels-last order, with their landmarks (N,)."""
    loader = DataLoader(
        PreparedPhotos(photos, view), batch_sampler=[batch.tolist() for batch in batches], num_workers=LOADERS
    )
    for pixels, landmarks in loader:
        yield pixels.contiguous(memory_format=torch.channels_last), landmarks


def build_optimiser(recipe: Recipe, tuned: Finetuning) -> torch.optim.Optimizer:
    """Build AdamW: each layer group of the backbone has its rate, the neck and the landmark weights have theirs."""
    section, training = recipe.finetuning, recipe.training
    layers = group_layers(tuned.embedder.only_backbone.network)
    for layer in layers[: section.frozen_groups]:
        for parameter in layer:
            parameter.requires_grad = False
    groups = [
        {
            "params": layer,
            "peak": section.learning_rate * section.layer_decay ** (len(layers) - 1 - depth),
            "weight_decay": section.weight_decay,
        }
        for depth, layer in enumerate(layers)
        if depth >= section.frozen_groups
    ]
    groups += [
        {"params": list(module.parameters()), "peak": peak, "weight_decay": training.weight_decay}
        for module, peak in (
            (tuned.embedder.necks, training.learning_rate),
            (tuned.loss, training.classifier_learning_rate),
        )
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]])


def group_layers(network: TimmNetwork) -> list[list[nn.Parameter]]:
    """Return the parameters of a timm network by depth: the stem first, then each stage."""
    groups = group_parameters(network, network.group_matcher(coarse=True))
    parameters = dict(network.named_parameters())
    return [[parameters[name] for name in names] for _, names in sorted(groups.items())]


@torch.inference_mode()
def validate(tuned: Finetuning, photos: LabelledPhotos | None) -> tuple[float | None, float | None]:
    """Return the loss on validation photos, and the top-1 of naming each by its nearest landmark centre.

    Nones without photos; no top-1 for a loss that has no centres.
    """
    if photos is None or not len(photos):
        return None, None
    total, right = 0.0, 0
    centres = tuned.loss if isinstance(tuned.loss, MarginSoftmax) else None
    batches = torch.split(torch.arange(len(photos)), 64)
    for pixels, landmarks in load_batches(photos, batches, None):
        features = tuned.embedder.necks(tuned.embedder.describe(pixels))
        total += tuned.loss(features, landmarks).item() * len(landmarks)
        if centres:
            right += int((centres.cosines(features).argmax(dim=1) == landmarks).sum())
    return total / len(photos), right / len(photos) if centres else None


def interpolate(before: dict[str, Tensor], after: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """Return ``share`` of the weights of before and the rest of those of after; counters stay as they are."""
    return {
        name: torch.lerp(tensor, before[name], share) if tensor.is_floating_point() else tensor
        for name, tensor in after.items()
    }
