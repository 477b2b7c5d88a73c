"""Head training: cached descriptors and landmarks in, a trained neck with its loss out.

Every epoch sees each photo once, in one of its cached views drawn at random. After it, each validation photo is named
by its nearest training photo (or by the softmax layer, if the recipe classifies by it); the epoch with the best top-1
is kept, and ``training.patience`` epochs without a better one end the training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from obelisk.config import Recipe, TrainingSection
from obelisk.training.distributed import Distributed
from obelisk.training.loading.batch import Batch
from obelisk.training.loading.samplers import count_batches, draw_batches
from obelisk.training.losses import Loss, Softmax, build_loss
from obelisk.training.machine import be_deterministic, one_thread
from obelisk.training.model.network import Neck, Necks, build_neck
from obelisk.training.optim.checkpoint import CheckpointFile
from obelisk.training.optim.logs import Epoch, Validation
from obelisk.training.optim.optimizer import build_head_optimizer
from obelisk.training.optim.trainer import EmbedderWithLoss, Trainer, TrainerSettings

ADVICE = "lower training.learning_rate and training.classifier_learning_rate"
NAMED_AT_ONCE = 1024  # validation photos that are compared with all training photos at once
SPREAD_PHOTOS = 2048  # whose embeddings show whether they collapse


@dataclass(frozen=True, kw_only=True)
class TrainingPhotos:
    """Cached descriptors (V, N, D_in), plain view first, with their landmarks (N,) counted from 0 to C − 1."""

    views: Tensor
    landmarks: Tensor
    paths: Sequence[Path] = ()

    def __len__(self) -> int:
        return len(self.landmarks)

    def plain(self) -> Tensor:
        """Return the descriptors of the plain views, (N, D_in) float32."""
        return self.views[0].float()

    def select(self, rows: Tensor) -> TrainingPhotos:
        """Return the photos where ``rows`` (N,) is true; landmarks keep their numbers."""
        paths = [path for path, wanted in zip(self.paths, rows.tolist(), strict=False) if wanted]
        return TrainingPhotos(views=self.views[:, rows], landmarks=self.landmarks[rows], paths=paths)

    def slice_columns(self, columns: slice) -> TrainingPhotos:
        """Return the photos with a part of their descriptors."""
        return replace(self, views=self.views[:, :, columns])


@dataclass(frozen=True, kw_only=True)
class TrainedHead:
    """A neck and its loss after the best epoch, numbered from 1 (0: nothing was trained)."""

    neck: Neck
    loss: Loss | None
    best_epoch: int


class Head(EmbedderWithLoss[nn.Module]):
    """A neck with its loss: descriptors (n, D_in) and landmarks (n,) → the mean loss of a batch."""

    def forward(self, rows: Tensor, landmarks: Tensor, others: Tensor | None, weight: float) -> Tensor:
        """Return the loss; descriptors are not mixed, so ``others`` and ``weight`` play no part."""
        value: Tensor = self.loss(self.embedder(rows), landmarks)
        return value


@dataclass(frozen=True, kw_only=True)
class DescriptorBatches:
    """The batches of ``epochs`` epochs: photos as the recipe samples them, each in a random view, or in two."""

    photos: TrainingPhotos
    section: TrainingSection
    seed: int
    views_at_once: int = 1
    dist: Distributed = field(default_factory=Distributed)

    @cached_property
    def steps(self) -> int:
        """Batches in an epoch."""
        return count_batches(
            self.section, self.photos.landmarks, self.section.batch_size, smallest=max(2, self.dist.size)
        )

    def stream(self, epoch: int, step: int) -> Generator[Batch]:
        """Yield the batches from a step on; what the steps before it drew is drawn again, and dropped."""
        photos, dist, rng = self.photos, self.dist, torch.Generator().manual_seed(self.seed)
        size, group = self.section.batch_size, max(1, self.section.photos_per_landmark) * self.views_at_once
        for each in range(self.section.epochs):
            batches = list(draw_batches(self.section, photos.landmarks, size, rng, smallest=max(2, dist.size)))
            for number, indices in enumerate(batches):
                views = torch.randint(len(photos.views), (len(indices),), generator=rng)
                if self.views_at_once == 2:
                    # Another view, or the same where there is only one: a dry run measures with the plain view alone.
                    apart = torch.randint(1, max(2, len(photos.views)), (len(indices),), generator=rng)
                    views = torch.stack([views, (views + apart) % len(photos.views)], dim=1).flatten()
                    indices = indices.repeat_interleave(2)
                if (each, number) >= (epoch, step):
                    own, view = (part.view(-1, group).tensor_split(dist.size)[dist.rank] for part in (indices, views))
                    own, view = own.flatten(), view.flatten()
                    rows = photos.views[view, own].float()
                    yield Batch(inputs=rows, landmarks=photos.landmarks[own], indices=own.tolist())

    def name_photos(self, indices: Sequence[int]) -> list[str]:
        """Return the paths of photos, or their indices if the paths are not known."""
        return [str(self.photos.paths[index]) if self.photos.paths else str(index) for index in indices]


@one_thread()
def train_head(
    recipe: Recipe,
    photos: TrainingPhotos,
    parts: tuple[int, ...],
    counts: Tensor,
    *,
    validation: TrainingPhotos | None = None,
    stop_after: int | None = None,
    checkpoint: CheckpointFile | None = None,
    member: int = 1,
    log: Callable[[Epoch], None] = lambda epoch: None,
    dist: Distributed | None = None,
) -> TrainedHead:
    """Train the neck and the loss of a recipe; with ``validation``, keep the best epoch, else the last one.

    ``parts`` are the lengths of the descriptor's parts, ``counts`` (C,) the reference photos of each landmark.
    ``stop_after`` ends at that epoch of the same schedule, for a refit on more photos. The processes of ``dist``, which
    all call this, share batches and landmarks. Raises ObeliskError when the loss diverges.
    """
    be_deterministic()
    torch.manual_seed(recipe.seed)
    neck = build_neck(recipe.neck, parts, photos.plain())
    if recipe.loss.kind == "none":
        return TrainedHead(neck=neck.eval(), loss=None, best_epoch=0)
    trainer = build_head_trainer(recipe, neck, photos, counts, validation, dist=dist)
    trainer.settings = replace(trainer.settings, stop_after=stop_after)
    trainer.checkpoint, trainer.member, trainer.log = checkpoint, member, log
    kept = trainer.fit().eval()
    best = trainer.state.best_epoch or trainer.state.epoch
    assert isinstance(kept.embedder, Neck)
    return TrainedHead(neck=kept.embedder, loss=kept.loss, best_epoch=best)


def build_head_trainer(
    recipe: Recipe,
    neck: Neck,
    photos: TrainingPhotos,
    counts: Tensor,
    validation: TrainingPhotos | None = None,
    *,
    dist: Distributed | None = None,
) -> Trainer[nn.Module]:
    """Set up the training of a neck with the recipe's loss, which starts at the landmarks' mean embeddings."""
    section, dist = recipe.training, dist or Distributed()
    loss = build_loss(recipe.loss, neck.dimensions, counts, dropout=classifier_dropout(recipe), dist=dist)
    loss.start_at_means(lambda: mean_embeddings(neck, photos, len(counts)))
    head = Head(neck, loss)
    by_softmax = recipe.classifier.kind == recipe.loss.kind == "softmax"

    def validate(weights: EmbedderWithLoss[nn.Module], stream: Iterator[Batch]) -> Validation:
        assert isinstance(weights.embedder, Neck)
        return validate_head(
            weights.embedder, weights.loss, photos, validation, section, recipe.seed, by_softmax=by_softmax
        )

    return Trainer(
        model=head,
        weights=head,
        optimizer=build_head_optimizer(section, neck, loss),
        clipped=list(neck.parameters()),
        batches=DescriptorBatches(
            photos=photos, section=section, seed=recipe.seed, views_at_once=recipe.views_at_once, dist=dist
        ),
        dist=dist,
        settings=TrainerSettings(
            epochs=section.epochs,
            warm_up=section.warm_up,
            patience=section.patience,
            keep_best=bool(validation),
            ema_decay=section.ema_decay,
            clip_grad_norm=section.clip_grad_norm or math.inf,
            advice=ADVICE,
        ),
        validate=validate,
    )


def classifier_dropout(recipe: Recipe) -> float:
    """Return the dropout in front of a softmax layer: the dense and linear necks have their own."""
    return recipe.neck.dropout if recipe.neck.kind == "identity" else 0.0


@torch.no_grad()
def mean_embeddings(neck: Neck, photos: TrainingPhotos, landmarks: int) -> Tensor:
    """Return the mean embedding of each landmark's photos, (C, D), at unit length; zeros for one without photos."""
    neck.eval()
    sums = torch.zeros(landmarks, neck.dimensions).index_add_(0, photos.landmarks, neck.embed(photos.plain()))
    return nn.functional.normalize(sums, dim=1)


