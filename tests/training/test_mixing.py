"""Mixed photos: pixels and landmarks by the papers' equations, the same for everyone at the same step."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from obelisk.config import Recipe, load_recipe
from obelisk.errors import RecipeError
from obelisk.training.finetune import FinetuningModel
from obelisk.training.loading.augmentation import MixedPhotos, mix_photos, pair_up
from obelisk.training.losses import Softmax

N, SIZE = 6, 20


@pytest.fixture
def photos() -> Tensor:
    return torch.rand(N, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def recipe(**section: object) -> Recipe:
    keys = {"epochs": 2, **section}
    return load_recipe("arcface", [f"finetuning.{key}={value}" for key, value in keys.items()])


def mix(pixels: Tensor, recipe: Recipe, epoch: int, step: int) -> MixedPhotos:
    return mix_photos(pixels, recipe.finetuning, recipe.training.photos_per_landmark, (recipe.seed, epoch, step))


def test_off_nothing_is_mixed(photos: Tensor) -> None:
    mixed = mix(photos, recipe(), 0, 0)
    assert mixed.pixels is photos
    assert (mixed.partners, mixed.weight) == (None, 1.0)


def test_mixup_lays_photos_over_each_other(photos: Tensor) -> None:
    for step in range(5):
        mixed = mix(photos, recipe(mixup=1.0), 0, step)
        for place, partner in enumerate(mixed.partners.tolist()):
            expected = mixed.weight * photos[place] + (1 - mixed.weight) * photos[partner]
            torch.testing.assert_close(mixed.pixels[place], expected)
            assert partner != place


def test_cutmix_counts_the_pixels_that_are_left(photos: Tensor) -> None:
    shares = []
    for step in range(40):
        mixed = mix(photos, recipe(cutmix=1.0), 0, step)
        others = photos[mixed.partners]
        own = (mixed.pixels == photos).all(dim=1)
        assert torch.equal(own | (mixed.pixels == others).all(dim=1), torch.ones_like(own))
        assert own.float().mean().item() == pytest.approx(mixed.weight, abs=1e-6)
        # A rectangle, and the same one in all photos.
        gone = ~own[0]
        assert torch.equal(gone, gone.any(dim=1)[:, None] & gone.any(dim=0)[None, :])
        assert torch.equal(own, own[:1].expand_as(own))
        shares.append(mixed.weight)
    assert min(shares) < 0.4 < 0.9 < max(shares)


def test_with_both_each_step_is_of_one_kind(photos: Tensor) -> None:
    steps = [mix(photos, recipe(mixup=1.0, cutmix=1.0), 0, step) for step in range(40)]
    laid_over = [(mixed.pixels != photos).all() for mixed in steps]
    assert 8 < sum(laid_over) < 32


def test_lambda_follows_the_beta_distribution(photos: Tensor) -> None:
    shares = np.array([mix(photos[:2], recipe(mixup=0.2), 0, step).weight for step in range(400)])
    # Beta(α, α): mean 1/2, variance 1 / (4 · (2α + 1)).
    assert shares.mean() == pytest.approx(0.5, abs=0.07)
    assert shares.var() == pytest.approx(1 / (4 * 1.4), abs=0.03)


def test_what_is_drawn_depends_on_seed_epoch_and_step_alone(photos: Tensor) -> None:
    def draw(seed: int, epoch: int, step: int) -> MixedPhotos:
        return mix(photos, recipe(mixup=1.0).model_copy(update={"seed": seed}), epoch, step)

    once = draw(0, 1, 2)
    torch.manual_seed(7)  # the global generator has no say
    assert torch.equal(once.pixels, draw(0, 1, 2).pixels)
    assert len({once.weight, draw(1, 1, 2).weight, draw(0, 2, 2).weight, draw(0, 1, 3).weight}) == 4


def test_partners_are_mutual_and_of_another_group() -> None:
    assert pair_up(6, 1).tolist() == [1, 0, 3, 2, 5, 4]
    assert pair_up(8, 2).tolist() == [2, 3, 0, 1, 6, 7, 4, 5]
    # Who has no counterpart stays alone.
    assert pair_up(5, 1).tolist() == [1, 0, 3, 2, 4]
    assert pair_up(7, 2).tolist() == [2, 3, 0, 1, 6, 5, 4]


def test_the_shares_of_processes_are_mixed_as_the_whole_batch(photos: Tensor) -> None:
    both = torch.cat([photos[:4], photos[:4].flip(0)])
    whole = mix(both, recipe(mixup=1.0), 3, 5)
    shares = [mix(half, recipe(mixup=1.0), 3, 5) for half in both.tensor_split(2)]
    assert torch.equal(whole.pixels, torch.cat([share.pixels for share in shares]))
    assert {share.weight for share in shares} == {whole.weight}


def test_the_loss_is_that_of_soft_labels() -> None:
    # The expectation of the cross entropy under λ and 1 − λ is the cross entropy with these as target.
    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.necks = nn.Identity()

        def extract(self, photos: Tensor) -> Tensor:
            return photos

    torch.manual_seed(0)
    loss, rows = Softmax(5, 4), torch.randn(N, 5)
    landmarks, others = torch.randint(4, (2, N))
    value = FinetuningModel(Rows(), loss, [5], 0.0)(rows, landmarks, others, 0.3)  # type: ignore[arg-type]
    soft = 0.3 * nn.functional.one_hot(landmarks, 4) + 0.7 * nn.functional.one_hot(others, 4)
    assert value.item() == pytest.approx(nn.functional.cross_entropy(loss.logits(rows), soft).item(), rel=1e-5)


@pytest.mark.parametrize("key", ["mixup", "cutmix"])
def test_pair_losses_take_no_mixed_photos(key: str) -> None:
    with pytest.raises(RecipeError, match=r"give a photo two landmarks.*'triplet' cannot take: set both to 0"):
        load_recipe("proposed_triplet", ["finetuning.epochs=1", f"finetuning.{key}=0.2"])
