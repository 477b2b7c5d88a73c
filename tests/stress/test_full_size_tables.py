from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from obelisk.data.duplicates import VIEWS, pair_everywhere

ROWS = 4_132_914
LANDMARKS = 203_094
SECONDS = 10.0
BYTES = 2 * 2**30

# Measured in a process of its own, because the high-water mark of memory never falls.
MEASURE = """
import json, resource, sys, time
from pathlib import Path
started = time.perf_counter()
from obelisk.data import read_catalog, compute_statistics
catalog = read_catalog(Path(sys.argv[1]), present_only=False)
statistics = compute_statistics(catalog)
seconds = time.perf_counter() - started
bytes_used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps([statistics.references, statistics.landmarks, seconds, bytes_used]))
"""


def write_full_size(root: Path) -> Path:
    """Write a train.csv and its categories, of the size and the look of GLDv2's own."""
    rng = np.random.default_rng(0)
    landmark = np.concatenate([np.arange(LANDMARKS), (rng.pareto(0.9, ROWS - LANDMARKS) * 40).astype(int) % LANDMARKS])
    rng.shuffle(landmark)
    ids = pl.int_range(ROWS, eager=True).hash(seed=1)
    frame = pl.DataFrame({"number": ids, "landmark_id": landmark}).with_columns(
        pl.col("number").map_elements(lambda number: f"{number:016x}", return_dtype=pl.String).alias("id")
    )
    name = pl.col("id").str.slice(0, 9)
    url = pl.format(
        "https://upload.wikimedia.org/wikipedia/commons/{}/{}/Cath%C3%A9drale_Saint-Pierre%2C_{}_%28{}%29.jpg",
        pl.col("id").str.slice(0, 1),
        pl.col("id").str.slice(0, 2),
        name,
        pl.col("landmark_id"),
    )
    (root / "metadata").mkdir(parents=True)
    frame.select("id", url.alias("url"), "landmark_id").write_csv(root / "metadata/train.csv")
    category = pl.format("http://commons.wikimedia.org/wiki/Category:Place_%C3%A9_{}", "landmark_id")
    categories = pl.DataFrame({"landmark_id": np.arange(LANDMARKS)}).with_columns(category.alias("category"))
    categories.write_csv(root / "metadata/train_label_to_category.csv")
    return root


@pytest.mark.stress
def test_full_size_tables_load_in_ten_seconds_and_two_gibibytes(tmp_path):
    root = write_full_size(tmp_path / "whole")
    command = [sys.executable, "-c", MEASURE, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=3600)
    references, landmarks, seconds, used = json.loads(done.stdout)
    sys.stderr.write(f"\nfull train.csv: {seconds:.1f} s, {used / 2**30:.2f} GiB\n")
    assert (references, landmarks) == (ROWS, LANDMARKS)
    assert seconds < SECONDS
    assert used < BYTES


@pytest.mark.stress
def test_pairs_among_a_hundred_thousand_photos_take_seconds():
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, (100_000, VIEWS), dtype=np.uint64)
    hashes[50_000, 0] = hashes[10, 0] ^ np.uint64(0b1011)
    started = time.perf_counter()
    pairs = {tuple(pair) for found in pair_everywhere(hashes) for pair in found.tolist()}
    seconds = time.perf_counter() - started
    sys.stderr.write(f"\npairs among 100,000 photos: {seconds:.1f} s\n")
    assert (10, 50_000) in pairs
    assert seconds < 120
