"""Embedding on a Ray cluster: what the driver does, beside a stand-in for Ray; tests/stress has the real one."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from obelisk.embedding import Bundle, Embedder
from obelisk.embedding.shards import ShardPlan, embed_on_ray, embed_shard, on_ray, open_plan, part_file, shard_plan
from obelisk.errors import ObeliskError

PHOTOS = 9


class ActorDiedError(Exception):
    """What Ray raises for an actor that died time and again."""


class StandIn:
    """A cluster of two cores, whose actors work in this process when their task is waited for."""

    def __init__(self, head: int) -> None:
        self.exceptions = SimpleNamespace(RayError=ActorDiedError)
        self.head, self.actors, self.open = head, 0, False
        self.cores = 2.0
        self.fails: Exception | None = None
        self.hangs = False

    def init(self, **settings: Any) -> None:
        if self.fails:
            raise self.fails
        self.open = True

    def shutdown(self) -> None:
        self.open = False

    def get_runtime_context(self) -> SimpleNamespace:
        return SimpleNamespace(gcs_address=f"127.0.0.1:{self.head}")

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": self.cores} if self.cores else {}

    def remote(self, kind: Callable[..., Any]) -> Any:
        def start(*words: Any) -> SimpleNamespace:
            self.actors += 1
            actor = kind(*words)
            return SimpleNamespace(embed=SimpleNamespace(remote=lambda *key: (actor, key)))

        return SimpleNamespace(options=lambda **asked: SimpleNamespace(remote=start))

    def wait(self, tasks: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        return ([], tasks) if self.hangs else (tasks[:1], tasks[1:])

    def get(self, task: Any) -> Any:
        actor, key = task
        return actor.embed(*key)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    monkeypatch.setattr(shard_plan, "PART_PHOTOS", 2)
    monkeypatch.setattr(on_ray, "HEARTBEAT", 0.1)
    monkeypatch.setenv("RAY_BACKEND_LOG_LEVEL", "fatal")
    with socket.create_server(("127.0.0.1", 0)) as server:
        stand_in = StandIn(server.getsockname()[1])
        monkeypatch.setitem(sys.modules, "ray", stand_in)  # type: ignore[arg-type]
        yield stand_in
    assert not stand_in.open


@pytest.fixture
def plan(tmp_path: Path, write: Callable[..., Bundle]) -> ShardPlan:
    for number in range(PHOTOS):
        path = tmp_path / "places" / f"place {number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (36, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    bundle = write()
    return open_plan(tmp_path / "out", tmp_path / "places", bundle, runtime=Embedder(bundle).computes_with)


def test_a_cluster_makes_the_parts_of_one_process(cluster: StandIn, plan: ShardPlan, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    report = embed_on_ray(plan, plan.root, lambda what, done, total: told.append((done, total)))
    assert (report.photos, report.embedded, report.missing) == (PHOTOS, PHOTOS, ())
    assert (cluster.actors, told[0], told[-1]) == (2, (0, PHOTOS), (PHOTOS, PHOTOS))
    made = part_file.find_parts(plan.parts)
    content = {path.name: path.read_bytes() for path in made.values()}
    for path in made.values():
        path.unlink()
    embed_shard(plan, Embedder(Bundle.load(plan.folder / "model")))
    assert {path.name: path.read_bytes() for path in part_file.find_parts(plan.parts).values()} == content
    again = embed_on_ray(plan, plan.root)
    assert (again.photos, again.embedded, cluster.actors) == (PHOTOS, 0, 2)  # nothing is started


def test_what_ends_the_work_is_told_in_one_line(
    cluster: StandIn, plan: ShardPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    cluster.fails = ConnectionError("no answer\nfor a long time")
    with pytest.raises(ObeliskError, match=r"^no Ray cluster can be used: no answer · head:6379 · check RAY_ADDRESS"):
        embed_on_ray(plan, plan.root)
    cluster.fails, cluster.hangs = None, True
    with monkeypatch.context() as patch:
        patch.setattr(cluster, "cores", 0.0)
        patch.setattr(on_ray, "PATIENCE", 2)
        with pytest.raises(ObeliskError, match=r"^the Ray cluster has no machine with a core left"):
            embed_on_ray(plan, plan.root)
    cluster.head = 1  # nobody listens there
    with pytest.raises(ObeliskError, match=r"^the Ray cluster has lost its head · 127.0.0.1:1 · start it, and run"):
        embed_on_ray(plan, plan.root)
    cluster.hangs = False
    monkeypatch.setattr(cluster, "get", lambda task: (_ for _ in ()).throw(ActorDiedError("out of memory")))
    with pytest.raises(ObeliskError, match=r"^the part photos-000000-of-000005 could not be embedded: ActorDiedError"):
        embed_on_ray(plan, plan.root)
    monkeypatch.setattr(cluster, "get", lambda task: (0, "the photos are gone"))
    with pytest.raises(ObeliskError, match=r"^the photos are gone$"):
        embed_on_ray(plan, plan.root)
