"""The two arms of the reference comparison: what each trains, counted on the modules that training sets up."""

import torch
from torch import Tensor

from obelisk.config import Recipe, load_recipe
from obelisk.training.finetune import FinetuningModel
from obelisk.training.losses import Loss, build_loss
from obelisk.training.model import create_network
from obelisk.training.model.backbones import PooledBackbone
from obelisk.training.model.network import Necks, PhotoEmbedder, build_neck, count_trainable
from obelisk.training.model.pooling import avg
from obelisk.training.optim.optimizer import build_finetuning_optimizer, build_head_optimizer

LANDMARKS = 943
HEAD = 3_113_903  # 2048·2 + (2048·1024+1024) + 1024·2 + (1024·512+512) + 512·2 + (512·943+943)
LAST_BLOCK = 14_964_736


def assemble(recipe: Recipe) -> tuple[PhotoEmbedder, Loss]:
    """Put together what a recipe trains, as a run does: a frozen backbone of random weights, a neck and a loss."""
    (name,) = recipe.backbone.names
    network, _ = create_network(name, "random", 0)
    backbone = PooledBackbone(network, avg, 1).eval().requires_grad_(requires_grad=False)
    parts = backbone.measure_parts(64)
    neck = build_neck(recipe.neck, parts)
    loss = build_loss(recipe.loss, neck.dimensions, torch.ones(LANDMARKS))
    return PhotoEmbedder([backbone], Necks([neck], [sum(parts)])), loss


def count(optimizer: torch.optim.Optimizer) -> int:
    """Count the parameters that an optimizer moves."""
    listed: list[Tensor] = [tensor for group in optimizer.param_groups for tensor in group["params"]]
    return sum(tensor.numel() for tensor in listed)


def test_the_baseline_trains_its_head_and_the_last_block() -> None:
    recipe = load_recipe("paper_baseline")
    embedder, loss = assemble(recipe)
    tuned = FinetuningModel(embedder, loss, embedder.necks.widths, recipe.finetuning.distillation)
    optimizer = build_finetuning_optimizer(recipe.finetuning, recipe.training, embedder, loss)
    assert count_trainable(embedder.necks) + count_trainable(loss) == HEAD
    assert count_trainable(embedder.only_backbone) == LAST_BLOCK
    assert count_trainable(tuned) == count(optimizer) == HEAD + LAST_BLOCK == 18_078_639
    moving = {name for name, weight in embedder.only_backbone.network.named_parameters() if weight.requires_grad}
    assert {name.split(".")[0] for name in moving} == {"layer4"}


def test_the_proposal_trains_its_linear_layer_alone() -> None:
    recipe = load_recipe("paper_proposed")
    embedder, loss = assemble(recipe)
    assert recipe.finetuning.epochs == 0
    assert count_trainable(embedder.only_backbone) == count_trainable(loss) == 0
    (neck,) = embedder.necks.necks
    assert count_trainable(embedder) == count(build_head_optimizer(recipe.training, neck, loss)) == 2048 * 512 + 512
    assert recipe.classifier.model_dump() == {"kind": "knn", "k": 3, "vote": "majority"}


def test_both_see_the_report_s_augmentation_at_its_size() -> None:
    reported = {"height_shift", "width_shift", "zoom", "brightness", "rotation", "shear"}
    for name in ("paper_baseline", "paper_proposed"):
        recipe = load_recipe(name)
        used = {key for key, value in recipe.views if key not in ("count", "crop") and value > 0}
        assert (used, recipe.views.crop, recipe.photos.size) == (reported, 1.0, 224)
