"""Thousands of damaged photos and bombs of every format, on few and on many cores: time and memory have bounds."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.photos.hostile_photos import MANY_PARTS, ODD, TOO_LARGE, mutate, sound_photos

pytestmark = pytest.mark.stress

MUTATED = 5000
PARTS = 1_000_000
SCANS = 10_000
SECONDS = 2.0  # of processor time, each
MEGABYTES = 512  # above a recognizer at rest

# Recognizes all photos of a folder with so many cores, then reads each alone, and prints what came and what it took.
PROGRAM = """
import gc, json, os, sys, time
cores, folder, alone = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "alone"
os.sched_getaffinity = lambda process: set(range(cores))
os.cpu_count = os.process_cpu_count = lambda: cores
from pathlib import Path
from PIL import Image
from obelisk.bundled import bundled_gallery
from obelisk.errors import PhotoError
from obelisk.photos import read_query, usable_cores
from obelisk.recognition import Recognizer

def memory(key):
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[key].split()[0]) / 1024

assert usable_cores() == cores
recognizer = Recognizer.open(bundled_gallery())
Image.new("RGB", (64, 48)).save(folder + ".jpg")
list(recognizer.recognize([folder + ".jpg"] * 32 * cores))  # every thread has run the network
gc.collect()
idle = memory("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
paths = sorted(Path(folder).iterdir())
answers = [(answer.photo, answer.error) for answer in recognizer.recognize(paths)]
peak = memory("VmHWM")
slowest = [0.0, ""]
for path in paths if alone else []:
    start = time.process_time()
    try:
        read_query(path, min_side=260)
    except PhotoError:
        pass
    slowest = max(slowest, [time.process_time() - start, path.name])
print(json.dumps({"answers": answers, "idle": idle, "peak": peak, "slowest": slowest}))
"""


def recognize(folder: Path, cores: int, *, alone: bool = False) -> dict[str, Any]:
    command = [sys.executable, "-c", PROGRAM, str(cores), str(folder), "alone" if alone else "together"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3000)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print({key: value for key, value in found.items() if key != "answers"}, len(found["answers"]))
    return found


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    bombs = {name: make(SCANS if "scans" in name else PARTS) for name, make in MANY_PARTS.items()}
    bombs |= {name: make() for name, make in (TOO_LARGE | ODD).items()}
    assert len(bombs) >= 60
    for name, data in bombs.items():
        (folder / f"bomb {name.replace('/', ' ')}").write_bytes(data)
    rng, photos = random.Random(19), sound_photos()
    for number in range(MUTATED):
        (folder / f"mutated {number:05}").write_bytes(mutate(photos[number % len(photos)], rng))
    return folder


@pytest.mark.parametrize("cores", [2, 32])
def test_hostile_photos_cost_little(hostile: Path, cores: int) -> None:
    found = recognize(hostile, cores, alone=cores == 2)
    assert len(found["answers"]) >= MUTATED + 60
    refused = [(photo, error) for photo, error in found["answers"] if error is not None]
    assert len(refused) > MUTATED / 3
    assert all(photo in error for photo, error in refused)
    assert found["slowest"][0] <= SECONDS, found["slowest"]
    assert found["peak"] - found["idle"] <= MEGABYTES


KINDS: list[tuple[str, dict[str, Any]]] = [
    ("PNG", {"compress_level": 1}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("BMP", {}),
    ("WEBP", {"method": 0}),
    ("JPEG", {"quality": 95}),
    ("JPEG", {"progressive": True}),
]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sound photos near the limits, and photos of a common size in formats that must be decoded whole."""
    folder = tmp_path_factory.mktemp("large")
    noise = Image.effect_noise((1009, 1013), 90)
    middle = noise.resize((4608, 3456)).convert("RGB")
    for number, (kind, options) in enumerate(KINDS):
        middle.save(folder / f"{number}-0", kind, **options)
        for copy in range(1, 6):
            (folder / f"{number}-{copy}").hardlink_to(folder / f"{number}-0")
    alpha = middle.convert("RGBA")
    alpha.putalpha(noise.resize(middle.size))
    alpha.save(folder / "alpha-0", "PNG", compress_level=1)
    for copy in range(1, 20):
        (folder / f"alpha-{copy}").hardlink_to(folder / "alpha-0")
    noise.resize((7070, 7070)).save(folder / "50 megapixels", "PNG", compress_level=1)
    noise.resize((7070, 7070)).convert("RGB").save(folder / "50 megapixels progressive", "JPEG", progressive=True)
    noise.resize((12_000, 10_000)).save(folder / "120 megapixels progressive", "JPEG", progressive=True, quality=60)
    noise.resize((16_000, 12_400)).save(folder / "198 megapixels", "JPEG", quality=60)
    smooth = Image.effect_noise((300, 300), 90).resize((4900, 4900)).convert("RGBA")
    smooth.save(folder / "24 megapixels", "WEBP", method=0)
    return folder


@pytest.mark.parametrize("cores", [2, 32])
def test_large_sound_photos_share_one_budget(large: Path, cores: int) -> None:
    found = recognize(large, cores)
    assert [error for _, error in found["answers"] if error] == []
    assert found["peak"] - found["idle"] <= MEGABYTES
