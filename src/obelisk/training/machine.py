"""The machine's memory, the threads that torch uses, and results that repeat bit for bit."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from obelisk.config import FinetuningSection
from obelisk.errors import RecipeError
from obelisk.photos import cgroup_folders, library_on_one_thread

ROOT = Path("/")
LIMITLESS = 1 << 60  # control groups without a limit report more than this
# Of a control group, version 2 and version 1: its limit, what it uses, and what of that can be dropped.
GROUP_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # as malloc.h numbers them


def available_memory(root: Path = ROOT) -> int | None:
    """Return the bytes that may be taken before something is killed; None if the system does not say.

    This is the machine's available memory and free swap, or what the tightest control group (version 1 or 2) leaves,
    if that is less: a container is killed at its own limit, however much the machine has. Cached pages of files, which
    can be dropped, count as free.
    """
    limits = [limit for limit in (machine_memory(root), *group_memory(root)) if limit is not None]
    return max(0, min(limits)) if limits else None


def machine_memory(root: Path) -> int | None:
    """Return the machine's available memory and free swap, bytes."""
    text = read_text(root / "proc/meminfo")
    found = {name: int(kib) * 1024 for name, kib in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}
    return found["MemAvailable"] + found.get("SwapFree", 0) if "MemAvailable" in found else None


def group_memory(root: Path) -> Iterator[int]:
    """Yield the bytes that each control group above this process leaves."""
    for folder in cgroup_folders("memory", root / "proc/self/cgroup", root / "sys/fs/cgroup"):
        for limit, usage, droppable in GROUP_FILES:
            most, used = read_text(folder / limit).strip(), read_text(folder / usage).strip()
            if most.isdigit() and used.isdigit() and int(most) < LIMITLESS:
                files = re.search(rf"^{droppable} (\d+)", read_text(folder / "memory.stat"), re.MULTILINE)
                yield int(most) - int(used) + (int(files[1]) if files else 0)


def read_text(path: Path) -> str:
    """Return a small file's text, or an empty string if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def resident_memory(root: Path = ROOT) -> int:
    """Return this process's resident memory in bytes, 0 if the system does not say."""
    return status_bytes("VmRSS", root)


def peak_memory(root: Path = ROOT) -> int:
    """Return this process's peak resident memory in bytes, 0 if the system does not say."""
    return status_bytes("VmHWM", root)


def status_bytes(name: str, root: Path) -> int:
    """Return one of the sizes in ``/proc/self/status`` in bytes, 0 if it is missing."""
    found = re.search(rf"^{name}:\s+(\d+) kB", read_text(root / "proc/self/status"), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def keep_freed_memory() -> None:
    """Make glibc keep freed memory for the next step; with another C library, do nothing.

    glibc returns every block beyond 32 MiB, which is most activations, to the kernel at once; the next step fetches it
    again, page by page, each filled with zeros. That took two fifths of a bare step (measured 2026-11-26).
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, -1)


def processes_here() -> int:
    """Return how many processes of this training run torchrun has started on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def processes_in_all() -> int:
    """Return how many processes of this training run torchrun has started on all machines."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def format_bytes(size: float) -> str:
    """Format a number of bytes for people: ``476 MiB``, ``2.3 GiB``."""
    mib = size / 2**20
    return f"{mib:,.{int(mib < 10)}f} MiB" if mib < 1000 else f"{mib / 1024:,.1f} GiB"


one_thread = partial(library_on_one_thread, torch.get_num_threads, torch.set_num_threads)
"""Lets torch compute in one thread for a while.

Heads and a few photos are small work: a second core gains little, and costs tenfold where the cores are shared with
other work (measured 2026-11-24). One thread also adds up in one order, whatever the number of cores.
"""


def be_deterministic(device: torch.device | None = None) -> None:
    """Make torch refuse operations whose results vary; on a GPU, where some have no other form, it only warns.

    Uninitialized memory is not filled: that guards against reading it too early, which nothing here does, and took a
    fifth of the steps of fine-tuning (measured 2026-11-26).
    """
    torch.use_deterministic_algorithms(mode=True, warn_only=device is not None and device.type == "cuda")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def refuse_unsupported(section: FinetuningSection, device: torch.device) -> None:
    """Refuse fine-tuning settings that this machine does not support."""
    if not section.epochs:
        return
    if section.precision == "float16" and device.type != "cuda":
        raise RecipeError(
            f"finetuning.precision = 'float16' needs a CUDA GPU, and this machine computes on {device.type}",
            fix="--set finetuning.precision=float32",
        )
    compiler = os.environ.get("CXX", "g++")
    if section.compile and not shutil.which(compiler):
        raise RecipeError(
            f"finetuning.compile = true needs a C++ compiler, and there is no `{compiler}`",
            fix="install g++, or --set finetuning.compile=false",
        )
