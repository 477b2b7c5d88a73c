"""The memory that training takes beside its estimate, and how the machine's memory is measured."""

import gc
import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from obelisk.config import load_recipe
from obelisk.training.machine import available_memory, peak_memory, resident_memory
from obelisk.training.memory_estimate import TrainingSizes, estimate_memory

pytestmark = pytest.mark.stress

MIB = 2**20

MEASURE = """
import json, sys, torch
from obelisk.config import load_recipe
from obelisk.training.head import TrainingPhotos, train_head
from obelisk.training.machine import peak_memory, resident_memory
torch.set_num_threads(1)
C, D, D_IN = map(int, sys.argv[1:])
def run(landmarks):
    photos = TrainingPhotos(views=torch.randn(1, 256, D_IN).half(), landmarks=torch.arange(256) % landmarks)
    keys = [f"neck.dimensions={D}", "training.epochs=2", "training.batch_size=128", "neck.start=random"]
    train_head(load_recipe("arcface", keys), photos, (D_IN,), torch.ones(landmarks), validation=photos)
run(8)
before = resident_memory()
run(C)
print(json.dumps(peak_memory() - before))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the memory is read from /proc")
def test_head_training_takes_the_memory_that_is_estimated() -> None:
    C, D, D_in = 60_000, 256, 64
    gc.collect()
    words = [sys.executable, "-c", MEASURE, str(C), str(D), str(D_in)]
    taken = json.loads(subprocess.run(words, capture_output=True, text=True, check=True, timeout=3600).stdout)
    keys = [f"neck.dimensions={D}", "training.batch_size=128", "views.count=0"]
    sizes = TrainingSizes(landmarks=C, photos=512, validation=256, parts=((D_in,),))
    counted = sum(estimate_memory(load_recipe("arcface", keys), sizes)["neck"].values())
    print(f"counted {counted / MIB:.0f} MiB, taken {taken / MIB:.0f} MiB")
    assert 0.75 * counted < taken < 1.2 * counted


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system has no /proc")
def test_a_large_block_is_seen() -> None:
    before = resident_memory()
    block = bytearray(b"x") * (64 * 2**20)
    assert resident_memory() - before > 60 * 2**20
    assert peak_memory() >= before + len(block) * 0.9
    assert available_memory() > 0


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
@pytest.mark.parametrize("kept", [True, False])
def test_freed_memory_is_kept_for_the_next_step(kept: bool) -> None:
    code = f"""
import ctypes
from obelisk.training.machine import keep_freed_memory, resident_memory
if {kept}:
    keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
block = libc.malloc(2**26)
ctypes.memset(block, 1, 2**26)
before = resident_memory()
libc.free(block)
print(before - resident_memory())
"""
    command = [sys.executable, "-c", code]
    given_back = int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=3600).stdout)
    assert given_back < 2**20 if kept else given_back > 2**25
