"""How much memory there is, how much this process has taken, and what it does with what it has freed.

What is available is the least of what the machine and each control group above the process leave: a container is
killed at its own limit, however much the machine has.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")
LIMITLESS = 1 << 60  # what control groups without a limit tell is beyond this
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # as malloc.h numbers them


def available_memory(root: Path = ROOT) -> int | None:
    """Return the bytes that may be taken before something is killed; None where the system does not tell.

    That is the machine's available memory with its free swap, or what the tightest control group leaves (version 1
    or 2); pages of files, which can be dropped, count as free.
    """
    rooms = [room for room in (machine_room(root), *group_rooms(root)) if room is not None]
    return max(0, min(rooms)) if rooms else None


def machine_room(root: Path) -> int | None:
    """Return the machine's available memory and free swap, bytes."""
    text = read(root / "proc/meminfo")
    found = {name: int(kib) * 1024 for name, kib in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}
    return found["MemAvailable"] + found.get("SwapFree", 0) if "MemAvailable" in found else None


def group_rooms(root: Path) -> Iterator[int]:
    """Yield what each control group above this process leaves, bytes."""
    for line in read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            mount, limit, usage, droppable = "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            mount = "sys/fs/cgroup/memory"
            limit, usage, droppable = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
        else:
            continue
        top = root / mount
        group = top / path.lstrip("/")
        # Seen from inside a container, the path may be that of the host: the mount itself is then the group.
        for folder in (group, *group.parents):
            most, used = read(folder / limit).strip(), read(folder / usage).strip()
            if most.isdigit() and used.isdigit() and int(most) < LIMITLESS:
                files = re.search(rf"^{droppable} (\d+)", read(folder / "memory.stat"), re.MULTILINE)
                yield int(most) - int(used) + (int(files[1]) if files else 0)
            if folder == top:
                break


def read(path: Path) -> str:
    """Return a small file's text, nothing where it cannot be read."""
    try:
        return path.read_text()
    except OSError:
        return ""


def resident_memory(root: Path = ROOT) -> int:
    """Return the bytes of this process that are in memory, 0 where the system does not tell."""
    return status_bytes("VmRSS", root)


def peak_memory(root: Path = ROOT) -> int:
    """Return the most bytes of this process that were in memory at once, 0 where the system does not tell."""
    return status_bytes("VmHWM", root)


def status_bytes(name: str, root: Path) -> int:
    """Return a size that the kernel tells of this process, 0 where it does not."""
    found = re.search(rf"^{name}:\s+(\d+) kB", read(root / "proc/self/status"), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def keep_freed_memory() -> None:
    """Let this process keep what it frees for its next step, where its C library is glibc.

    glibc gives every block beyond 32 MiB, which is most activations, back to the kernel at once; the next step fetches
    it anew, page by page, each filled with zeros. That took two fifths of a bare step (measured
    2026-11-26).
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, -1)


def processes_here() -> int:
    """Return how many processes train together on this machine: as many as torchrun says that it started."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def in_words(size: float) -> str:
    """Return a number of bytes as people read it: ``476 MiB``, ``2.3 GiB``."""
    mib = size / 2**20
    return f"{mib:,.{int(mib < 10)}f} MiB" if mib < 1000 else f"{mib / 1024:,.1f} GiB"
