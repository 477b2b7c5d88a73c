"""Embedding a dataset in shards, on as many machines as there are: Slurm and Kubernetes arrays, or Ray.

:func:`open_plan` fixes what is to be done, once, in a folder that all machines see. :func:`embed_shard` embeds one of n
shards, :func:`embed_on_ray` all of them. :class:`EmbeddedPhotos` gives the embeddings to whoever builds a gallery.
"""

from __future__ import annotations

from obelisk.embedding.shards.embed_shard import ShardReport, embed_shard, report_shard
from obelisk.embedding.shards.embedded_photos import EmbeddedPhotos
from obelisk.embedding.shards.on_ray import embed_on_ray
from obelisk.embedding.shards.shard_plan import WHOLE, Shard, ShardPlan, open_plan, parse_shard, read_plan

__all__ = [
    "WHOLE",
    "EmbeddedPhotos",
    "Shard",
    "ShardPlan",
    "ShardReport",
    "embed_on_ray",
    "embed_shard",
    "open_plan",
    "parse_shard",
    "read_plan",
    "report_shard",
]
