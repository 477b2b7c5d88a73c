"""The networks: the dense head of the reference baseline, the necks, and the whole embedder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from obelisk.config import NeckSection
from obelisk.errors import RecipeError
from obelisk.training.model.pooled_backbone import PooledBackbone
from obelisk.training.model.pooling import l2n
from obelisk.training.model.whitening import pca_whitening

DENSE_WIDTHS = (1024, 512)


def dense_head(in_features: int, landmarks: int, *, dropout: float = 0.5) -> nn.Sequential:
    """Build the baseline's head on a pooled descriptor (N, D): logits (N, C).

    BN, Dense 1024, Dropout, BN, Dense 512, BN, Dense C. With a ResNet50's D = 2048 and C = 943 it has
    3,113,903 trainable parameters; all but the last layer's belong to the neck that makes the embedding.
    """
    wide, narrow = DENSE_WIDTHS
    return nn.Sequential(
        nn.BatchNorm1d(in_features),
        nn.Linear(in_features, wide),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.BatchNorm1d(wide),
        nn.Linear(wide, narrow),
        nn.ReLU(),
        nn.BatchNorm1d(narrow),
        nn.Linear(narrow, landmarks),
    )


def count_trainable(module: nn.Module) -> int:
    """Count the parameters that training may change."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


class NormalizeParts(nn.Module):
    """L2-normalize each part of a descriptor (N, D): parts are pooled stages of one or several backbones."""

    def __init__(self, parts: Sequence[int]) -> None:
        super().__init__()
        self.parts = list(parts)

    def forward(self, descriptors: Tensor) -> Tensor:
        """Return rows of the same shape whose parts have unit length."""
        return torch.cat([l2n(part) for part in torch.split(descriptors, self.parts, dim=1)], dim=1)


class Neck(nn.Module):
    """Descriptor (N, D_in) → features (N, D); the embedding is the features at unit length."""

    def __init__(self, layers: nn.Sequential, dimensions: int) -> None:
        super().__init__()
        self.layers = layers
        self.dimensions = dimensions

    def forward(self, descriptors: Tensor) -> Tensor:
        """Return features, (N, D), as softmax layers see them."""
        features: Tensor = self.layers(descriptors)
        return features

    def embed(self, descriptors: Tensor) -> Tensor:
        """Return embeddings, (N, D), of unit length."""
        return l2n(self(descriptors))


def build_neck(section: NeckSection, parts: Sequence[int], descriptors: Tensor | None = None) -> Neck:
    """Build the neck of a recipe for descriptors made of ``parts``.

    ``descriptors`` (N, D_in) fit the whitening; without them all weights are random, until trained ones are loaded.
    """
    first = NormalizeParts(parts) if section.normalize_parts else nn.Identity()
    width = sum(parts)
    if section.kind == "identity":
        return Neck(nn.Sequential(first), width)
    if section.kind == "dense":
        head = dense_head(width, 1, dropout=section.dropout)
        return Neck(nn.Sequential(first, *head[:-1]), DENSE_WIDTHS[-1])
    linear = nn.Linear(width, section.dimensions)
    if descriptors is not None and (section.kind == "whitening" or section.start == "whitening"):
        start_at_whitening(linear, first(descriptors), whole=section.kind == "whitening")
    return Neck(nn.Sequential(first, nn.Dropout(section.dropout), linear), section.dimensions)


@torch.no_grad()
def start_at_whitening(linear: nn.Linear, rows: Tensor, *, whole: bool) -> None:
    """Set a layer to the PCA whitening of rows (N, D_in).

    Few photos determine fewer directions than the layer has. Then it is a RecipeError if the layer must be ``whole``;
    otherwise the other dimensions keep their small random weights, for training to use.
    """
    projection, bias = pca_whitening(rows, linear.out_features)
    known = len(projection)
    if whole and known < linear.out_features:
        raise RecipeError(
            f"neck.dimensions = {linear.out_features}, but {len(rows)} descriptors determine {known} directions",
            fix=f"--set neck.dimensions={known} or less",
        )
    linear.weight[:known] = projection
    linear.bias[:known] = bias


