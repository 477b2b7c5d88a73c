"""Choose the runtime of a network: ONNX Runtime, or OpenVINO if it is installed, accurate and faster.

Both are tried once on a few synthetic photos. OpenVINO is chosen if its embeddings have a mean cosine of at least
0.999 to ONNX Runtime's (0.99 in int8, which a bundle may allow), and if it takes less than nine tenths of the time.
The decision is saved in the cache folder, by network, processor and versions. ``OBELISK_RUNTIME`` (auto, onnxruntime,
openvino) overrides it.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from obelisk.arrays import paired_cosines
from obelisk.embedding.activation_ranges import Ranges
from obelisk.embedding.onnx_model import NetworkModel, OnnxModel
from obelisk.embedding.openvino_model import Arithmetic, OpenVinoModel, find_arithmetics
from obelisk.embedding.user_cache import cache_folder
from obelisk.errors import MissingExtraError, ModelError, UsageError
from obelisk.files import replace_file
from obelisk.photos import usable_cores

Runtime = Literal["auto", "onnxruntime", "openvino"]
Engine = Literal["onnxruntime", "openvino-bf16", "openvino-i8", "openvino-f32"]

VARIABLE = "OBELISK_RUNTIME"
SMALLEST_COSINE: dict[Arithmetic, float] = {"bf16": 0.999, "i8": 0.99, "f32": 0.999}
FASTER = 0.9  # of ONNX Runtime's time
PROBES = 8  # synthetic photos


def read_runtime() -> Runtime:
    """Return the runtime that ``OBELISK_RUNTIME`` asks for; raises UsageError for an unknown one."""
    asked = os.environ.get(VARIABLE) or "auto"
    for known in get_args(Runtime):
        if asked == known:
            return known  # type: ignore[no-any-return]
    raise UsageError(f"{VARIABLE}={asked}", fix=f"give one of: {', '.join(get_args(Runtime))}")


def open_network(
    path: Path, size: int, runtime: Runtime, threads: int = 1, ranges: Ranges | None = None
) -> NetworkModel:
    """Load the network in a file, whose input is ``size`` pixels square, with the chosen runtime.

    ``threads`` share the work on one photo under ONNX Runtime. ``ranges`` are those of the activations that may be
    rounded to int8. Raises ModelError for a network that cannot be run, and MissingExtraError if OpenVINO is asked for
    but not installed.
    """
    installed = importlib.util.find_spec("openvino") is not None
    if runtime == "openvino" and not installed:
        raise MissingExtraError("openvino", needed_for=f"{VARIABLE}=openvino")
    if runtime == "onnxruntime" or not installed:
        return OnnxModel(path, threads=threads)
    network = path.read_bytes()
    saved = decision_file(network, runtime, ranges)
    engine = read_decision(saved)
    if engine is None:
        engine = decide(network, size, ranges, must_be_faster=runtime == "auto")
        save_decision(saved, engine)
    if engine == "onnxruntime":
        return OnnxModel(path, threads=threads)
    arithmetic = next(each for each in get_args(Arithmetic) if name_engine(each) == engine)
    return OpenVinoModel(network, size, arithmetic=arithmetic, ranges=ranges, where=path)


def decide(network: bytes, size: int, ranges: Ranges | None = None, *, must_be_faster: bool) -> Engine:
    """Try the runtimes on synthetic photos and return the better one; OpenVINO need not be faster if it was asked for.

    Raises ModelError if OpenVINO was asked for, but its embeddings are wrong in every arithmetic.
    """
    photos = make_probes(size)
    plain = OnnxModel(network)
    expected = np.concatenate([plain.run(photo[np.newaxis]) for photo in photos])  # some take one at a time
    for arithmetic in find_arithmetics():
        if arithmetic == "i8" and not ranges:
            continue
        try:
            model = OpenVinoModel(network, size, arithmetic=arithmetic, ranges=ranges)
            accurate = paired_cosines(model.run(photos), expected).mean() >= SMALLEST_COSINE[arithmetic]
        except (ModelError, MemoryError):
            continue
        if accurate and (not must_be_faster or best_time(model.run, photos) < FASTER * best_time(plain.run, photos)):
            return name_engine(arithmetic)
    if must_be_faster:
        return "onnxruntime"
    what = f"OpenVINO's embeddings differ from ONNX Runtime's: mean cosine < {SMALLEST_COSINE['f32']}"
    raise ModelError(what, fix=f"set {VARIABLE}=onnxruntime")


def name_engine(arithmetic: Arithmetic) -> Engine:
    """Return the name of OpenVINO with one arithmetic."""
    engines: dict[Arithmetic, Engine] = {"bf16": "openvino-bf16", "i8": "openvino-i8", "f32": "openvino-f32"}
    return engines[arithmetic]


def make_probes(size: int) -> NDArray[np.float32]:
    """Return synthetic photos (8, 3, size, size) in [−1, 1]: soft patches of color with fine grain."""
    rng = np.random.default_rng(0)
    probes = []
    for cells in range(3, 3 + PROBES):
        patches = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        soft = np.asarray(patches.resize((size, size), Image.Resampling.BICUBIC), np.float32)
        grain = rng.normal(0, 8, soft.shape).astype(np.float32)
        probes.append(((soft + grain) / 127.5 - 1).clip(-1, 1).transpose(2, 0, 1))
    return np.ascontiguousarray(probes, dtype=np.float32)


def best_time(run: Callable[[NDArray[np.float32]], object], photos: NDArray[np.float32]) -> float:
    """Return the shortest time of a photo, in seconds, which other work on the machine affects least."""
    times = []
    for photo in photos:
        start = time.perf_counter()
        run(photo[np.newaxis])
        times.append(time.perf_counter() - start)
    return min(times)


def decision_file(network: bytes, runtime: Runtime, ranges: Ranges | None = None) -> Path:
    """Return the path of the saved decision for a network on this machine."""
    versions = [importlib.metadata.version(name) for name in ("openvino", "onnxruntime")]
    digest = hashlib.blake2b(network, digest_size=12)
    rounded = sorted((ranges or {}).items())
    digest.update(repr((runtime, versions, describe_processor(), usable_cores(), rounded)).encode())
    return cache_folder() / "runtimes" / f"{digest.hexdigest()}.json"


def describe_processor() -> str:
    """Return the processor's model and, if the system lists them, its instruction sets."""
    try:
        listed = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return "\n".join(sorted({line for line in listed.splitlines() if line.startswith(("model name", "flags"))}))


def read_decision(path: Path) -> Engine | None:
    """Return a saved decision, or None if there is none that can be read."""
    try:
        saved = json.loads(path.read_bytes())["engine"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return next((engine for engine in get_args(Engine) if engine == saved), None)


def save_decision(path: Path, engine: Engine) -> None:
    """Save a decision for the next time; if nothing can be written, it is made again then."""
    text = json.dumps({"engine": engine}) + "\n"
    with contextlib.suppress(OSError):
        replace_file(path, lambda partial: partial.write_text(text, encoding="utf-8", newline="\n"))
