"""How many cores this process may use, which in a container or under ``taskset`` are fewer than the machine has."""

from __future__ import annotations

import math
import os
import sys
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
    """Return how many cores' time the cgroups of this process grant it; infinity if they set no limit.

    A limit may stand at any level above the process. Inside a container the listed path may be one of the host; then
    the limits at the root of the mount hold.
    """
    quotas = [math.inf]
    try:
        lines = OWN_CGROUPS.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return math.inf
    for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = CGROUPS / controllers
        inside = PurePosixPath(path.lstrip("/"))
        quotas += [read_quota(root / level) for level in (inside, *inside.parents)]
    return min(quotas)


def read_quota(cgroup: Path) -> float:
    """Return the quota of one cgroup, in cores: of version 2 (``cpu.max``) or 1 (``cpu.cfs_quota_us``)."""
    try:
        if (unified := cgroup / "cpu.max").exists():
            quota, period = unified.read_text().split()
        else:
            quota, period = ((cgroup / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        cores = int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf
    return cores if cores > 0 else math.inf
