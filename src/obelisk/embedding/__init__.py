"""Photos to embeddings: model bundles, the runtime that needs no torch, and the cache of what was computed."""

from __future__ import annotations

from obelisk.embedding.bundle import MODEL_FILE, Bundle, BundleManifest, write_bundle
from obelisk.embedding.descriptors import PLAIN, DescriptorCache, Descriptors, View, cache_folder, hash_or_error
from obelisk.embedding.runtime import Embedded, Embedder, OnnxModel

__all__ = [
    "MODEL_FILE",
    "PLAIN",
    "Bundle",
    "BundleManifest",
    "DescriptorCache",
    "Descriptors",
    "Embedded",
    "Embedder",
    "OnnxModel",
    "View",
    "cache_folder",
    "hash_or_error",
    "write_bundle",
]
