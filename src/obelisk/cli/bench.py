"""``obelisk bench``: how long an answer takes, stage by stage, and how long the same takes by hand."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from obelisk.cli.console import SkippedFolders, note, result, table, warn
from obelisk.errors import ObeliskError, UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

    from obelisk.bench.speed import Spread
    from obelisk.recognition import Recognizer

COLD_STARTS = 3
MADE = {"224 px": 16, "12 megapixels": 4}  # what is measured where no photo is given
PROCESS_STATUS = Path("/proc/self/status")
NEEDED_BY_HAND = {"timm": "timm", "scikit-learn": "sklearn"}


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast photos are answered: milliseconds for one alone, and how many a second of many."""

    answer: Spread
    a_second: float


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured on some photos.

    ``cold_s`` is the time of the command line for one of them, ``peak_mib`` the most memory that a process held which
    answered them all.
    """

    photos: str
    count: int
    stages: Mapping[str, Spread]
    obelisk: Pace
    cold_s: float
    peak_mib: float | None
    by_hand: Pace | None = None


def bench(
    photos: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PHOTO|FOLDER",
            help="Photos to answer; left out, small and 12-megapixel ones are made.",
            show_default=False,
        ),
    ] = None,
    gallery: Annotated[
        Path | None,
        typer.Option("--gallery", metavar="G", help="The gallery to recognise from.", show_default="the bundled one"),
    ] = None,
    answers: Annotated[int, typer.Option("--answers", min=1, help="Answers that each measurement times.")] = 50,
    backbone: Annotated[
        str, typer.Option("--backbone", metavar="NAME", help="The timm backbone that the work by hand uses.")
    ] = "tf_efficientnet_lite0",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure photo → answer by stage, with memory and cold start, beside the same work done by hand.

    By hand means timm in eager float32 on the whole photo and scikit-learn's neighbours, where both are installed.
    Exits 1 if some of the photos given could not be used.
    """
    from obelisk.bundled import bundled_gallery
    from obelisk.embedding import Embedder
    from obelisk.gallery import Gallery
    from obelisk.recognition import Recognizer

    opened = Gallery.open(gallery or bundled_gallery())
    embedder = Embedder(opened.load_bundle())
    recognizer = Recognizer(opened, embedder)
    missing = [name for name, module in NEEDED_BY_HAND.items() if importlib.util.find_spec(module) is None]
    if missing:
        note(f"nothing to compare with: {' and '.join(missing)} not installed")
    facts = {
        **describe_machine(),
        "engine": embedder.engine,
        "model": opened.model,
        "input": embedder.bundle.input.size,
        "references": len(opened),
    }
    usable, all_used = keep_usable(photos, recognizer) if photos else ([], True)
    with tempfile.TemporaryDirectory() as made:
        sets = {"given": usable} if photos else make_photos(Path(made))
        # First all of ours: torch, once loaded, has threads that keep cores busy.
        measured = [measure(name, paths, recognizer, answers=answers) for name, paths in sets.items()]
        if not missing:
            paces = measure_by_hand(sets.values(), recognizer, answers=answers, backbone=backbone)
            measured = [replace(one, by_hand=pace) for one, pace in zip(measured, paces, strict=True)]
    if as_json:
        result(json.dumps({**facts, "missing": missing, "measured": [asdict(one) for one in measured]}))
    else:
        result(" · ".join(f"{key} {value}" for key, value in facts.items()))
        for one in measured:
            show(one, backbone)
    if not all_used:
        raise typer.Exit(1)


def keep_usable(arguments: Sequence[str], recognizer: Recognizer) -> tuple[list[Path], bool]:
    """Return the photos that can be answered, and whether these are all; name the others."""
    from obelisk.cli.recognize import expand_arguments

    usable = []
    skipped = SkippedFolders()
    failed = 0
    for answer in recognizer.recognize(expand_arguments(arguments, skipped)):
        if answer.error:
            failed += 1
            warn(f"left out: {answer.error}")
        else:
            usable.append(Path(answer.photo))
    if not usable:
        raise UsageError("no photo can be used", where=", ".join(arguments), fix="give sound photos, or none")
    return usable, not (failed or skipped)


def make_photos(folder: Path) -> dict[str, list[Path]]:
    """Render photos of both kinds into a folder."""
    from obelisk.synthetic import render_camera_photo, render_photo

    renderers: dict[str, Callable[[int, int], Image]] = {"224 px": render_photo, "12 megapixels": render_camera_photo}
    made: dict[str, list[Path]] = {kind: [] for kind in renderers}
    for kind, render in renderers.items():
        for seed in range(MADE[kind]):
            made[kind].append(folder / f"{kind} {seed}.jpg")
            render(seed, 0).save(made[kind][-1], quality=90)
    return made


