"""Samplers: which photos meet in a batch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from obelisk.config import Recipe, load_recipe
from obelisk.errors import RecipeError
from obelisk.training.loading.samplers import (
    balanced_batches,
    count_batches,
    epoch_batches,
    epoch_seed,
    landmark_batches,
    natural_batches,
    refuse_small_batches,
)


@given(photos=st.integers(2, 300), size=st.integers(2, 64), seed=st.integers(0, 5))
def test_natural_batches_hold_every_photo_once_and_never_one_alone(photos: int, size: int, seed: int) -> None:
    batches = list(natural_batches(photos, size, torch.Generator().manual_seed(seed)))
    assert sorted(torch.cat(batches).tolist()) == list(range(photos))
    assert all(2 <= len(batch) <= size + 1 for batch in batches)


@given(
    landmarks=st.lists(st.integers(0, 12), min_size=4, max_size=200),
    size=st.integers(4, 40),
    each=st.integers(2, 4),
    seed=st.integers(0, 5),
)
def test_landmark_batches_hold_m_photos_of_each_landmark_drawn(
    landmarks: list[int], size: int, each: int, seed: int
) -> None:
    labels = torch.tensor(landmarks)
    for batch in landmark_batches(labels, size, each, torch.Generator().manual_seed(seed)):
        groups = labels[batch].view(-1, each)
        assert (groups == groups[:, :1]).all()
        for group, landmark in zip(batch.view(-1, each), groups[:, 0], strict=True):
            # A photo comes twice only when the landmark has fewer than M.
            assert len(set(group.tolist())) == min(each, int((labels == landmark).sum()))


def test_batches_are_the_same_for_one_seed_and_differ_for_another() -> None:
    labels = torch.arange(60) % 12

    def draw(seed: int) -> list[list[int]]:
        return [batch.tolist() for batch in landmark_batches(labels, 16, 4, torch.Generator().manual_seed(seed))]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_every_landmark_turns_up_before_one_comes_again() -> None:
    labels = torch.arange(80) % 8
    batches = landmark_batches(labels, 16, 4, torch.Generator().manual_seed(0))
    seen = [int(labels[batch[start]]) for batch in batches for start in range(0, 16, 4)]
    assert sorted(seen[:8]) == list(range(8))


def recipe_of(**training: object) -> Recipe:
    return Recipe.model_validate({"name": "mine", "seed": 3, "training": training})


def batches_of(recipe: Recipe, labels: Tensor, size: int, epoch: int, **share: int) -> list[Tensor]:
    return epoch_batches(recipe.training, labels, size, epoch_seed(recipe.seed, epoch), **share)


SAMPLINGS = [
    pytest.param({}, id="natural"),
    pytest.param({"photos_per_landmark": 4}, id="M per class"),
    pytest.param({"sampling": "class_balanced"}, id="class balanced"),
]


@settings(deadline=None, max_examples=40)
@given(
    landmarks=st.lists(st.integers(0, 12), min_size=2, max_size=120),
    size=st.integers(2, 40),
    seed=st.integers(0, 5),
)
def test_balanced_batches_show_landmarks_equally_often_and_no_photo_again_before_all_others(
    landmarks: list[int], size: int, seed: int
) -> None:
    labels = torch.tensor(landmarks)
    batches = list(balanced_batches(labels, size, torch.Generator().manual_seed(seed)))
    order = torch.cat(batches)
    assert len(order) == len(labels)
    assert all(2 <= len(batch) <= size + 1 for batch in batches)
    shown = torch.bincount(labels[order])[labels.unique()]
    assert shown.max() - shown.min() <= 1
    for landmark in set(landmarks):
        photos = torch.bincount(order[labels[order] == landmark], minlength=len(labels))[labels == landmark]
        assert photos.max() - photos.min() <= 1


@pytest.mark.parametrize("training", SAMPLINGS)
@pytest.mark.parametrize("processes", [1, 2, 3, 8])
@pytest.mark.parametrize("photos", [97, 130, 160], ids=lambda n: f"{n} photos")
def test_the_shares_of_all_processes_are_the_batches_of_one(
    training: dict[str, object], processes: int, photos: int
) -> None:
    recipe, labels = recipe_of(**training), torch.arange(photos) % 11
    whole = batches_of(recipe, labels, 32, 5)
    shares = [batches_of(recipe, labels, 32, 5, rank=rank, processes=processes) for rank in range(processes)]
    assert {len(share) for share in shares} == {count_batches(recipe.training, labels, 32, smallest=processes)}
    joined = [torch.cat(parts) for parts in zip(*shares, strict=True)]
    assert all(len(share) for parts in shares for share in parts)
    assert torch.equal(torch.cat(joined), torch.cat(whole))
    if len(whole[-1]) >= processes:
        assert all(map(torch.equal, joined, whole))


@pytest.mark.parametrize("training", SAMPLINGS)
def test_an_epoch_depends_on_seed_and_number_alone(training: dict[str, object]) -> None:
    recipe, labels = recipe_of(**training), torch.arange(100) % 11
    first = batches_of(recipe, labels, 16, 2)
    torch.manual_seed(99)
    batches_of(recipe, labels, 16, 0)
    assert all(map(torch.equal, batches_of(recipe, labels, 16, 2), first))
    for other in (batches_of(recipe, labels, 16, 3), batches_of(recipe_of(**training), labels, 16, 4)):
        assert not torch.equal(torch.cat(other), torch.cat(first))


def test_photos_of_a_landmark_stay_together_on_one_process() -> None:
    labels = torch.arange(120) % 10
    for rank in range(3):
        for share in batches_of(recipe_of(photos_per_landmark=4), labels, 32, 0, rank=rank, processes=3):
            groups = labels[share].view(-1, 4)
            assert (groups == groups[:, :1]).all()


@pytest.mark.parametrize(
    ("training", "processes", "message"),
    [
        pytest.param({"photos_per_landmark": 4}, 5, "16 photos cannot be split among 5 processes", id="M per class"),
        pytest.param({}, 17, "16 photos cannot be split among 17 processes", id="natural"),
    ],
)
def test_a_batch_too_small_for_the_processes_is_refused(
    training: dict[str, object], processes: int, message: str
) -> None:
    recipe = recipe_of(**training)
    section = recipe.finetuning.model_copy(update={"batch_size": 16})
    with pytest.raises(RecipeError, match=message):
        refuse_small_batches(recipe.model_copy(update={"finetuning": section}), processes)


@pytest.mark.parametrize(("processes", "parts"), [(2, 2), (4, 1)])
def test_processes_in_which_a_pair_loss_would_compare_nothing_are_refused(processes: int, parts: int) -> None:
    def recipe(size: int) -> Recipe:
        keys = ["loss.kind=triplet", "training.photos_per_landmark=4", "finetuning.epochs=1"]
        loaded = load_recipe("arcface", [*keys, f"finetuning.batch_size={size}"])
        section = loaded.finetuning.model_copy(update={"micro_batches": parts})
        return loaded.model_copy(update={"finetuning": section})

    refuse_small_batches(recipe(2 * 4 * processes * parts), processes)
    with pytest.raises(RecipeError, match=r"parts of one landmark only.*'triplet' finds nothing to compare"):
        refuse_small_batches(recipe(4 * processes * parts), processes)


# The very draws of the first release: results in the documentation rest on them.
NATURAL = [[5, 0, 3], [1, 2, 6, 4]]
PER_LANDMARK = [[2, 11, 9, 0, 7, 1], [7, 4, 11, 5, 0, 9]]


def test_draws_stay_what_they_were() -> None:
    rng = torch.Generator().manual_seed(7)
    assert [batch.tolist() for batch in natural_batches(7, 3, rng)] == NATURAL
    assert [batch.tolist() for batch in landmark_batches(torch.arange(12) % 3, 6, 2, rng)] == PER_LANDMARK
