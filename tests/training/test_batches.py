"""Which photos meet in a batch."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from obelisk.training.batches import landmark_batches, natural_batches


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
