"""Weights from files: every usual spelling of a network's names is read, and nothing is loaded into the wrong place."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from timm.models.resnet import Bottleneck, ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from obelisk.errors import ModelError
from obelisk.training.model.state_dict import load_file
from obelisk.training.model.weights import describe_terms, fetch_network

State = dict[str, Tensor]


def narrow(name: str) -> nn.Module:
    """Return ResNet50 or SE-ResNeXt101 with one narrow block per stage: the names are those of the whole network."""
    torch.manual_seed(len(name))
    attention = {"block_args": {"attn_layer": "se"}} if name.startswith("se") else {}
    net = ResNet(Bottleneck, [1, 1, 1, 1], num_classes=0, channels=(8, 8, 16, 16), stem_width=8, **attention)
    with torch.no_grad():
        for tensor in net.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor))
    return net


def sequential(state: State) -> State:
    """Spell a ResNet's names as a network cut into an nn.Sequential, which DELF's ports are."""
    first = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
    named = {f"module.base.{first[n.split('.')[0]]}.{n.partition('.')[2]}": each for n, each in state.items()}
    return named | {"module.attn.conv1.weight": torch.zeros(4, 64, 1, 1)}


def cadene(state: State) -> State:
    """Spell the names as Cadene's files do, which have no counters, and a classifier."""
    named = {
        ("layer0." if name.startswith(("conv1", "bn1")) else "") + name.replace(".se.", ".se_module."): each
        for name, each in state.items()
        if not name.endswith("num_batches_tracked")
    }
    return named | {"last_linear.weight": torch.zeros(5, 64), "last_linear.bias": torch.zeros(5)}


def prefixed(prefix: str, state: State) -> State:
    return {prefix + name: each for name, each in state.items()}


# how the file spells the names of a state dict, and the key that chooses a network in it
SPELLINGS: dict[str, tuple[Callable[[State], object], str]] = {
    "torchvision": (lambda state: state | {"fc.weight": torch.zeros(5, 64), "fc.bias": torch.zeros(5)}, ""),
    "without counters": (lambda state: {n: each for n, each in state.items() if "num_batches" not in n}, ""),
    "data parallel": (lambda state: prefixed("module.", state), ""),
    "compiled": (lambda state: {"model": prefixed("_orig_mod.", state), "epoch": 3}, ""),
    "timm's checkpoint": (lambda state: {"arch": "x", "state_dict": state, "optimizer": {"state": {}, "lr": 1}}, ""),
    "an average": (lambda state: {"state_dict": prefixed("a.", {}), "state_dict_ema": state}, ""),
    "DINO": (
        lambda state: {
            "student": prefixed("module.backbone.", {n: 0 * each for n, each in state.items()}),
            "teacher": prefixed("backbone.", state) | {"head.mlp.0.weight": torch.zeros(3, 3)},
        },
        "teacher",
    ),
    "OpenCLIP": (
        lambda state: (
            prefixed("visual.trunk.", state)
            | {
                "visual.head.proj.weight": torch.zeros(2, 64),
                "text.pos": torch.zeros(3),
                "logit_scale": torch.zeros(()),
            }
        ),
        "",
    ),
    "DELF": (sequential, ""),
    "Cadene": (cadene, ""),
}


@pytest.mark.parametrize("name", ["resnet50", "seresnext101_32x4d"])
@pytest.mark.parametrize(("spell", "key"), SPELLINGS.values(), ids=SPELLINGS)
def test_a_file_gives_the_network_however_it_spells_its_names(
    tmp_path: Path, name: str, spell: Callable[[State], object], key: str
) -> None:
    saved = narrow(name)
    torch.save(spell(dict(saved.state_dict())), tmp_path / "weights.pth")
    empty = narrow(name)
    for tensor in empty.state_dict().values():
        tensor.zero_()
    loaded = load_file(empty, tmp_path / "weights.pth", name, key).state_dict()
    for each, tensor in saved.state_dict().items():
        assert torch.equal(tensor, loaded[each]), each


def vit(size: int, **changed: object) -> VisionTransformer:
    torch.manual_seed(size)
    about = {"patch_size": 14, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 0} | changed
    return VisionTransformer(img_size=size, **about)  # type: ignore[arg-type]


def test_position_embeddings_are_resampled_to_the_size_of_the_photos(tmp_path: Path) -> None:
    saved = vit(70, init_values=1e-5)
    state = dict(saved.state_dict()) | {"mask_token": torch.zeros(1, 16)}  # as DINOv2's own files
    save_file({f"teacher.backbone.{name}": each for name, each in state.items()}, tmp_path / "dinov2.safetensors")
    loaded = load_file(vit(56, init_values=1e-5), tmp_path / "dinov2.safetensors", "vit_small_patch14_dinov2")
    assert loaded.pos_embed.shape == (1, 17, 16)
    torch.testing.assert_close(loaded.pos_embed[:, 0], saved.pos_embed[:, 0])
    assert torch.equal(loaded.blocks[1].ls2.gamma, saved.blocks[1].ls2.gamma)


