"""The loader: photos on disk become batches, decoded, augmented and stacked while the network computes.

A photo that cannot be read is left out of its batch, and its error goes with the batch.

One stream serves a whole run: epochs, validations and sizes follow one another, and the workers never restart. They
come from a fork server that holds no more than this module. Forks of the training process would share its memory, and
it would have to copy every page that it writes to while they live.
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
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from obelisk.arrays import Integers
from obelisk.errors import ObeliskError, PhotoError
from obelisk.photos import (
    ModelInput,
    content_hash,
    library_on_one_thread,
    read_bytes,
    read_photo,
    resize_photo,
    usable_cores,
)
from obelisk.training.loading.augmentation import AugmentedView
from obelisk.training.loading.batch import Batch
from obelisk.training.machine import processes_here

MAX_WORKERS = 16
NICENESS = 10
IDLE_TIMEOUT = 20.0  # s, for a batch from workers that run only when nothing else does
UNCAUGHT = 1  # exit code of a process that an exception has ended


@dataclass(frozen=True, kw_only=True)
class LabeledPhotos:
    """N photos on disk with their landmarks (N,), numbered from 0 to C − 1, and their preprocessing."""

    paths: Sequence[Path]
    landmarks: Tensor
    rule: ModelInput

    def __len__(self) -> int:
        return len(self.paths)

    def at(self, size: int) -> LabeledPhotos:
        """Return the same photos at another input size."""
        return replace(self, rule=replace(self.rule, size=size))

    def select(self, rows: Integers) -> LabeledPhotos:
        """Return the photos at some rows; landmarks keep their numbers."""
        return replace(self, paths=[self.paths[row] for row in rows], landmarks=self.landmarks[torch.from_numpy(rows)])

    def request(self, indices: Tensor, *views: AugmentedView) -> BatchRequest:
        """Return what loading needs to know of the photos in some indices (n,), in each of the views or as they are."""
        return BatchRequest(
            indices=(chosen := indices.tolist()),
            paths=[self.paths[index] for index in chosen],
            landmarks=self.landmarks[indices].tolist(),
            rule=self.rule,
            views=views or (None,),
        )


@dataclass(frozen=True, kw_only=True)
class BatchRequest:
    """What a worker needs to load a batch: photos by index and path, their preprocessing, and their views.

    The views of a photo follow each other in the batch; None is the photo as it is.
    """

    indices: list[int]
    paths: list[Path]
    landmarks: list[int]
    rule: ModelInput
    views: Sequence[AugmentedView | None]


@dataclass(frozen=True, kw_only=True)
class LoadedBatch:
    """What a worker returns: the n views of the readable photos as bytes (n, H, W, 3), and the errors of the others.

    Bytes are a quarter of the size that the network takes. A tensor comes through shared memory, an array through a
    pipe.
    """

    squares: Tensor | NDArray[np.uint8]
    indices: list[int]
    landmarks: list[int]
    unreadable: dict[int, str]
    rule: ModelInput


class BatchReader(Dataset[LoadedBatch]):
    """Reads whole batches; the workers hold one."""

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
            for view in wanted.views:
                seen = view(image, content_hash(data)) if view else image
                squares.append(np.array(resize_photo(seen, rule)))
                sound.append(row)
        return LoadedBatch(
            squares=share(np.stack(squares) if squares else np.empty((0, rule.size, rule.size, 3), dtype=np.uint8)),
            indices=[wanted.indices[row] for row in sound],
            landmarks=[wanted.landmarks[row] for row in sound],
            unreadable=unreadable,
            rule=rule,
        )


def share(squares: NDArray[np.uint8]) -> Tensor | NDArray[np.uint8]:
    """Move a batch to shared memory; return it as it is if there is no room, as in a container, which has 64 MB.

    torch would move it later, in a thread whose error nobody hears, and the batch would be waited for without end.
    """
    try:
        shared: Tensor = torch.from_numpy(squares).share_memory_()  # type: ignore[no-untyped-call]
    except (RuntimeError, OSError):
        return squares
    return shared


@contextmanager
def sigterm_blocked() -> Iterator[None]:
    """Start processes that ignore SIGTERM, which often reaches a whole group: the training process ends them itself."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows, which sends no SIGTERM
        yield
        return
    resource_tracker.ensure_running()  # starting it later would lift the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_worker(aside: bool, idle: bool, _: int) -> None:
    """Set a worker's priority, and make it end with the training process.

    ``aside`` puts it behind the network; ``idle`` lets it run only when nothing else does. It watches its parent
    itself, so that a killed run leaves no process behind: torch would watch the fork server, which stays.
    """
    cv2.setNumThreads(1)  # photos are augmented side by side already
    if aside and hasattr(os, "nice"):
        os.nice(NICENESS)
    if idle:
        with suppress(OSError):  # some sandboxes know only one policy
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def count_loaders() -> int:
    """Return how many workers load for this process: one for each core of its share of the machine."""
    return max(1, min(MAX_WORKERS, usable_cores() // processes_here()))


def load_batches(requests: Iterable[BatchRequest], *, aside: bool = True) -> Generator[Batch]:
    """Yield the requested batches in order, some of them read ahead. Closing the iterator ends the workers.

    With ``aside``, for a network that computes on the same cores, workers run only when the cores are idle: a core that
    is taken from the network for a moment makes its other threads wait, too. If other programs leave them no time, a
    batch takes longer than IDLE_TIMEOUT; then it and all that follow are loaded by workers of low priority instead.
    """
    coming, ahead = iter(requests), deque[BatchRequest]()

    def remember() -> Iterator[BatchRequest]:
        for request in coming:
            ahead.append(request)
            yield request

    if aside and hasattr(os, "SCHED_IDLE"):
        try:
            for batch in stream_batches(remember(), aside=True, idle_timeout=IDLE_TIMEOUT):
                ahead.popleft()
                yield batch
        except TimeoutError:
            coming = itertools.chain(tuple(ahead), coming)
        else:
            return
    yield from stream_batches(coming, aside=aside)


def stream_batches(requests: Iterator[BatchRequest], *, aside: bool, idle_timeout: float = 0.0) -> Generator[Batch]:
    """Yield the requested batches in order from worker processes.

    With an ``idle_timeout``, in seconds, the workers run only when the cores are idle, and a batch that takes longer
    raises TimeoutError. Raises ObeliskError if a worker was killed, or could not start.
    """
    context = multiprocessing.get_context("forkserver" if os.name == "posix" else "spawn")
    context.set_forkserver_preload([__name__])
    try:
        context.Lock()
    except OSError as error:
        what, fix = f"processes cannot share memory: {error.strerror}", "in a container, give --shm-size=1g"
        raise ObeliskError(what, where="/dev/shm", fix=f"let this user write there; {fix}") from error
    loader = DataLoader(
        BatchReader(),
        batch_size=None,
        sampler=requests,
        num_workers=count_loaders(),
        multiprocessing_context=context,
        worker_init_fn=functools.partial(start_worker, aside, idle_timeout > 0),
        timeout=idle_timeout,
        # A generator of its own: drawing from torch's would make later draws depend on when loading began.
        generator=torch.Generator().manual_seed(0),
    )
    with sigterm_blocked():
        loaded = iter(loader)
    workers = multiprocessing.active_children()
    try:
        # More threads would take the cores from the network.
        with library_on_one_thread(cv2.getNumThreads, cv2.setNumThreads):
            yield from map(prepare_batch, loaded)
    except (RuntimeError, EOFError, ConnectionError) as error:
        if "timed out" in str(error):
            raise TimeoutError(f"no batch within {idle_timeout} s") from error
        if not isinstance(error, RuntimeError) or "DataLoader worker (pid" in str(error):
            raise explain_end([worker.exitcode for worker in workers]) from error
        raise


def explain_end(exit_codes: Sequence[int | None]) -> ObeliskError:
    """Return the error for workers of which some have ended, with what to do."""
    if UNCAUGHT in exit_codes:
        what = "a process that loads photos could not start; the reason is above"
        return ObeliskError(what, fix='in a script, train below `if __name__ == "__main__":`')
    what = "a process that loads photos was killed"
    fix = "where memory ran out, close other programs or lower finetuning.batch_size; then add --resume"
    return ObeliskError(what, fix=fix)


def prepare_batch(loaded: LoadedBatch) -> Batch:
    """Return a loaded batch as the network takes it."""
    return Batch(
        inputs=scale_pixels(torch.as_tensor(loaded.squares), loaded.rule),
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