class Necks(nn.Module):
    """Necks side by side, each on its own slice of the descriptor: an ensemble in one embedding.

    Descriptor (N, sum of ``widths``) → embedding (N, sum of the necks' D): unit embeddings, concatenated and scaled
    to unit length again, so that the cosine of two photos is the mean of the members' cosines.

    The whitening of second order (:meth:`add_second_order`) reads the columns that follow. It takes part in the
    embedding only; losses don't see it.
    """

    def __init__(self, necks: Sequence[Neck], widths: Sequence[int]) -> None:
        super().__init__()
        self.necks = nn.ModuleList(necks)
        self.widths = list(widths)
        self.width = sum(self.widths)
        self.dimensions = sum(neck.dimensions for neck in necks)
        self.second_order: nn.Linear | None = None
        self.second_order_weight = 0.0

    def add_second_order(self, whitening: nn.Linear, weight: float) -> None:
        """From here on, join the embedding e and that of second order, f, into ``(√(1 − a) e, √a f)``, a = ``weight``.

        So the cosine of two photos is ``(1 − a) cos(e, e′) + a cos(f, f′)``.
        """
        self.second_order = whitening.requires_grad_(requires_grad=False)
        self.second_order_weight = weight
        self.width += whitening.in_features
        self.dimensions += whitening.out_features

    def forward(self, descriptors: Tensor) -> Tensor:
        """Return the features of the only neck, as a softmax layer sees them, or the embeddings of several."""
        if len(self.necks) == 1:
            features: Tensor = self.necks[0](descriptors)
            return features
        slices = torch.split(descriptors, self.widths, dim=1)
        return torch.cat([l2n(neck(part)) for neck, part in zip(self.necks, slices, strict=True)], dim=1)

    def embed(self, descriptors: Tensor) -> Tensor:
        """Return embeddings, (N, D), of unit length."""
        if self.second_order is None:
            return l2n(self(descriptors))
        first, second = torch.tensor_split(descriptors, [sum(self.widths)], dim=1)
        weight = self.second_order_weight
        parts = [(1.0 - weight) ** 0.5 * l2n(self(first)), weight**0.5 * l2n(self.second_order(second))]
        return torch.cat(parts, dim=1)


class Embedding(nn.Module):
    """Necks as they are exported: descriptors (N, D_in) → embeddings (N, D) of unit length."""

    def __init__(self, necks: Necks) -> None:
        super().__init__()
        self.necks = necks

    def forward(self, descriptors: Tensor) -> Tensor:
        """Return the embeddings."""
        return self.necks.embed(descriptors)


class PhotoEmbedder(nn.Module):
    """The whole network of a bundle: photos (N, 3, H, W) → embeddings (N, D) of unit length."""

    def __init__(self, backbones: Sequence[nn.Module], necks: Necks) -> None:
        super().__init__()
        self.backbones = nn.ModuleList(backbones)
        self.necks = necks

    @property
    def only_backbone(self) -> PooledBackbone:
        """The backbone of a network that has only one; raises ValueError if there are more."""
        (backbone,) = self.backbones
        assert isinstance(backbone, PooledBackbone)
        return backbone

    def extract(self, photos: Tensor) -> Tensor:
        """Return descriptors (N, D_in): those of all backbones side by side."""
        return torch.cat([backbone(photos) for backbone in self.backbones], dim=1)

    def forward(self, photos: Tensor) -> Tensor:
        """Extract the features of the photos, and embed them."""
        return self.necks.embed(self.extract(photos))


class EmbeddingWithLogits(nn.Module):
    """Necks and a softmax layer as they are exported together: descriptors → unit embeddings (N, D), logits (N, C).

    The layer of a loss reads features of any length; a probe reads embeddings (``on_embedding``).
    """

    def __init__(self, necks: Necks, layer: nn.Module, *, on_embedding: bool) -> None:
        super().__init__()
        self.necks = necks
        self.layer = layer
        self.on_embedding = on_embedding

    def forward(self, descriptors: Tensor) -> tuple[Tensor, Tensor]:
        """Return embeddings and logits."""
        features = self.necks(descriptors)
        embedding = l2n(features)
        return embedding, self.layer(embedding if self.on_embedding else features)


class PhotoClassifier(nn.Module):
    """The whole network of a bundle with a softmax layer: photos (N, 3, H, W) → embeddings (N, D), logits (N, C)."""

    def __init__(self, embedder: PhotoEmbedder, head: EmbeddingWithLogits) -> None:
        super().__init__()
        self.embedder = embedder
        self.head = head

    def forward(self, photos: Tensor) -> tuple[Tensor, Tensor]:
        """Return embeddings and logits."""
        embedding, logits = self.head(self.embedder.extract(photos))
        return embedding, logits
