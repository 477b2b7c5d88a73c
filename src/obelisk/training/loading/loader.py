"""From photos on disk to the batches of a training: decoded, augmented and stacked while the network computes.

A photo that cannot be read any more is left out of its batch and told; the training decides how many it can spare.

One stream serves a whole training: epochs, validations and sizes follow one another without the loading ever starting
anew. The processes that load come from a server that holds no more than this module. Forks of the training would share
its memory, and it would have to copy, page by page, all that it writes to while they live.
"""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from obelisk.arrays import Integers
from obelisk.errors import ObeliskError, PhotoError
from obelisk.photos import ModelInput, content_hash, read_bytes, read_photo, resize_photo
from obelisk.training.loading.augmentation import AugmentedView
from obelisk.training.loading.batch import Batch
from obelisk.training.machine import processes_here

MOST_LOADERS = 16
NICENESS = 10
LONGEST_WAIT = 20.0  # s, for a batch from processes that take only the time that others leave


@dataclass(frozen=True, kw_only=True)
class LabelledPhotos:
    """N photos on disk with their landmarks (N,), counted from 0 to C − 1, and the rule that prepares them."""

    paths: Sequence[Path]
    landmarks: Tensor
    rule: ModelInput

    def __len__(self) -> int:
        return len(self.paths)

    def at(self, size: int) -> LabelledPhotos:
        """Return the same photos, prepared for squares of another size."""
        return replace(self, rule=replace(self.rule, size=size))

    def select(self, rows: Integers) -> LabelledPhotos:
        """Return the photos at some rows; landmarks keep their numbers."""
        return replace(self, paths=[self.paths[row] for row in rows], landmarks=self.landmarks[torch.from_numpy(rows)])

    def request(self, indices: Tensor, view: AugmentedView | None = None) -> BatchRequest:
        """Return what loading needs to know of the photos in some indices (n,), augmented by a view or as they are."""
        return BatchRequest(
            indices=(chosen := indices.tolist()),
            paths=[self.paths[index] for index in chosen],
            landmarks=self.landmarks[indices].tolist(),
            rule=self.rule,
            view=view,
        )


@dataclass(frozen=True, kw_only=True)
class BatchRequest:
    """The photos of a batch before they are read, by place and path, and how they are prepared and augmented."""

    indices: list[int]
    paths: list[Path]
    landmarks: list[int]
    rule: ModelInput
    view: AugmentedView | None


@dataclass(frozen=True, kw_only=True)
class LoadedBatch:
    """What a loading process hands over of a batch: its sound photos as squares of bytes (n, H, W, 3), and errors.

    Bytes are a quarter of what the network takes.
    """

    squares: Tensor
    indices: list[int]
    landmarks: list[int]
    unreadable: dict[int, str]
    rule: ModelInput


class BatchReader(Dataset[LoadedBatch]):
    """Reads whole batches, as the processes that load do."""

    def __getitem__(self, wanted: BatchRequest) -> LoadedBatch:
        rule = wanted.rule
        squares, sound, unreadable = [], list[int](), dict[int, str]()
        for row, (index, path) in enumerate(zip(wanted.indices, wanted.paths, strict=True)):
            try:
                data = read_bytes(path)
                image = read_photo(data, min_side=rule.size)
            except PhotoError as error:
                unreadable[index] = str(error)
                continue
            if wanted.view:
                image = wanted.view(image, content_hash(data))
            squares.append(np.array(resize_photo(image, rule)))
            sound.append(row)
        return LoadedBatch(
            squares=torch.from_numpy(np.stack(squares)) if squares else torch.empty(0, rule.size, rule.size, 3).byte(),
            indices=[wanted.indices[row] for row in sound],
            landmarks=[wanted.landmarks[row] for row in sound],
            unreadable=unreadable,
            rule=rule,
        )


