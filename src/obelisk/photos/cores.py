"""How many cores this process may use, which in a container or under ``taskset`` are fewer than the machine has."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Return the number of cores that this process may use: by its affinity, and by its cgroup's quota of time."""
    cores: int | None
    if sys.version_info >= (3, 13):
        cores = os.process_cpu_count()
    elif hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count()
    return max(1, math.ceil(min(cores or 1, cgroup_quota())))


def cgroup_quota() -> float:
    """Return how many cores' time the cgroups of this process grant it; infinity if they set no limit."""
    return min(map(read_quota, cgroup_folders("cpu", OWN_CGROUPS, CGROUPS)), default=math.inf)


def cgroup_folders(controller: str, listed: Path, mount: Path) -> Iterator[Path]:
    """Yield the folders where the cgroups of this process may limit what a controller governs, innermost first.

    A limit may stand at any level above the process. Inside a container the ``listed`` path may be one of the host;
    then the limits at the root of the ``mount`` hold.
    """
    try:
        lines = listed.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if not controllers or controller in controllers.split(","):  # none are named in version 2
            inside = PurePosixPath(path.lstrip("/"))
            yield from (mount / controllers / level for level in (inside, *inside.parents))


@contextmanager
def library_on_one_thread(get: Callable[[], int], set_to: Callable[[int], object]) -> Iterator[None]:
    """Let a library compute in one thread for a while; the two functions are those for its number of threads."""
    before = get()
    set_to(1)
    try:
        yield
    finally:
        set_to(before)


def read_quota(cgroup: Path) -> float:
    """Return the quota of one cgroup, in cores: of version 2 (``cpu.max``) or 1 (``cpu.cfs_quota_us``)."""
    try:
        if (unified := cgroup / "cpu.max").exists():
            quota, period = unified.read_text(encoding="utf-8").split()
        else:
            quota, period = (
                (cgroup / f"cpu.cfs_{name}_us").read_text(encoding="utf-8") for name in ("quota", "period")
            )
        cores = int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf
    return cores if cores > 0 else math.inf
