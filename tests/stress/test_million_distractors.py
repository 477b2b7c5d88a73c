"""Seventy queries among a million photos, at three difficulties: time and memory, and ranks that a sort confirms."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.stress,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the memory is read from /proc"),
]

ROWS, QUERIES, D = 1_004_993, 70, 512
WANTED = 150  # easy, hard and junk photos of a query
MEASURE = r"""
import json, re, sys, time
from pathlib import Path
import numpy as np
from obelisk.arrays import l2_normalize
from obelisk.data.formats.revisited import RevisitedDataset, RevisitedQuery
from obelisk.evaluation import Retrieval
from obelisk.evaluation.part_search import PartedRows, find_ranks
from obelisk.evaluation.revisited_protocol import measure_revisited

rows, queries, d, wanted = json.loads(sys.argv[1])
rng = np.random.default_rng(0)
database = np.empty((rows, d), np.float16)
for start in range(0, rows, 1 << 16):
    part = slice(start, min(rows, start + (1 << 16)))
    database[part] = l2_normalize(rng.standard_normal((part.stop - part.start, d), dtype=np.float32))
asked, truth, chosen = [], [], []
for number in range(queries):
    photos = rng.permutation(5000)[:wanted]
    query = rng.standard_normal(d)
    database[photos[::2]] = l2_normalize(database[photos[::2]] + 0.05 * query)
    asked.append(query)
    parts = np.split(photos, [wanted // 3, 2 * wanted // 3])
    labels = dict(zip(("easy", "hard", "junk"), parts))
    truth.append(RevisitedQuery(name=str(number), path=Path(), box=(0, 0, 1, 1), **labels))
    chosen.append(photos)
asked = l2_normalize(np.array(asked))
start = time.perf_counter()
ranks = find_ranks(asked, PartedRows.of_array(database), chosen)
dataset = RevisitedDataset(name="roxford5k", photos=[Path()] * 5000, queries=truth)
result = measure_revisited(dataset, ranks, Retrieval(), rows - 5000)
seconds = time.perf_counter() - start
peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 2**20
parts = (database[first : first + 65536].astype(np.float64) for first in range(0, rows, 65536))
similarities = np.concatenate([(part @ asked[3].astype(np.float64)).astype(np.float32) for part in parts])
order = np.argsort(-similarities, kind="stable")
place = np.empty(rows, np.int64)
place[order] = np.arange(rows)
print(json.dumps({"seconds": seconds, "peak": peak, "map": result.figures["medium"]["map"],
                  "same": bool((place[chosen[3]] == ranks[3]).all())}))
"""


def test_a_million_distractors() -> None:
    command = [sys.executable, "-c", MEASURE, json.dumps([ROWS, QUERIES, D, WANTED])]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=3600).stdout)
    print(f"{found['seconds']:.1f} s, peak {found['peak']:.2f} GiB, mAP of medium {found['map']:.3f}")
    assert found["same"]
    assert 0 < found["map"] < 1
    assert found["seconds"] < 60
    assert found["peak"] < 4
