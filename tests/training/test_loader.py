"""From files to batches: what a training sees is what any other user of the network sees."""

from __future__ import annotations

import contextlib
import errno
import functools
import multiprocessing
import os
import time
from collections.abc import Iterator
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from obelisk.config import ViewsSection
from obelisk.errors import ObeliskError
from obelisk.photos import ModelInput, content_hash, prepare, read_photo
from obelisk.training.loading import loader
from obelisk.training.loading.augmentation import fresh_views
from obelisk.training.loading.batch import Batch
from obelisk.training.loading.loader import (
    BatchReader,
    BatchRequest,
    LabeledPhotos,
    LoadedBatch,
    count_loaders,
    explain_end,
    load_batches,
    prepare_batch,
    stream_batches,
)


@pytest.fixture
def photos(tmp_path: Path) -> LabeledPhotos:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for path in paths:
        Image.fromarray(rng.integers(256, size=(70, 50, 3), dtype=np.uint8)).save(path)
    rule = ModelInput(size=48, resize="crop", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    return LabeledPhotos(paths=paths, landmarks=torch.arange(5), rule=rule)


def test_pixels_are_those_of_every_other_reader(photos: LabeledPhotos) -> None:
    indices = [3, 1, 1, 0]  # samplings may draw a photo twice
    first, second = load_batches([photos.request(torch.tensor(indices)), photos.request(torch.tensor([4, 2]))])
    assert first.landmarks.tolist() == indices
    expected = np.stack([prepare(read_photo(photos.paths[index], min_side=48), photos.rule) for index in indices])
    assert np.array_equal(first.inputs.numpy(), expected)
    assert first.inputs.is_contiguous(memory_format=torch.channels_last)
    assert len(second.inputs) == 2


def test_views_of_a_photo_follow_each_other(photos: LabeledPhotos) -> None:
    views = fresh_views(ViewsSection(), 0, 3, 2)
    both, alone = load_batches([photos.request(torch.tensor([3, 1]), *views), photos.request(torch.tensor([3, 1]))])
    assert both.indices == [3, 3, 1, 1] == both.landmarks.tolist()
    augmented = [
        views[row % 2](read_photo(photos.paths[index]), content_hash(photos.paths[index].read_bytes()))
        for row, index in enumerate(both.indices)
    ]
    assert np.array_equal(both.inputs.numpy(), np.stack([prepare(view, photos.rule) for view in augmented]))
    assert len(alone.inputs) == 2


def test_opencv_has_one_thread_beside_the_network_and_its_own_number_afterwards(photos: LabeledPhotos) -> None:
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    try:
        with contextlib.closing(load_batches([photos.request(torch.tensor([0]))] * 2)) as batches:
            next(batches)
            assert cv2.getNumThreads() == 1
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)


def test_photos_that_cannot_be_read_are_reported_and_left_out(photos: LabeledPhotos) -> None:
    photos.paths[1].write_bytes(b"no photo")
    photos.paths[4].unlink()
    first, second = load_batches([photos.request(torch.tensor([0, 1])), photos.request(torch.tensor([4]))])
    assert first.landmarks.tolist() == first.indices == [0]
    assert first.unreadable.keys() == {1}
    assert second.inputs.shape == (0, 3, 48, 48)
    assert second.unreadable.keys() == {4}


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="this system has no processes that run only when idle")
@pytest.mark.parametrize("aside", [True, False])
def test_loaders_take_only_the_time_that_a_network_on_the_same_cores_leaves(
    photos: LabeledPhotos, monkeypatch: pytest.MonkeyPatch, *, aside: bool
) -> None:
    monkeypatch.setattr(loader, "IDLE_TIMEOUT", 100.0)  # other tests may leave them little time
    requests = [photos.request(torch.tensor([0]))] * 9 * count_loaders()
    with contextlib.closing(load_batches(requests, aside=aside)) as batches:
        for _ in range(count_loaders()):  # one of each
            next(batches)
        loaders = [process.pid for process in multiprocessing.active_children()]
        policies = {os.sched_getscheduler(pid) for pid in loaders}
    assert policies == {os.SCHED_IDLE if aside else os.SCHED_OTHER}


class StalledReader(BatchReader):
    """Gets no time after its first batch until a file is there."""

    def __init__(self, released: Path) -> None:
        self.released, self.calls = released, 0

    def __getitem__(self, wanted: BatchRequest) -> LoadedBatch:
        self.calls += 1
        limit = time.monotonic() + 120
        while self.calls > 1 and not self.released.exists() and time.monotonic() < limit:
            time.sleep(0.01)
        return super().__getitem__(wanted)


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="this system has no processes that run only when idle")
def test_loaders_that_get_no_time_make_place_for_others(
    photos: LabeledPhotos, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    released = tmp_path / "released"

    def release(*arguments: Any, **options: Any) -> Iterator[Batch]:
        try:
            yield from stream_batches(*arguments, **options)
        except TimeoutError:
            released.touch()
            raise

    monkeypatch.setattr(loader, "IDLE_TIMEOUT", 1.0)
    monkeypatch.setattr(loader, "BatchReader", functools.partial(StalledReader, released))
    monkeypatch.setattr(loader, "stream_batches", release)
    requests = [photos.request(torch.tensor([place % 5])) for place in range(100)]
    with contextlib.closing(load_batches(requests)) as batches:
        indices = [next(batches).indices for _ in requests[1:]]
        policies = {os.sched_getscheduler(process.pid or 0) for process in multiprocessing.active_children()}
        indices += [batch.indices for batch in batches]
    assert released.exists()
    assert policies == {os.SCHED_OTHER}
    assert indices == [[place % 5] for place in range(100)]


def test_a_batch_that_shared_memory_has_no_room_for_comes_through_a_pipe(
    photos: LabeledPhotos, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = photos.request(torch.tensor([0, 3]))
    shared = BatchReader()[wanted]
    assert shared.squares.is_shared()
    monkeypatch.setattr(Tensor, "share_memory_", Mock(side_effect=RuntimeError("unable to allocate shared memory")))
    piped = BatchReader()[wanted]
    assert isinstance(piped.squares, np.ndarray)
    assert torch.equal(prepare_batch(piped).inputs, prepare_batch(shared).inputs)


def test_where_processes_share_no_memory_the_remedy_is_told(
    photos: LabeledPhotos, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BaseContext, "Lock", Mock(side_effect=OSError(errno.EROFS, os.strerror(errno.EROFS))))
    with pytest.raises(ObeliskError, match=r"cannot share memory.*/dev/shm.*--shm-size"):
        next(load_batches([photos.request(torch.tensor([0]))]))


def test_a_loader_that_is_killed_is_reported_with_what_to_do(photos: LabeledPhotos) -> None:
    requests = [photos.request(torch.tensor([0]))] * 100
    with contextlib.closing(load_batches(requests, aside=False)) as batches:
        next(batches)
        for process in multiprocessing.active_children():
            process.kill()
        with pytest.raises(ObeliskError, match=r"was killed .* memory ran out.*add --resume"):
            list(batches)


def test_a_loader_that_its_script_keeps_from_starting_is_told_from_a_killed_one() -> None:
    assert '__name__ == "__main__"' in str(explain_end([None, 1]))
    assert "memory" in str(explain_end([-9, None]))