@contextmanager
def out_of_reach() -> Iterator[None]:
    """Start processes that SIGTERM, which often reaches a whole group, leaves alone: the training ends them itself."""
    resource_tracker.ensure_running()  # what starts it later lifts the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def begin_loading(aside: bool, idle: bool, _: int) -> None:
    """Set a loading process up: its priority, and that it ends with the training.

    ``aside``, it comes behind the network; ``idle``, it runs only where nothing else does. The end is watched here, so
    that a training that is killed leaves nothing behind: torch watches the server, which stays.
    """
    cv2.setNumThreads(1)  # photos are augmented side by side already
    if aside:
        os.nice(NICENESS)
    if idle:
        with suppress(OSError):  # some sandboxes know one policy only
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    training = multiprocessing.parent_process()
    assert training is not None

    def watch() -> None:
        training.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def count_loaders() -> int:
    """Return how many processes decode and augment for this one: a core each, of those that it can count as its own."""
    return max(1, min(MOST_LOADERS, (os.cpu_count() or 1) // processes_here()))


def load_batches(wanted: Iterable[BatchRequest], *, aside: bool = True) -> Generator[Batch]:
    """Yield the batches wanted, in order; some are read ahead. Closing the iterator ends the processes.

    ``aside``, for a network that computes on the same cores, the processes take only the time that it leaves: a core
    that is taken from it for a moment makes its other threads wait, too. Where other programs leave no time at all, a
    batch is waited for too long: then it is loaded, as all that follow, by processes of a low priority, but one.
    """
    coming, ahead = iter(wanted), deque[BatchRequest]()

    def remembered() -> Iterator[BatchRequest]:
        for each in coming:
            ahead.append(each)
            yield each

    if aside and hasattr(os, "SCHED_IDLE"):
        try:
            for batch in run_loaders(remembered(), aside=True, longest_wait=LONGEST_WAIT):
                ahead.popleft()
                yield batch
        except TimeoutError:
            coming = itertools.chain(tuple(ahead), coming)
        else:
            return
    yield from run_loaders(coming, aside=aside)


def run_loaders(wanted: Iterator[BatchRequest], *, aside: bool, longest_wait: float = 0.0) -> Generator[Batch]:
    """Yield the batches wanted, in order, from processes that are idle where nobody waits longer than so many seconds.

    Raises TimeoutError for a batch that takes longer; 0 waits forever. Raises ObeliskError when a process was killed.
    """
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([__name__])
    loader = DataLoader(
        BatchReader(),
        batch_size=None,
        sampler=wanted,
        num_workers=count_loaders(),
        multiprocessing_context=server,
        worker_init_fn=functools.partial(begin_loading, aside, longest_wait > 0),
        timeout=longest_wait,
        # Its own chance: drawing from torch's would make what follows depend on when loading began.
        generator=torch.Generator().manual_seed(0),
    )
    with out_of_reach():
        loaded = iter(loader)
    try:
        yield from map(prepare_batch, loaded)
    except (RuntimeError, EOFError, ConnectionError) as error:
        if "timed out" in str(error):
            raise TimeoutError(f"no batch within {longest_wait} s") from error
        if not isinstance(error, RuntimeError) or "DataLoader worker (pid" in str(error):
            raise ObeliskError(
                "a process that loads photos was killed",
                fix="where memory ran out, close other programs or lower finetuning.batch_size; then add --resume",
            ) from error
        raise


def prepare_batch(loaded: LoadedBatch) -> Batch:
    """Return a loaded batch as the network takes it."""
    return Batch(
        inputs=scale_pixels(loaded.squares, loaded.rule),
        landmarks=torch.tensor(loaded.landmarks, dtype=torch.int64),
        indices=loaded.indices,
        unreadable=loaded.unreadable,
    )


def scale_pixels(squares: Tensor, rule: ModelInput) -> Tensor:
    """Return squares of bytes (N, H, W, 3) as ``prepare`` scales them: (N, 3, H, W), in channels-last order.

    A byte has 256 values: looking them up takes a fifth of the time that computing each pixel's does.
    """
    if not squares.numel():
        return squares.permute(0, 3, 1, 2).float()
    levels = torch.arange(256, dtype=torch.float32)[:, None] / torch.tensor(255.0)
    table = (levels - torch.tensor(rule.mean)) / torch.tensor(rule.std)
    rows = cv2.LUT(squares.numpy().reshape(-1, rule.size, 3), table.numpy()[None])
    return torch.from_numpy(rows).view(squares.shape).permute(0, 3, 1, 2)
