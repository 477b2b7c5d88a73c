from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from obelisk.photos import cores, map_in_order, usable_cores
from obelisk.photos.memory import MemoryBudget


def write(files: dict[str, str], root: Path) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


# What /proc/self/cgroup says, the files of the cgroups, and the cores that they leave of sixteen.
CGROUPS: dict[str, tuple[str, dict[str, str], int]] = {
    "none": ("", {}, 16),
    "version 2 without a limit": ("0::/\n", {"cpu.max": "max 100000"}, 16),
    "version 2": ("0::/job\n", {"job/cpu.max": "250000 100000"}, 3),
    "version 2, a limit above": ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "200000 100000"}, 2),
    "version 2, a container that sees the host's path": ("0::/docker/x\n", {"cpu.max": "50000 100000"}, 1),
    "version 1": (
        "4:memory:/m\n3:cpu,cpuacct:/j\n",
        {"cpu,cpuacct/j/cpu.cfs_quota_us": "400000\n", "cpu,cpuacct/j/cpu.cfs_period_us": "100000\n"},
        4,
    ),
    "version 1 without a limit": (
        "3:cpu:/\n",
        {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
        16,
    ),
    "version 1 of another controller": ("3:cpuset:/\n", {"cpuset/cpu.max": "100000 100000"}, 16),
    "more than there are": ("0::/\n", {"cpu.max": "9900000 100000"}, 16),
    "nonsense": ("0::/\nx\n\n", {"cpu.max": "many"}, 16),
}


@pytest.mark.parametrize("name", CGROUPS)
def test_usable_cores_go_by_affinity_and_quota(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, files, expected = CGROUPS[name]
    write(files | {"own": own}, tmp_path)
    monkeypatch.setattr(cores, "CGROUPS", tmp_path)
    monkeypatch.setattr(cores, "OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)), raising=False)
    monkeypatch.setattr(os, "process_cpu_count", lambda: 16, raising=False)
    assert usable_cores() == expected


def test_photos_are_processed_by_one_thread_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("obelisk.photos.parallel.usable_cores", lambda: 3)
    together = threading.Barrier(3)
    assert list(map_in_order(lambda item: together.wait(10) * 0 + item, range(9))) == list(range(9))


def test_a_budget_is_never_exceeded_and_nobody_starves() -> None:
    budget, lock = MemoryBudget(100), threading.Lock()
    held, most, done = 0, 0, []

    def take(amount: int) -> None:
        nonlocal held, most
        with budget.take(amount):
            with lock:
                held += min(amount, 100)
                most = max(most, held)
            threading.Event().wait(0.001)
            with lock:
                held -= min(amount, 100)
                done.append(amount)

    amounts = [1, 60, 30, 100, 500, 10, 0, 45] * 8
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(take, amounts, timeout=60))
    assert sorted(done) == sorted(amounts)
    assert 50 < most <= 100


def test_a_budget_is_given_back_after_an_error() -> None:
    budget = MemoryBudget(10)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), budget.take(8):
            raise ZeroDivisionError
    with budget.take(10):
        pass