@torch.no_grad()
def validate_head(
    neck: Neck,
    loss: Loss,
    photos: TrainingPhotos,
    validation: TrainingPhotos | None,
    section: TrainingSection,
    seed: int,
    *,
    by_softmax: bool,
) -> Validation:
    """Compute loss and top-1 on the validation photos, and how far the embeddings spread."""
    std = embedding_std(neck, photos)
    if validation is None or not len(validation):
        return Validation(embedding_std=std)
    features, landmarks = neck(validation.plain()), validation.landmarks
    # Drawn as the training batches are, and the same ones after every epoch, so that the two curves can be compared.
    rng = torch.Generator().manual_seed(seed)
    batches = draw_batches(section, landmarks, section.batch_size, rng)
    losses = [loss(features[batch], landmarks[batch]).item() for batch in batches]
    scores = loss.score_landmarks(features) if by_softmax else None
    named = find_nearest(neck, validation, photos) if scores is None else scores.argmax(dim=1)
    top1 = (named == landmarks).float().mean().item()
    return Validation(loss=sum(losses) / len(losses), top1=top1, embedding_std=std)


def find_nearest(neck: Neck, queries: TrainingPhotos, photos: TrainingPhotos) -> Tensor:
    """Return the landmark of the nearest photo to each query, (Q,)."""
    embedded, references = neck.embed(queries.plain()), neck.embed(photos.plain())
    nearest = torch.cat([(rows @ references.T).argmax(dim=1) for rows in torch.split(embedded, NAMED_AT_ONCE)])
    return photos.landmarks[nearest]


