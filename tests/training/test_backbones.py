"""Backbones: where weights come from, what is said when they cannot be had, and how the export compares."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from obelisk.config import BackboneSection, PhotosSection
from obelisk.embedding import MODEL_FILE
from obelisk.errors import ModelError
from obelisk.training.export.onnx import check_export, to_onnx
from obelisk.training.model import create_network, read_state
from obelisk.training.model.backbones import load_backbone, load_backbones

TINY = "test_efficientnet"


def test_an_unknown_name_gets_the_nearest_known_one() -> None:
    with pytest.raises(ModelError, match=r"unknown backbone `resnet5O`.*did you mean `resnet50`"):
        create_network("resnet5O", "auto", 0)


def test_weights_that_the_hub_does_not_give_get_one_instruction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=r"`resnet50` cannot be fetched.*--set backbone.weights=FILE.safetensors"):
        create_network("resnet50", "auto", 0)


def test_a_name_that_no_package_carries_is_refused() -> None:
    with pytest.raises(ModelError, match=r"no package carries weights for `resnet50`.*tf_efficientnet_lite0"):
        create_network("resnet50", "package", 0)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("names", ["timm's names", "names of another implementation"])
def test_a_local_file_gives_the_network_that_was_saved(tmp_path: Path, suffix: str, names: str) -> None:
    torch.manual_seed(5)
    saved = timm.create_model(TINY, num_classes=10)
    state = saved.state_dict()
    if names != "timm's names":
        if suffix == ".safetensors":
            pytest.skip("safetensors keeps no order, so other names cannot be told apart")
        state = {f"_layer{n}.{name.rpartition('.')[2]}": state[name] for n, name in enumerate(state)}
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    loaded, source = create_network(TINY, str(path), 0)
    assert source == "file"
    expected = {key: tensor for key, tensor in saved.state_dict().items() if not key.startswith("classifier")}
    assert all(torch.equal(tensor, loaded.state_dict()[key]) for key, tensor in expected.items())
    assert expected.keys() == loaded.state_dict().keys()


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_file(timm.create_model("test_resnet", num_classes=0).state_dict(), tmp_path / "resnet.safetensors")
    with pytest.raises(ModelError, match=r"do not fit `test_efficientnet`, first `conv_stem.weight`"):
        create_network(TINY, str(tmp_path / "resnet.safetensors"), 0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.safetensors", None, "no such weights file"),
        ("text.safetensors", b"hello", "not a safetensors file"),
        ("huge.safetensors", b"\xff" * 8, "not a safetensors file"),
        (
            "order.safetensors",
            b'\x2a\0\0\0\0\0\0\0{"__metadata__":{"order":"[[[[[[[[[[[[["}}',
            "not a safetensors file",
        ),
        ("text.pth", b"hello", "not a plain state dict"),
    ],
)
def test_files_that_hold_no_weights_are_refused(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=message):
        read_state(tmp_path / name)


def test_the_package_carries_the_weights_of_lite0() -> None:
    network, source = create_network("tf_efficientnet_lite0", "auto", 0)
    assert source == "package"
    assert tuple(network.pretrained_cfg["mean"]) == (0.5, 0.5, 0.5)
    # A trained network, not a random one: its batch norms have seen data.
    assert network.bn1.running_var.mean() > 1.5 or network.bn1.running_mean.abs().mean() > 0.05


@pytest.mark.parametrize(("pooling", "stages", "parts"), [("avg", 1, 1), ("gem", 1, 1), ("avg", 3, 3), ("gem", 4, 4)])
def test_the_exported_backbone_computes_what_torch_does(pooling: str, stages: int, parts: int) -> None:
    section = BackboneSection.model_validate(
        {"names": [TINY], "weights": "random", "pooling": pooling, "stages": stages}
    )
    backbone = load_backbone(TINY, section, PhotosSection(size=64), 0)
    assert len(backbone.parts) == parts
    assert backbone.bundle.dimensions == sum(backbone.parts)
    rng = np.random.default_rng(0)
    photos = [rng.standard_normal((3, 64, 64), dtype=np.float32) for _ in range(10)]
    assert check_export((backbone.bundle.folder / MODEL_FILE).read_bytes(), backbone.module, photos) > 0.9999


def test_an_export_that_differs_from_torch_is_refused(tmp_path: Path) -> None:
    section = BackboneSection(names=(TINY,), weights="random")
    backbone = load_backbone(TINY, section, PhotosSection(size=64), 0)
    other = load_backbone(TINY, section, PhotosSection(size=64), 1)
    photos = [np.random.default_rng(0).standard_normal((3, 64, 64), dtype=np.float32) for _ in range(5)]
    with pytest.raises(ModelError, match="differs from torch"):
        check_export((backbone.bundle.folder / MODEL_FILE).read_bytes(), other.module, photos)


def test_exports_of_equal_networks_are_equal_bytes_and_tell_no_paths() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU())
    first = to_onnx(network, torch.zeros(2, 4), "rows", "out")
    assert first == to_onnx(network, torch.zeros(2, 4), "rows", "out")
    assert str(Path(torch.__file__).parent).encode() not in first
    assert str(Path(__file__).parent).encode() not in first


def test_backbones_that_read_photos_differently_are_not_joined() -> None:
    section = BackboneSection(names=(TINY, "test_resnet"), weights="random")
    with pytest.raises(ModelError, match="differently normalized"):
        load_backbones(section, PhotosSection(size=64), 0)
