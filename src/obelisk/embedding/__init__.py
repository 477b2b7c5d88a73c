"""Photos to embeddings: model bundles, the runtime that needs no torch, and the cache of what was computed."""

from __future__ import annotations

from obelisk.embedding.bundle import Bundle, write_bundle
from obelisk.embedding.descriptors import PLAIN, DescriptorCache, Descriptors, View, cache_folder, hash_or_error
from obelisk.embedding.manifest import MODEL_FILE, BundleManifest, Member
from obelisk.embedding.networks import OnnxModel
from obelisk.embedding.runtime import Embedded, Embedder

__all__ = [
    "MODEL_FILE",
    "PLAIN",
    "Bundle",
    "BundleManifest",
    "DescriptorCache",
    "Descriptors",
    "Embedded",
    "Embedder",
    "Member",
    "OnnxModel",
    "View",
    "cache_folder",
    "hash_or_error",
    "write_bundle",
]
