"""Everything that ``obelisk bench`` measures: latency, throughput, cold start and memory, on sets of photos."""

from __future__ import annotations

import importlib.util
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from PIL.Image import Image

from obelisk.bench.speed import LatencyPercentiles, measure_latency, measure_stages, measure_throughput
from obelisk.errors import ObeliskError, UsageError
from obelisk.gallery import Gallery
from obelisk.photos import usable_cores
from obelisk.recognition import Recognizer
from obelisk.synthetic import render_camera_photo, render_photo

COLD_STARTS = 3
RENDERED_PHOTOS = {"224 px": 16, "12 megapixels": 4}
PROCESS_STATUS = Path("/proc/self/status")
NAIVE_REQUIREMENTS = {"timm": "timm", "scikit-learn": "sklearn"}


@dataclass(frozen=True, kw_only=True)
class AnswerSpeed:
    """The latency of one photo alone, and the throughput of many in photos per second."""

    answer: LatencyPercentiles
    a_second: float


@dataclass(frozen=True, kw_only=True)
class BenchmarkResult:
    """The measurements on one set of photos; the fields are the keys of ``obelisk bench --json``.

    ``cold_s`` is the time that the command line takes for one photo, ``peak_mib`` the peak memory of a process that
    answers the whole set (None where the system doesn't report it), ``by_hand`` the speed without Obelisk.
    """

    photos: str
    count: int
    stages: Mapping[str, LatencyPercentiles]
    obelisk: AnswerSpeed
    cold_s: float
    peak_mib: float | None
    by_hand: AnswerSpeed | None = None


def missing_for_naive() -> list[str]:
    """Return the distributions that the comparison by hand needs and that aren't installed."""
    return [name for name, module in NAIVE_REQUIREMENTS.items() if importlib.util.find_spec(module) is None]


def render_photo_sets(folder: Path) -> dict[str, list[Path]]:
    """Render a set of small photos and one of a camera's size into a folder."""
    renderers: dict[str, Callable[[int, int], Image]] = {"224 px": render_photo, "12 megapixels": render_camera_photo}
    rendered: dict[str, list[Path]] = {}
    for name, render in renderers.items():
        rendered[name] = [folder / f"{name} {seed}.jpg" for seed in range(RENDERED_PHOTOS[name])]
        for seed, path in enumerate(rendered[name]):
            render(seed, 0).save(path, quality=90)
    return rendered


def describe_machine() -> dict[str, str | int]:
    """Describe the machine, so that readers can interpret the times."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": usable_cores(),
        "python": platform.python_version(),
        "onnxruntime": version("onnxruntime"),
    }


def run_benchmarks(
    recognizer: Recognizer, photo_sets: Mapping[str, list[Path]], *, answers: int, backbone: str | None
) -> list[BenchmarkResult]:
    """Measure each set of photos, and the same work by hand unless ``backbone`` (a name in timm) is None."""
    # Obelisk goes first: once torch is loaded, its threads keep cores busy.
    results = [benchmark_photos(name, photos, recognizer, answers=answers) for name, photos in photo_sets.items()]
    if backbone is None:
        return results
    by_hand = benchmark_naive(photo_sets.values(), recognizer, answers=answers, backbone=backbone)
    return [replace(ours, by_hand=naive) for ours, naive in zip(results, by_hand, strict=True)]


def benchmark_photos(name: str, photos: list[Path], recognizer: Recognizer, *, answers: int) -> BenchmarkResult:
    """Measure one set of photos, first in separate processes, then in this one."""
    if not isinstance(recognizer.gallery, Gallery):
        raise UsageError("joined galleries can't be measured", where=recognizer.gallery.name, fix="name one of them")
    gallery = recognizer.gallery.path
    return BenchmarkResult(
        photos=name,
        count=len(photos),
        cold_s=min(time_cold_start(photos[0], gallery) for _ in range(COLD_STARTS)),
        peak_mib=measure_peak_memory(photos, gallery),
        obelisk=measure_answers(recognizer.recognize, photos, answers=answers),
        stages=measure_stages(gallery, photos, answers=answers),
    )


def benchmark_naive(
    photo_sets: Iterable[list[Path]], recognizer: Recognizer, *, answers: int, backbone: str
) -> Iterator[AnswerSpeed]:
    """Yield the speed of timm and scikit-learn on each set of photos, with a model input of the same size."""
    from obelisk.bench.naive import NaiveRecognizer

    gallery = recognizer.gallery
    naive = NaiveRecognizer(backbone, gallery.load_bundle().input, references=len(gallery.references()))
    for photos in photo_sets:
        yield measure_answers(naive.recognize, photos, answers=answers)


def measure_answers(
    recognize: Callable[[Sequence[Path]], Iterable[object]], photos: Sequence[Path], *, answers: int
) -> AnswerSpeed:
    """Measure how fast photos are answered, one by one and many at once."""
    return AnswerSpeed(
        answer=measure_latency(lambda photo: list(recognize([photo])), photos, answers=answers),
        a_second=measure_throughput(lambda many: list(recognize(many)), photos, answers=answers),
    )


def time_cold_start(photo: Path, gallery: Path) -> float:
    """Return the seconds that the command line takes to name one photo, from start to exit."""
    start = time.perf_counter()
    run_python("-m", "obelisk", "recognize", str(photo), "--gallery", str(gallery), "--json")
    return time.perf_counter() - start


def measure_peak_memory(photos: Sequence[Path], gallery: Path) -> float | None:
    """Return the peak MiB of a process that answers photos, or None where the system doesn't report it."""
    if not PROCESS_STATUS.is_file():
        return None
    program = (
        "import sys\n"
        "from obelisk import Recognizer\n"
        "for answer in Recognizer.open(sys.argv[1]).recognize(sys.stdin.read().splitlines()): pass\n"
        f"print(open({str(PROCESS_STATUS)!r}).read())\n"
    )
    printed = run_python("-c", program, str(gallery), stdin="\n".join(map(str, photos)))
    return int(printed.partition("VmHWM:")[2].split()[0]) / 1024


def run_python(*arguments: str, stdin: str = "") -> str:
    """Run Python in a separate process and return what it prints."""
    done = subprocess.run([sys.executable, *arguments], input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ObeliskError(f"a process of the benchmark failed: {done.stderr.strip()}")
    return done.stdout
