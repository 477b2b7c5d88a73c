"""Embed all shards of a dataset on a Ray cluster: one actor for each core, and a part as one task.

An actor that dies, with its machine or alone, is started again, and the part that it worked on is done again. Parts are
written by the actors themselves, so what is finished outlives the cluster. Ray's own data sets are not used: their
checkpoints know only whole blocks, and they wait forever where fractions of a core are left (Ray 2.60, 2026-11-30).
"""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from obelisk.embedding.bundle import Bundle
from obelisk.embedding.runtime import Embedder
from obelisk.embedding.shards.embed_shard import STAGE, ShardReport, finish_part, report_shard
from obelisk.embedding.shards.part_file import PartKey, find_parts
from obelisk.embedding.shards.shard_plan import MODEL, ShardPlan, read_plan
from obelisk.errors import ObeliskError
from obelisk.records import Progress, no_progress

RETRIES = 3  # of a part whose actor died
HEARTBEAT = 2.0  # seconds between two looks at the cluster
PATIENCE = 60  # looks that find no core at all: a new machine may be on its way
CONNECT = "check RAY_ADDRESS and RAY_AUTH_TOKEN, and that the cluster runs this version of Ray"
LOST = "start it, and run the command again: what is finished stays"


class PartWorker:
    """Embeds parts of a plan in one thread: the actors' class."""

    def __init__(self, folder: str, data: str) -> None:
        self._folder, self._data = Path(folder), Path(data)
        self._opened: tuple[ShardPlan, Embedder] | None = None

    def embed(self, unit: str, number: int, count: int) -> tuple[int, str]:
        """Embed a part; return how many photos it has, and the error that ended the work, if one did."""
        key = PartKey(unit=unit, number=number, count=count)
        try:
            plan, embedder = self._opened = self._opened or self._open()
            photos = plan.list_photos(key)
            paths = [plan.root / path for path in photos["path"].to_list()]
            finish_part(plan, key, photos, [embedder.embed_one(path) for path in paths])
        except (ObeliskError, OSError) as error:
            return 0, str(error)
        return photos.height, ""

    def _open(self) -> tuple[ShardPlan, Embedder]:
        plan = read_plan(self._folder, self._data)
        embedder = Embedder(Bundle.load(self._folder / MODEL))
        plan.refuse_other_runtime(embedder.computes_with)
        return plan, embedder


def embed_on_ray(plan: ShardPlan, data: Path, progress: Progress = no_progress) -> ShardReport:
    """Embed the photos of ``data`` that no finished part has, on the cluster of RAY_ADDRESS or on this machine.

    Raises ObeliskError if the cluster can't be used or is lost, if a part ends its actor time and again, or for what
    ends a shard.
    """
    keys = list(plan.list_keys())
    done = find_parts(plan.parts)
    missing = [key for key in keys if key not in done]
    total = sum(plan.list_photos(key).height for key in missing)
    embedded = 0
    if missing:
        progress(STAGE, 0, total)
        with connected() as ray:
            for photos in run_parts(ray, plan, data, missing):
                embedded += photos
                progress(STAGE, embedded, total)
    return report_shard(plan, keys, embedded)


@contextlib.contextmanager
def connected() -> Iterator[Any]:
    """Connect to the Ray cluster, or start one on this machine; give the module ``ray``."""
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what is wrong is said once, by us
    ray: Any = importlib.import_module("ray")
    settings = {name: value for name, value in os.environ.items() if name.startswith(("OBELISK_", "PYTHONPATH"))}
    try:
        ray.init(logging_level="ERROR", log_to_driver=False, runtime_env={"env_vars": settings})
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = os.environ.get("RAY_ADDRESS", "this machine")
        reason = str(error).partition("\n")[0]
        raise ObeliskError(f"no Ray cluster can be used: {reason}", where=where, fix=CONNECT) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def run_parts(ray: Any, plan: ShardPlan, data: Path, keys: Sequence[PartKey]) -> Iterator[int]:
    """Run a task for each part, one at a time on each actor; yield the photos of each part that is finished."""
    head = ray.get_runtime_context().gcs_address
    cores = max(1, int(ray.cluster_resources().get("CPU", 0)))
    worker = ray.remote(PartWorker).options(num_cpus=1, max_restarts=-1, max_task_retries=RETRIES)
    folder = os.path.realpath(plan.folder)
    actors = [worker.remote(folder, os.path.realpath(data)) for _ in range(min(cores, len(keys)))]
    left = deque(keys)
    running: dict[Any, tuple[Any, PartKey]] = {}

    def start(actor: Any) -> None:
        if left:
            key = left.popleft()
            running[actor.embed.remote(key.unit, key.number, key.count)] = actor, key

    for actor in actors:
        start(actor)
    beats = 0  # without a core
    while running:
        ready, _ = ray.wait(list(running), timeout=HEARTBEAT)
        if not ready:
            refuse_lost_head(head)
            beats = 0 if ray.cluster_resources().get("CPU") else beats + 1
            if beats > PATIENCE:
                raise ObeliskError("the Ray cluster has no machine with a core left", where=head, fix=LOST)
        for task in ready:
            actor, key = running.pop(task)
            yield fetch_result(ray, task, key)
            start(actor)


def fetch_result(ray: Any, task: Any, key: PartKey) -> int:
    """Return the number of photos of a finished part; raise ObeliskError if there is none."""
    try:
        photos, error = ray.get(task)
    except ray.exceptions.RayError as failure:
        reason = f"{type(failure).__name__}: {failure}".partition("\n")[0]
        what = f"the part {key} could not be embedded: {reason}"
        raise ObeliskError(what, fix="see the logs of Ray, and run the command again") from failure
    if error:
        raise ObeliskError(error)
    return int(photos)


def refuse_lost_head(address: str) -> None:
    """Raise ObeliskError if nothing answers at the address of the cluster's head."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=HEARTBEAT).close()
    except OSError as error:
        raise ObeliskError("the Ray cluster has lost its head", where=address, fix=LOST) from error
