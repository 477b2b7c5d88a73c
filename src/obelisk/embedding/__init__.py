"""Photos to embeddings: model bundles, the runtime that runs them without torch, and the cache of its results.

:class:`Bundle` loads a model, :class:`Embedder` runs it, :func:`write_bundle` makes one, :class:`DescriptorCache`
and :class:`ReferenceCache` remember what it computed.
"""

from __future__ import annotations

from obelisk.embedding.bundle import LARGEST_JSON, Bundle, attach, write_bundle
from obelisk.embedding.bundle_classifier import (
    CLASSIFIER,
    LAYER,
    BundleClassifier,
    LandmarkId,
    LayerLandmarks,
    read_classifier,
    read_layer,
)
from obelisk.embedding.bundle_manifest import MANIFEST_FILE, MODEL_FILE, BundleManifest, Member, Precision
from obelisk.embedding.cached_embedder import CachedEmbedder
from obelisk.embedding.descriptor_cache import PLAIN, DescriptorCache, Descriptors, View, hash_or_error
from obelisk.embedding.onnx_model import FEATURES, LOGITS, OnnxModel
from obelisk.embedding.reference_cache import (
    LARGE_FILE,
    PICTURE_SIDE,
    SHARP,
    ReferenceCache,
    fit_picture,
    keeping_references,
)
from obelisk.embedding.runtime import Embedded, Embedder
from obelisk.embedding.runtime_choice import Runtime
from obelisk.embedding.strict_json import load_json, parse_json, validate_json
from obelisk.embedding.user_cache import cache_folder

__all__ = [
    "CLASSIFIER",
    "FEATURES",
    "LARGEST_JSON",
    "LARGE_FILE",
    "LAYER",
    "LOGITS",
    "MANIFEST_FILE",
    "MODEL_FILE",
    "PICTURE_SIDE",
    "PLAIN",
    "SHARP",
    "Bundle",
    "BundleClassifier",
    "BundleManifest",
    "CachedEmbedder",
    "DescriptorCache",
    "Descriptors",
    "Embedded",
    "Embedder",
    "LandmarkId",
    "LayerLandmarks",
    "Member",
    "OnnxModel",
    "Precision",
    "ReferenceCache",
    "Runtime",
    "View",
    "attach",
    "cache_folder",
    "fit_picture",
    "hash_or_error",
    "keeping_references",
    "load_json",
    "parse_json",
    "read_classifier",
    "read_layer",
    "validate_json",
    "write_bundle",
]
