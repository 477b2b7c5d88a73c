"""Run a network that is new to this machine once in a process of its own, with limits on time and memory.

A network is a program: a few bytes of it can ask for hours or for all memory, some of it while it is only loaded, and
ONNX Runtime can't be interrupted. So the first use happens in a process that the operating system ends. It costs less
than a second, once: networks that kept the limits are remembered in the cache folder by their fingerprint, and the one
that comes with the package is known. ``OBELISK_TRUSTED`` names others that need more.

The limits grow with the network's file and its input, because honest networks need that: EfficientNet-Lite2 at 240 px,
19 MB, takes 0.2 s and 90 MB of the 5 s and 443 MB that it may take (2 cores, 2026-11-30). Memory is limited on Linux
only; where a process can't be ended by its processor time (Windows), it is ended by the clock. The trial's photo is
noise: it does not show what a network made to wait for certain photos takes for these.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from obelisk.bundled import bundled_gallery
from obelisk.embedding.bundle import Bundle, read_manifest
from obelisk.embedding.bundle_manifest import Member
from obelisk.embedding.onnx_model import OnnxModel, check_input, import_onnxruntime
from obelisk.embedding.user_cache import cache_folder
from obelisk.errors import ModelError, ObeliskError

VARIABLE = "OBELISK_TRUSTED"
"""names the fingerprints, separated by commas, of networks that run without a trial"""
USUAL_SIDE = 224  # pixels; a larger input takes as much longer as it has more of them

tried: set[str] = set()  # fingerprints, in this process: the cache folder need not be writable


class TrialLimits(NamedTuple):
    """What a network may take: seconds of processor time, and bytes beyond those of a Python with ONNX Runtime."""

    seconds: int
    memory: int

    @classmethod
    def of(cls, network_bytes: int, size: int) -> TrialLimits:
        """Return the limits for a network of so many bytes whose input has sides of ``size`` pixels."""
        larger = max(1.0, (size / USUAL_SIDE) ** 2)
        return cls(math.ceil(2.5 + 1e-7 * larger * network_bytes), 2**28 + 4 * network_bytes + 2**11 * size**2)


def try_first(bundle: Bundle) -> None:
    """Make sure that a bundle's networks load and embed a photo within limits, unless that is known.

    Raises ModelError if one doesn't.
    """
    if bundle.fingerprint in {*tried, *os.environ.get(VARIABLE, "").split(",")} or is_shipped(bundle):
        return
    # Nothing is remembered where there is no home, or none that can be read.
    with contextlib.suppress(OSError, RuntimeError):
        if (cache_folder() / "networks" / bundle.fingerprint).exists():
            return
    for member in bundle.members:
        try_network(bundle.folder / member.file, member, bundle.fingerprint)
    tried.add(bundle.fingerprint)
    with contextlib.suppress(OSError, RuntimeError):
        (cache_folder() / "networks").mkdir(parents=True, exist_ok=True)
        (cache_folder() / "networks" / bundle.fingerprint).touch()


def is_shipped(bundle: Bundle) -> bool:
    """Return whether a bundle has the network that comes with the package, in whatever folder."""
    try:
        return read_manifest(bundled_gallery() / "model").fingerprint == bundle.fingerprint
    except ObeliskError:
        return False


def try_network(path: Path, member: Member, fingerprint: str) -> None:
    """Run one network in a process of its own; raises ModelError if it fails there, or takes more than it may."""
    limits = TrialLimits.of(path.stat().st_size, member.size)
    code = "from obelisk.embedding.network_trial import run_trial; run_trial()"
    request = json.dumps({"path": str(path.absolute()), "size": member.size, "limits": limits})
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    environment = {**os.environ, **threads, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    trust = f"use a model whose source you trust; if that is this one, set {VARIABLE}={fingerprint}"
    try:
        ended = subprocess.run(
            [sys.executable or "python3", "-P", "-c", code],  # -P: import nothing from the folder that the user is in
            input=request,
            capture_output=True,
            text=True,
            encoding="utf-8",
            env=environment,
            timeout=30 + 10 * limits.seconds,  # of the clock: other processes may have the cores
        )
    except OSError:
        return  # no Python can be started here, so there is no trial
    except subprocess.TimeoutExpired:
        taken = f"{30 + 10 * limits.seconds} s"
        raise ModelError(f"the network takes more than {taken} for one photo", where=path, fix=trust) from None
    if ended.returncode == 0:
        return
    found = json.loads(ended.stdout) if ended.stdout.startswith("{") else {}
    if what := found.get("what"):
        raise ModelError(what, where=path, fix=found["fix"] or trust)
    what = f"the network ends the process that runs it (code {ended.returncode})"
    if ended.returncode == -getattr(signal, "SIGXCPU", 0):
        what = f"the network takes more than {limits.seconds} s of processor time for one photo"
    raise ModelError(what, where=path, fix=trust)


def run_trial() -> None:
    """Run the network that standard input names, within its limits; what the new process does."""
    import_onnxruntime()  # before the limits begin
    request = json.loads(sys.stdin.read())
    limits = TrialLimits(*request["limits"])
    limit_process(limits)
    found = {}
    try:
        model = OnnxModel(Path(request["path"]))
        check_input(model, request["size"], where=request["path"])
        shape = (1, 3, request["size"], request["size"])
        model.try_outputs(np.random.default_rng(0).standard_normal(shape, np.float32))
    except ModelError as error:
        found = {"what": error.what, "fix": error.fix}
    except MemoryError:
        found = {"what": f"the network takes more than {limits.memory // 2**20} MB for one photo", "fix": ""}
    print(json.dumps(found))
    sys.exit(bool(found))


def limit_process(limits: TrialLimits) -> None:
    """Let the system end this process when it has taken so much more time, and refuse it so much more memory."""
    try:
        import resource
    except ImportError:
        return

    def lower(which: int, limit: int, grace: int = 0) -> None:
        """Set a limit of this process, unless the one that it has is as low."""
        hard = resource.getrlimit(which)[1]
        if hard == resource.RLIM_INFINITY or limit + grace <= hard:
            resource.setrlimit(which, (limit, limit + grace))

    used = resource.getrusage(resource.RUSAGE_SELF)
    lower(resource.RLIMIT_CORE, 0)
    lower(resource.RLIMIT_CPU, math.ceil(used.ru_utime + used.ru_stime + limits.seconds), grace=1)
    mapped = Path("/proc/self/statm")
    if mapped.exists():
        now = int(mapped.read_text(encoding="utf-8").split()[0]) * resource.getpagesize()
        lower(resource.RLIMIT_AS, now + limits.memory)
