"""Networks of many shapes as backbones: maps, maps with the channels last, tokens; their poolings, sizes and layers."""

import pytest
import torch

from obelisk.config import BackboneSection
from obelisk.errors import ModelError
from obelisk.training.model import PooledBackbone, avg, create_network, gem
from obelisk.training.model.backbones import build_pooled, refuse_size
from obelisk.training.optim.optimizer import free_layers, group_layers

VIT = "test_vit"  # patches of 16 pixels, six blocks, a class token


def pooled(name: str, size: int, **section: object) -> tuple[PooledBackbone, tuple[int, ...]]:
    """Return a network of random weights with the pooling of a recipe, and the lengths of its parts."""
    network, _ = create_network(name, "random", 0, size=size)
    chosen = BackboneSection.model_validate({"names": [name], "weights": "random", **section})
    module = build_pooled(network, chosen).eval()
    return module, module.measure_parts(size)


# network, photo side, its pooling → parts, side of the map that explanations get
NETWORKS = {
    "maps": ("test_resnet", 64, {"pooling": "gem"}, (96,), 2),
    "maps, and the stage before": ("test_resnet", 64, {"stages": 2}, (192, 96), 2),
    "a wider last map, and the stages before": ("test_efficientnet", 64, {"stages": 3}, (48, 64, 256), 2),
    "channels last": ("test_mambaout", 64, {"stages": 2}, (48, 64), 2),
    "a pool of its own": ("test_mambaout", 64, {"pooling": "own"}, (256,), 2),
    "tokens": (VIT, 96, {}, (64,), 6),
    "class token": (VIT, 96, {"pooling": "cls", "stages": 2}, (64, 64), 6),
    "class token and map": (VIT, 96, {"pooling": "cls+gem"}, (64, 64), 6),
    "attention pooling": ("test_vit3", 64, {"pooling": "own"}, (96,), 4),
    "registers": ("test_vit4", 64, {}, (96,), 4),
    "several maps at once": ("coat_lite_tiny", 64, {}, (320,), 2),
}


@pytest.mark.parametrize(("name", "size", "section", "parts", "side"), NETWORKS.values(), ids=NETWORKS)
def test_a_network_gives_what_is_pooled(
    name: str, size: int, section: dict[str, object], parts: tuple[int, ...], side: int
) -> None:
    module, found = pooled(name, size, **section)
    photos = torch.rand(2, 3, size, size)
    with torch.inference_mode():
        assert module(photos).shape == (2, sum(parts))
        maps = module.read(photos).stages[-1].maps
    assert found == parts
    assert maps is not None
    assert maps.shape[-2:] == (side, side)


def test_parts_are_those_that_the_network_computes() -> None:
    photos = torch.rand(2, 3, 96, 96)
    module, _ = pooled(VIT, 96, pooling="cls+gem", stages=2)
    with torch.inference_mode():
        before, token, earlier, last = *module.pool_stages(photos)[:2], *module.pool_stages(photos)[2:]
        tokens = module.network.forward_features(photos)
        blocks = module.network.get_intermediate_layers(photos, n=2, return_prefix_tokens=True, norm=True)
        own = pooled(VIT, 96, pooling="own")[0](photos)
        mean = pooled(VIT, 96)[0](photos)
    (first, prefix), _ = blocks
    maps = first.transpose(1, 2).unflatten(2, (6, 6))
    torch.testing.assert_close(before, prefix[:, 0])
    torch.testing.assert_close(token, gem(maps))
    torch.testing.assert_close(earlier, tokens[:, 0])
    torch.testing.assert_close(last, gem(tokens[:, 1:].transpose(1, 2).unflatten(2, (6, 6))))
    torch.testing.assert_close(own, module.network.forward_head(tokens, pre_logits=True))
    torch.testing.assert_close(mean, tokens[:, 1:].mean(dim=1))


def test_the_last_stage_of_a_resnet_is_read_once() -> None:
    module, _ = pooled("test_resnet", 64, stages=2)
    photos = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        _, maps = module.network.forward_intermediates(photos)
        expected = torch.cat([avg(maps[-2]), avg(maps[-1])], dim=1)
        torch.testing.assert_close(module(photos), expected)


REFUSED = {
    "no class token": ("test_resnet", {"pooling": "cls"}, "has no class token.*backbone.pooling=avg"),
    "more stages than there are": ("test_resnet", {"stages": 4, "names": ["test_resnet"]}, None),
    "a class token at the end only": ("cait_xxs24_224", {"pooling": "cls", "stages": 2}, "last block only.*stages=1"),
    "no map": ("pit_ti_224", {"pooling": "cls", "stages": 2}, "last block only"),
}


@pytest.mark.parametrize(("name", "section", "message"), REFUSED.values(), ids=REFUSED)
def test_what_a_network_does_not_give_is_refused(name: str, section: dict[str, object], message: str | None) -> None:
    if message is None:
        assert len(pooled(name, 64, **section)[1]) == 4
        return
    with pytest.raises(ModelError, match=message):
        pooled(name, 64, **section)


def test_the_nearest_sizes_that_fit_are_named() -> None:
    refuse_size(VIT, 96)
    with pytest.raises(ModelError, match=r"`test_vit` cannot take photos of 100 pixels.*photos.size=96 or 112"):
        refuse_size(VIT, 100)
    with pytest.raises(ModelError, match=r"`vit_tiny_patch16_224` cannot .* 1020 pixels.*photos.size=1008 or 1024"):
        refuse_size("vit_tiny_patch16_224", 1020)


@pytest.mark.parametrize("name", [VIT, "test_mambaout", "pit_ti_224"])
def test_layer_groups_begin_with_the_stem_and_leave_nothing_out(name: str) -> None:
    network, _ = create_network(name, "random", 0, size=64)
    groups = group_layers(network)
    assert sum(map(len, groups)) == len(list(network.parameters()))
    assert len(groups) >= 3
    assert any(
        network.get_parameter(each) is groups[0][0]
        for each in ("cls_token", "stem.conv1.weight", "pos_embed")
        if each in dict(network.named_parameters())
    )


def test_weights_that_nothing_depends_on_stay_frozen() -> None:
    module, _ = pooled("test_vit3", 64)  # without its attention pooling
    free_layers(module, 0)
    frozen = {name.split(".")[0] for name, weight in module.network.named_parameters() if not weight.requires_grad}
    assert frozen == {"attn_pool"}
