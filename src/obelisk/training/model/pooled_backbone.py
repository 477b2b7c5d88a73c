"""A timm network cut before its classifier: its features as maps and class tokens, pooled to a descriptor.

timm's networks give maps (N, C, H, W), maps with the channels last (N, H, W, C), or tokens (N, L, C). Tokens are a
class token and registers, where the network has them, and then the square grid that becomes a map.
"""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from obelisk.errors import ModelError
from obelisk.training.model.pooling import covariance, gem, l2n

MOST_CHANNELS = 256  # of a stage whose covariance is taken: 32,896 numbers

TimmNetwork = Any
"""A timm network: its classes carry attributes, such as `feature_info`, that nn.Module does not declare."""


@dataclass(frozen=True, kw_only=True)
class StageFeatures:
    """What a stage gives: feature maps (N, C, H, W) and the class token (N, C), each None where there is none."""

    maps: Tensor | None
    token: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class BackboneFeatures:
    """What a network gives: its ``final`` output, the ``stages`` that are pooled, and the maps of ``second_order``."""

    final: Any
    stages: Sequence[StageFeatures]
    second_order: Sequence[Tensor | None]


class PooledBackbone(nn.Module):
    """A timm network cut before its classifier, whose last ``stages`` stages (or blocks) are pooled and concatenated.

    Photos (N, 3, H, W) → descriptors (N, sum of ``parts``), finest stage first. Each stage gives its class token, if
    ``class_token``, and its map as ``pool`` pools it, or by a GeM whose ``exponents`` (stages,) are learned. With
    ``own``, the network pools its last stage itself. The covariances of the stages in ``second_order``, counted from
    the photo, 1 the first, follow, each of unit length (:func:`~obelisk.training.model.pooling.covariance`).
    """

    exponents: nn.Parameter | None

    def __init__(
        self,
        network: TimmNetwork,
        pool: Callable[[Tensor], Tensor] | None,
        stages: int,
        *,
        class_token: bool = False,
        own: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.pool = pool
        self.stages = stages
        self.class_token = class_token
        self.own = own
        self.register_parameter("exponents", None)
        self.reads_last = True  # the last map from the network's final output; else from its last stage
        self.has_maps = True
        self.size = 0  # of the photos that it was measured with, pixels
        self.options: dict[str, bool] = {}  # of forward_intermediates
        self.second_order: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The network's name in timm."""
        return str(self.network.pretrained_cfg["architecture"])

    @property
    def takes_one_size(self) -> bool:
        """Whether the network takes only photos of the size that it was made for."""
        return bool(self.network.pretrained_cfg.get("fixed_input_size"))

    @property
    def stage_count(self) -> int:
        """The number of stages, or blocks, that can be pooled."""
        return len(self.network.feature_info)

    @property
    def indices(self) -> list[int]:
        """The stages to read besides the final output, as timm's feature_info counts them."""
        known = self.stage_count
        if not self.reads_last:
            return list(range(known - self.stages, known))
        # Most networks end with their last stage; some widen it by one more convolution.
        ends = known - 1 if self.network.feature_info[-1]["num_chs"] == self.network.num_features else known
        return list(range(ends - self.stages + 1, ends))

    @property
    def read_indices(self) -> list[int]:
        """All stages to read besides the final output: those that are pooled, and those of second order."""
        return sorted({*self.indices, *(stage - 1 for stage in self.second_order)})

    def read(self, photos: Tensor) -> BackboneFeatures:
        """Return the network's final output, and the features of each stage."""
        indices = self.read_indices
        if not indices:
            final = self.network.forward_features(photos)
            return BackboneFeatures(final=final, stages=[self.split(final)], second_order=[])
        final, found = self.network.forward_intermediates(photos, indices=indices, **self.options)
        read = {
            index: StageFeatures(maps=one[0], token=one[1][:, 0])
            if isinstance(one, (tuple, list))
            else StageFeatures(maps=one)
            for index, one in zip(indices, found, strict=True)
        }
        pooled = [read[index] for index in self.indices]
        return BackboneFeatures(
            final=final,
            stages=[*pooled, self.split(final)] if self.reads_last else pooled,
            second_order=[read[stage - 1].maps for stage in self.second_order],
        )

    def split(self, final: Any) -> StageFeatures:
        """Return the map and the class token in a network's final output."""
        if not isinstance(final, Tensor):
            return StageFeatures(maps=None)
        if final.ndim == 4:
            last = getattr(self.network, "output_fmt", "NCHW") == "NHWC"
            return StageFeatures(maps=final.permute(0, 3, 1, 2) if last else final)
        if final.ndim != 3:
            return StageFeatures(maps=None)
        with_class = getattr(self.network, "cls_token", None) is not None
        prefix = getattr(self.network, "num_prefix_tokens", int(with_class))
        grid = final[:, prefix:]
        side = math.isqrt(grid.shape[1])
        square = side > 0 and side * side == grid.shape[1]
        return StageFeatures(
            maps=grid.reshape(grid.shape[0], side, side, grid.shape[2]).permute(0, 3, 1, 2) if square else None,
            token=final[:, 0] if with_class else None,
        )

    def pool_read(self, read: BackboneFeatures) -> list[Tensor]:
        """Return the pooled parts of what :meth:`read` returned: rows (N, D) of each stage, then of second order."""
        second_order = [l2n(covariance(maps)) for maps in read.second_order if maps is not None]
        if self.own:
            return [self.network.forward_head(read.final, pre_logits=True).flatten(1), *second_order]
        parts = []
        for depth, stage in enumerate(read.stages):
            if self.class_token:
                assert stage.token is not None
                parts.append(stage.token)
            if self.pool is not None:
                assert stage.maps is not None
                parts.append(
                    self.pool(stage.maps) if self.exponents is None else gem(stage.maps, self.exponents[depth])
                )
        return [*parts, *second_order]

    def pool_stages(self, photos: Tensor) -> list[Tensor]:
        """Return the pooled parts of photos, rows (N, D) of each stage."""
        return self.pool_read(self.read(photos))

    def forward(self, photos: Tensor) -> Tensor:
        """Return the descriptors."""
        return torch.cat(self.pool_stages(photos), dim=1)

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

    @torch.inference_mode()
    def measure_parts(self, size: int) -> tuple[int, ...]:
        """Return the length of each pooled part; settle how this network's stages are read.

        Raises ModelError for a network that does not give what is to be pooled.
        """
        if self.stages > self.stage_count:
            raise ModelError(f"backbone.stages = {self.stages}, but `{self.name}` has {self.stage_count} stages")
        if max(self.second_order, default=0) > self.stage_count:
            what = f"second_order.stages has {max(self.second_order)}, but `{self.name}` has {self.stage_count} stages"
            raise ModelError(what)
        self.size, photos = size, torch.zeros(1, 3, size, size)
        try:
            final = self.network.forward_features(photos)
            last = self.split(final)
            self.reads_last = self.own or self.pool is None or last.maps is not None
            if not self.own:
                self.choose_options(photos, tokens=isinstance(final, Tensor) and final.ndim == 3)
            read = self.read(photos)
        except ModelError:
            raise
        except Exception as error:  # each network says in its own way what it cannot take
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ModelError(f"`{self.name}` cannot take photos of {size} pixels: {reason}") from error
        self.has_maps = read.stages[-1].maps is not None
        if self.class_token and any(stage.token is None for stage in read.stages):
            self.refuse_tokens(last)
        if self.pool is not None and any(stage.maps is None for stage in read.stages):
            shape = tuple(final.shape) if isinstance(final, Tensor) else type(final).__name__
            fix = "--set backbone.pooling=own, or choose another backbone"
            raise ModelError(f"`{self.name}` gives no square feature map to pool, but {shape}", fix=fix)
        self.refuse_second_order(read.second_order)
        return tuple(pooled.shape[1] for pooled in self.pool_read(read))

    def refuse_second_order(self, found: Sequence[Tensor | None]) -> None:
        """Raise ModelError for stages without a map, or with so many channels that their covariance is too large."""
        for stage, maps in zip(self.second_order, found, strict=True):
            if maps is None or maps.ndim != 4:
                what = f"stage {stage} of `{self.name}` gives no square feature map"
                raise ModelError(what, fix="leave it out of second_order.stages")
            if maps.shape[1] > MOST_CHANNELS:
                what = (
                    f"stage {stage} of `{self.name}` has {maps.shape[1]} channels, second_order takes {MOST_CHANNELS}"
                )
                raise ModelError(what, fix="take earlier stages: second_order.stages")

    def refuse_tokens(self, last: StageFeatures) -> None:
        """Raise ModelError for a network without the class tokens that are to be read."""
        if last.token is None:
            fix = "--set backbone.pooling=avg, gem or own"
            raise ModelError(f"`{self.name}` has no class token for backbone.pooling", fix=fix)
        what = f"`{self.name}` gives the class token of its last block only"
        raise ModelError(what, fix="--set backbone.stages=1, or --set backbone.pooling=gem")

    def choose_options(self, photos: Tensor, *, tokens: bool) -> None:
        """Settle how to ask for earlier blocks of a transformer: with its final norm, and with class tokens if needed.

        Raises ModelError if the network gives no intermediate features.
        """
        self.options = {}
        if not self.read_indices:
            return
        if not hasattr(self.network, "forward_intermediates"):
            raise ModelError(f"`{self.name}` gives no maps of its stages", fix="--set backbone.pooling=own")
        known = inspect.signature(self.network.forward_intermediates).parameters
        if self.class_token and "return_prefix_tokens" in known:
            self.options["return_prefix_tokens"] = True
        if tokens and "norm" in known:
            with contextlib.suppress(AssertionError, NotImplementedError):
                self.network.forward_intermediates(photos, indices=self.read_indices, norm=True)
                self.options["norm"] = True

    def find_unused(self) -> set[str]:
        """Return the names of the network's weights that no descriptor depends on, such as those of its own head."""
        with torch.enable_grad():
            weights = {
                name: torch.empty_like(weight, device="meta", requires_grad=True)
                for name, weight in self.named_parameters()
            }
            buffers = {name: torch.empty_like(buffer, device="meta") for name, buffer in self.named_buffers()}
            photos = torch.zeros(1, 3, self.size, self.size, device="meta")
            try:
                rows = torch.func.functional_call(self, {**weights, **buffers}, (photos,))
                gradients = torch.autograd.grad(rows.sum(), list(weights.values()), allow_unused=True)
            except Exception:  # some networks compute with numbers that this has not
                return set()
        named = zip(weights, gradients, strict=True)
        return {name.removeprefix("network.") for name, gradient in named if gradient is None}


class WithFeatures(nn.Module):
    """A backbone that also returns the last feature map it reads, for explanations: an export's two outputs."""

    def __init__(self, backbone: PooledBackbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, photos: Tensor) -> tuple[Tensor, Tensor]:
        """Return descriptors (N, D_in) and feature maps (N, C, H, W)."""
        read = self.backbone.read(photos)
        maps = read.stages[-1].maps
        assert maps is not None
        return torch.cat(self.backbone.pool_read(read), dim=1), maps
