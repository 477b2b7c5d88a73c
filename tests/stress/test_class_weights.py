"""One step of sub-center ArcFace's head for many landmarks: time beside its bare matrix products, and peak memory.

Each number of landmarks is measured in a process of its own. ``OBELISK_STRESS_LANDMARKS`` sets the largest one. On a
machine that has other work, ``OMP_NUM_THREADS=1`` keeps threads from waiting for each other.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.stress,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the memory is read from /proc"),
]

LARGEST = int(os.environ.get("OBELISK_STRESS_LANDMARKS", 81_313))
MIB = 2**20
D, K, BATCH = 512, 3, 128
LIBRARIES = 256  # MiB that a first step loads, whatever the number of landmarks

MEASURE = r"""
import json, re, sys, time
from pathlib import Path
import torch
from obelisk.training.losses import ArcFace

C, D, K, BATCH, share = *map(int, sys.argv[1:5]), float(sys.argv[5])

def resident(line):
    return int(re.search(line + r":\s*(\d+)", Path("/proc/self/status").read_text())[1]) / 2**10

torch.manual_seed(0)
features, landmarks = torch.randn(BATCH, D, requires_grad=True), torch.randint(C, (BATCH,))
before = resident("VmRSS")
loss = ArcFace(D, torch.full((C,), 0.3), scale=30.0, subcenters=K, sampled_share=share)
optimizer = torch.optim.AdamW(loss.parameters(), lr=1e-3, fused=True)

def head():
    optimizer.zero_grad()
    loss(features, landmarks).backward()

@torch.no_grad()
def bare(slopes=torch.randn(BATCH, C * K)):
    features @ loss.weight.T
    slopes @ loss.weight
    slopes.T @ features

def seconds(action):
    start = time.perf_counter()
    action()
    return time.perf_counter() - start

head()
peak_head = resident("VmHWM") - before - BATCH * C * K * 4 / 2**20
optimizer.step()
peak = resident("VmHWM") - before - BATCH * C * K * 4 / 2**20
bare()
# In turns, so that what else the machine does slows all alike; the least of each is nearest to its own cost.
times = [(seconds(head), seconds(bare), seconds(optimizer.step)) for _ in range(5)]
head_s, bare_s, step_s = map(min, zip(*times))
print(json.dumps({"head": head_s, "bare": bare_s, "step": step_s, "peak_head": peak_head, "peak": peak}))
"""


def measure(landmarks: int, share: float = 1.0) -> dict[str, float]:
    """Return the seconds of the head, of its bare products and of the optimizer's step, and peaks of memory in MiB."""
    arguments = [str(value) for value in (landmarks, D, K, BATCH, share)]
    command = [sys.executable, "-c", MEASURE, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=3600)
    found: dict[str, float] = json.loads(done.stdout)
    milliseconds = {name: round(1e3 * found[name]) for name in ("head", "bare", "step")}
    print(f"\nC = {landmarks:,}, share {share}: {milliseconds} ms, head / bare {found['head'] / found['bare']:.2f}")
    print(f"peak {found['peak_head']:.0f} MiB, with the optimizer {found['peak']:.0f} MiB")
    return found


def weights_mib(landmarks: int) -> float:
    return landmarks * K * D * 4 / MIB


@pytest.mark.parametrize("landmarks", [1_000, 10_000, LARGEST])
def test_a_step_costs_less_than_twice_its_matrix_products(landmarks: int) -> None:
    found = measure(landmarks)
    # Few landmarks cost less than what surrounds them.
    if landmarks >= 10_000:
        assert found["head"] <= 2 * found["bare"]
    # Weights and gradient, and six matrices of batch by landmarks; the optimizer adds two moments.
    matrices = 6 * BATCH * landmarks * 4 / MIB
    assert found["peak_head"] <= 2 * weights_mib(landmarks) + matrices + LIBRARIES
    assert found["peak"] <= 4 * weights_mib(landmarks) + matrices + LIBRARIES


def test_a_tenth_of_the_landmarks_is_faster_than_all() -> None:
    found = measure(LARGEST, 0.1)
    assert found["head"] <= found["bare"]