@torch.no_grad()
def embedding_std(neck: Neck, photos: TrainingPhotos) -> float:
    """Return the standard deviation of embeddings over photos, times √D: about 1 when healthy, 0 when collapsed."""
    rows = neck.embed(photos.views[0][:SPREAD_PHOTOS].float())
    return float(rows.std(dim=0).mean()) * math.sqrt(rows.shape[1])


@one_thread()
def train_probe(recipe: Recipe, necks: Necks, photos: TrainingPhotos, landmarks: int) -> Softmax:
    """Train a linear probe: a softmax layer of C ``landmarks`` on finished unit embeddings of all views of the photos.

    Losses that compare photos with each other give no probabilities; a probe does, on any embedding, and leaves the
    embedding as it is (Alain & Bengio, *Understanding intermediate layers using linear classifier probes*, ICLR 2017
    workshop).

    It is trained as the softmax layer of a cross entropy loss is: every photo once an epoch, for all epochs of the
    recipe, at ``training.classifier_learning_rate``. There is no early stopping, since the problem is convex and has
    one solution. The layer trains on embeddings of length √D, about that of features, so that it takes as many steps;
    the weights that are returned read embeddings of unit length.
    """
    be_deterministic()
    torch.manual_seed(recipe.seed)
    section = recipe.training.model_copy(update={"sampling": "natural", "photos_per_landmark": 0})
    with torch.no_grad():
        rows = torch.stack([necks.eval().embed(view.float()) for view in photos.views]) * necks.dimensions**0.5
    layer = Softmax(necks.dimensions, landmarks, label_smoothing=recipe.loss.label_smoothing)
    probe = Head(nn.Identity(), layer)
    Trainer(
        model=probe,
        weights=probe,
        optimizer=build_head_optimizer(section, nn.Identity(), layer),
        clipped=(),
        batches=DescriptorBatches(photos=replace(photos, views=rows), section=section, seed=recipe.seed),
        settings=TrainerSettings(epochs=section.epochs, warm_up=section.warm_up, advice=ADVICE),
    ).fit()
    with torch.no_grad():
        layer.classifier.weight.mul_(necks.dimensions**0.5)
    return layer.eval()
