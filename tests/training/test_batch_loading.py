"""From files to batches: what a training sees is what any other user of the network sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from obelisk.photos import ModelInput, prepare, read_photo
from obelisk.training.batch_loading import LabelledPhotos, load_batches


@pytest.fixture
def photos(tmp_path: Path) -> LabelledPhotos:
    chance = np.random.default_rng(0)
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for path in paths:
        Image.fromarray(chance.integers(256, size=(70, 50, 3), dtype=np.uint8)).save(path)
    rule = ModelInput(size=48, resize="crop", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    return LabelledPhotos(paths=paths, landmarks=torch.arange(5), rule=rule)


def test_pixels_are_those_of_every_other_reader(photos: LabelledPhotos) -> None:
    places = [3, 1, 1, 0]  # samplings may draw a photo twice
    first, second = load_batches([photos.pick(torch.tensor(places)), photos.pick(torch.tensor([4, 2]))])
    assert first.landmarks.tolist() == places
    expected = np.stack([prepare(read_photo(photos.paths[place], min_side=48), photos.rule) for place in places])
    assert np.array_equal(first.pixels.numpy(), expected)
    assert first.pixels.is_contiguous(memory_format=torch.channels_last)
    assert len(second.pixels) == 2


def test_photos_that_cannot_be_read_are_told_and_left_out(photos: LabelledPhotos) -> None:
    photos.paths[1].write_bytes(b"no photo")
    photos.paths[4].unlink()
    first, second = load_batches([photos.pick(torch.tensor([0, 1])), photos.pick(torch.tensor([4]))])
    assert first.landmarks.tolist() == first.places == [0]
    assert first.unreadable.keys() == {1}
    assert second.pixels.shape == (0, 3, 48, 48)
    assert second.unreadable.keys() == {4}
