"""The networks: backbones and their weights, pooling, whitening, necks, and the whole embedder."""

from obelisk.training.model.backbones import (
    FrozenBackbone,
    create_network,
    export_backbone,
    load_backbone,
    load_backbones,
)
from obelisk.training.model.network import (
    Embedding,
    Neck,
    Necks,
    NormalizeParts,
    PhotoEmbedder,
    build_neck,
    count_trainable,
    dense_head,
)
from obelisk.training.model.pooled_backbone import PooledBackbone
from obelisk.training.model.pooling import avg, gem, l2n
from obelisk.training.model.state_dict import read_state
from obelisk.training.model.whitening import pca_whitening

__all__ = [
    "Embedding",
    "FrozenBackbone",
    "Neck",
    "Necks",
    "NormalizeParts",
    "PhotoEmbedder",
    "PooledBackbone",
    "avg",
    "build_neck",
    "count_trainable",
    "create_network",
    "dense_head",
    "export_backbone",
    "gem",
    "l2n",
    "load_backbone",
    "load_backbones",
    "pca_whitening",
    "read_state",
]
