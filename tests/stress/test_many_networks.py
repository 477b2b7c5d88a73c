"""Forty networks of more than twenty families, random weights: each trains a head, exports like torch, and answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from obelisk.config import Recipe
from obelisk.data import read_catalog
from obelisk.gallery import build_gallery
from obelisk.recognition import Recognizer
from obelisk.training.train import train_run

pytestmark = pytest.mark.stress

# network, photo side, pooling, stages
NETWORKS = [
    ("test_vit", 64, "cls+gem", 2),
    ("test_vit2", 64, "gem", 1),
    ("test_vit3", 64, "own", 1),
    ("test_vit4", 64, "avg", 2),
    ("vit_small_patch14_dinov2", 56, "cls+gem", 2),
    ("vit_small_patch14_reg4_dinov2", 56, "cls", 1),
    ("vit_small_patch16_dinov3", 64, "cls+gem", 1),
    ("vit_base_patch16_siglip_224", 64, "own", 1),
    ("naflexvit_base_patch16_siglip", 64, "own", 1),
    ("eva02_tiny_patch14_224", 56, "gem", 2),
    ("deit_tiny_distilled_patch16_224", 64, "cls", 1),
    ("beit_base_patch16_224", 64, "avg", 1),
    ("cait_xxs24_224", 64, "cls", 1),
    ("xcit_nano_12_p8_224", 64, "gem", 1),
    ("pit_ti_224", 64, "avg", 1),
    ("levit_128s", 64, "avg", 1),
    ("hiera_tiny_224", 64, "gem", 1),
    ("mvitv2_tiny", 64, "gem", 1),
    ("coat_lite_tiny", 64, "avg", 1),
    ("swin_tiny_patch4_window7_224", 64, "gem", 2),
    ("swinv2_tiny_window8_256", 64, "avg", 1),
    ("mixer_s32_224", 64, "avg", 1),
    ("test_maxvit", 64, "avg", 2),
    ("test_convnext", 64, "gem", 2),
    ("test_convnext2", 64, "own", 1),
    ("test_mambaout", 64, "gem", 1),
    ("test_efficientnet", 64, "gem", 3),
    ("mobilenetv3_small_050", 64, "own", 1),
    ("mobilenetv4_conv_small", 64, "avg", 1),
    ("ghostnet_050", 64, "gem", 2),
    ("regnety_002", 64, "gem", 2),
    ("test_resnet", 64, "gem", 2),
    ("seresnet50", 64, "avg", 1),
    ("densenet121", 64, "avg", 1),
    ("test_nfnet", 64, "avg", 1),
    ("test_byobnet", 64, "own", 1),
    ("efficientformerv2_s0", 64, "avg", 1),
    ("mobilevit_xxs", 64, "gem", 1),
    ("edgenext_xx_small", 64, "avg", 1),
    ("poolformer_s12", 64, "avg", 1),
]


@pytest.mark.parametrize(("name", "size", "pooling", "stages"), NETWORKS, ids=[case[0] for case in NETWORKS])
def test_a_network_trains_a_head_exports_and_answers(
    tiny_dataset: Path, tmp_path: Path, name: str, size: int, pooling: str, stages: int
) -> None:
    backbone = {"names": [name], "weights": "random", "pooling": pooling, "stages": stages}
    recipe = Recipe.model_validate(
        {
            "name": name,
            "photos": {"size": size},
            "backbone": backbone,
            "neck": {"dimensions": 16},
            "training": {"epochs": 2, "batch_size": 16},
        }
    )
    catalog = read_catalog(tiny_dataset)
    run = train_run(recipe, catalog, tmp_path / "run")  # refuses cosines to torch under 0.9999
    build_gallery(tmp_path / "gallery", catalog, run.bundle)
    recognizer = Recognizer.open(tmp_path / "gallery")
    photo = next((tiny_dataset / "train").rglob("*.jpg"))
    (answer,) = recognizer.recognize([photo])
    assert answer.neighbours[0].similarity == pytest.approx(1.0, abs=1e-3)