def describe_machine() -> dict[str, str | int]:
    """Return what a reader must know of the machine to make use of the times."""
    from importlib.metadata import version

    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count() or 1,
        "python": platform.python_version(),
        "onnxruntime": version("onnxruntime"),
    }


def measure(name: str, photos: list[Path], recognizer: Recognizer, *, answers: int) -> Measured:
    """Measure one set of photos, first in processes of their own, then in this one."""
    from obelisk.bench.speed import time_stages

    gallery = recognizer.gallery.path
    return Measured(
        photos=name,
        count=len(photos),
        cold_s=min(time_cold_start(photos[0], gallery) for _ in range(COLD_STARTS)),
        peak_mib=measure_peak(photos, gallery),
        obelisk=measure_pace(recognizer.recognize, photos, answers=answers),
        stages=time_stages(gallery, photos, answers=answers),
    )


def measure_by_hand(
    sets: Iterable[list[Path]], recognizer: Recognizer, *, answers: int, backbone: str
) -> Iterator[Pace]:
    """Yield the pace of timm and scikit-learn on each set of photos, with a model input of the same size."""
    from obelisk.bench.naive import EagerRecognizer

    gallery = recognizer.gallery
    eager = EagerRecognizer(backbone, gallery.load_bundle().input, references=len(gallery))
    for photos in sets:
        yield measure_pace(eager.recognize, photos, answers=answers)


def measure_pace(
    recognize: Callable[[Sequence[Path]], Iterable[object]], photos: Sequence[Path], *, answers: int
) -> Pace:
    """Measure how fast photos are answered, one alone and many at once."""
    from obelisk.bench.speed import count_a_second, time_answers

    return Pace(
        answer=time_answers(lambda photo: list(recognize([photo])), photos, answers=answers),
        a_second=count_a_second(lambda many: list(recognize(many)), photos, answers=answers),
    )


def time_cold_start(photo: Path, gallery: Path) -> float:
    """Return the seconds that the command line takes to name one photo, from start to exit."""
    start = time.perf_counter()
    run_apart("-m", "obelisk", "recognize", str(photo), "--gallery", str(gallery), "--json")
    return time.perf_counter() - start


def measure_peak(photos: Sequence[Path], gallery: Path) -> float | None:
    """Return the most MiB that a process holds which answers photos; None where the system does not tell."""
    if not PROCESS_STATUS.is_file():
        return None
    program = (
        "import sys\n"
        "from obelisk import Recognizer\n"
        "for answer in Recognizer.open(sys.argv[1]).recognize(sys.stdin.read().splitlines()): pass\n"
        f"print(open({str(PROCESS_STATUS)!r}).read())\n"
    )
    printed = run_apart("-c", program, str(gallery), stdin="\n".join(map(str, photos)))
    return int(printed.partition("VmHWM:")[2].split()[0]) / 1024


def run_apart(*words: str, stdin: str = "") -> str:
    """Run Python in a process of its own and return what it prints."""
    done = subprocess.run([sys.executable, *words], input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ObeliskError(f"a process of the measurement failed: {done.stderr.strip()}")
    return done.stdout


def show(measured: Measured, backbone: str) -> None:
    """Print what was measured as a table for people."""
    rows: list[tuple[str, Spread]] = [*measured.stages.items(), ("answer", measured.obelisk.answer)]
    if measured.by_hand:
        rows.append((f"by hand: {backbone}, eager float32", measured.by_hand.answer))
    result("")
    cells = [(stage, f"{spread.p50:8.2f}", f"{spread.p95:8.2f}") for stage, spread in rows]
    table(("ms a photo", "     p50", "     p95"), cells, title=f"{measured.count} photos: {measured.photos}")
    result(f"{measured.obelisk.a_second:.1f} photos a second when many are given")
    if by_hand := measured.by_hand:
        faster = measured.obelisk.a_second / by_hand.a_second
        sooner = by_hand.answer.p50 / measured.obelisk.answer.p50
        result(f"{by_hand.a_second:.1f} by hand: {faster:.1f} times fewer; one answer {sooner:.1f} times later")
    peak = f", at most {measured.peak_mib:.0f} MiB of memory" if measured.peak_mib else ""
    result(f"{measured.cold_s:.2f} s from command to answer{peak}")