def test_openclip_s_own_transformer_is_translated(tmp_path: Path) -> None:
    saved = vit(56, pre_norm=True)
    names = {
        "cls_token": "class_embedding", "pos_embed": "positional_embedding", "patch_embed.proj.weight": "conv1.weight",
        "norm_pre.": "ln_pre.", "norm.": "ln_post.", "blocks.": "transformer.resblocks.", ".attn.qkv.weight":
        ".attn.in_proj_weight", ".attn.qkv.bias": ".attn.in_proj_bias", ".attn.proj.": ".attn.out_proj.",
        ".mlp.fc1.": ".mlp.c_fc.", ".mlp.fc2.": ".mlp.c_proj.", ".norm1.": ".ln_1.", ".norm2.": ".ln_2.",
    }  # fmt: skip
    state = {}
    for name, each in saved.state_dict().items():
        spelled = name
        for ours, theirs in names.items():
            spelled = spelled.replace(ours, theirs) if ours[0] == "." or spelled.startswith(ours) else spelled
        state[f"visual.{spelled}"] = each.flatten() if name == "cls_token" else each.squeeze(0)
    torch.save({"state_dict": prefixed("module.", state | {"logit_scale": torch.zeros(())})}, tmp_path / "clip.pt")
    loaded = load_file(vit(56, pre_norm=True), tmp_path / "clip.pt", "vit_base_patch16_clip_224").state_dict()
    assert all(torch.equal(each, loaded[name]) for name, each in saved.state_dict().items())


def swapped(state: State) -> State:
    """Give foreign names in TensorFlow's order, in which each norm's bias comes before its weight."""
    names = list(state)
    for at in range(len(names) - 1):
        if names[at + 1] == names[at].removesuffix("weight") + "bias":
            names[at], names[at + 1] = names[at + 1], names[at]
    return {f"layer_{n}.{name.rpartition('.')[2]}": state[name] for n, name in enumerate(names)}


WRONG: dict[str, tuple[Callable[[State], object], str]] = {
    "biases before weights": (swapped, "do not fit `resnet50`, first `conv1.weight`, which is not in the file"),
    "two networks": (
        lambda state: {"student": state, "teacher": state},
        "several networks: student, teacher .*choose one: --set backbone.weights_key=student",
    ),
    "two networks of foreign names": (
        lambda state: {"student": sequential(state), "teacher": sequential(state)},
        "several networks: student, teacher",
    ),
    "not a number": (
        lambda state: state | {"bn1.weight": state["bn1.weight"] * float("nan")},
        "`bn1.weight` holds num",
    ),
    "another shape": (
        lambda state: state | {"bn1.weight": torch.zeros(3)},
        r"1 of \d+ tensors do not fit `resnet50`, first `bn1.weight`, which is \(3,\) in the file and \(64,\)",
    ),
    "no tensor": (lambda state: {"epoch": 3, "args": {"lr": 1}}, "no state dict of tensors"),
    "no dict": (lambda state: [1, 2], "not a plain state dict"),
}


@pytest.mark.parametrize(("spell", "message"), WRONG.values(), ids=WRONG)
def test_weights_that_may_be_others_are_refused(tmp_path: Path, spell: Callable[[State], object], message: str) -> None:
    net = narrow("resnet50")
    torch.save(spell(dict(net.state_dict())), tmp_path / "weights.pth")
    with pytest.raises(ModelError, match=message):
        load_file(net, tmp_path / "weights.pth", "resnet50")


def test_safetensors_keep_no_order_to_match_by(tmp_path: Path) -> None:
    net = narrow("resnet50")
    save_file(sequential(dict(net.state_dict())), tmp_path / "weights.safetensors")
    with pytest.raises(ModelError, match="do not fit `resnet50`"):
        load_file(net, tmp_path / "weights.safetensors", "resnet50")


def test_a_key_that_is_not_there_gets_those_that_are(tmp_path: Path) -> None:
    net = narrow("resnet50")
    torch.save({"student": net.state_dict()}, tmp_path / "weights.pth")
    with pytest.raises(ModelError, match=r"weights_key = 'teacher' is not in the file.*has student"):
        load_file(net, tmp_path / "weights.pth", "resnet50", "teacher")


# licence → what is said before the first download
TERMS = {
    "apache-2.0": "",
    "MIT": "",
    "dinov3-license": "under the licence dinov3-license: it sets conditions",
    "cc-by-nc-4.0": "under the licence cc-by-nc-4.0: they may not be used commercially",
    None: "is not stated",
}


@pytest.mark.parametrize(("licence", "told"), TERMS.items(), ids=map(str, TERMS))
def test_terms_are_told_where_they_limit(licence: str | None, told: str) -> None:
    text = describe_terms("some_vit", "timm/some_vit.tag", licence)
    assert told in text
    assert bool(text) == bool(told)
    assert not text or "read https://huggingface.co/timm/some_vit.tag" in text


def test_a_licence_is_told_before_the_download(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with caplog.at_level(logging.WARNING, "obelisk"), pytest.raises(ModelError, match="cannot be fetched"):
        fetch_network("vit_small_patch16_dinov3", 64)
    assert "under the licence dinov3-license" in caplog.text
