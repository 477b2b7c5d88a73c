"""The landmark weights of Google Landmarks v2 in two processes: what each holds, and what a step sends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.stress

LANDMARKS, SUBCENTERS, D, PHOTOS = 81_313, 3, 512, 64  # photos of each process

MEASURE = f"""
import json, sys
import torch
from torch import distributed, nn
from obelisk.training.distributed import Distributed, join_processes
from obelisk.training.losses import SubCenterArcFace

sent = dict.fromkeys(("all_reduce", "all_gather", "reduce_scatter"), 0)


def count(name):
    call = getattr(distributed, name)

    def counted(first, *others, **named):
        tensors = first if isinstance(first, list) else [first]
        sent[name] += sum(t.numel() * t.element_size() for t in tensors)
        return call(first, *others, **named)

    setattr(distributed, name, counted)


def step(dist):
    torch.manual_seed(0)
    loss = SubCenterArcFace({D}, torch.full(({LANDMARKS},), 0.3), scale=30.0, subcenters={SUBCENTERS}, dist=dist)
    optimizer = torch.optim.AdamW(loss.parameters(), fused=True)
    features = torch.randn({PHOTOS}, {D}, requires_grad=True)
    for name in sent:
        sent[name] = 0
    loss(features, torch.randint({LANDMARKS}, ({PHOTOS},))).backward()
    optimizer.step()
    held = [loss.weight, loss.weight.grad, *optimizer.state[loss.weight].values()]
    return sum(t.numel() * t.element_size() for t in held)


with join_processes() as dist:
    for name in list(sent):
        count(name)
    found = {{"held": step(dist), "sent": dict(sent)}}
    dist.barrier()
    if dist.is_main:
        print(json.dumps({{**found, "alone": step(Distributed())}}))
"""


def test_two_processes_hold_half_each_and_send_features_instead_of_weights(tmp_path: Path) -> None:
    script = tmp_path / "measure.py"
    script.write_text(MEASURE)
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    sys.stdout.write(f"{found}\n")
    assert found["held"] <= 0.55 * found["alone"]
    batch = 2 * PHOTOS
    # Counts and landmarks are int64, features float32; as received, of all processes.
    assert found["sent"]["all_gather"] == 2 * 8 + batch * 8 + batch * D * 4
    assert found["sent"]["reduce_scatter"] == PHOTOS * D * 4
    # max, sum, true logit, the true cosine with its margin; and the gradient of each loss.
    assert found["sent"]["all_reduce"] == 5 * batch * 4
    weights = LANDMARKS * SUBCENTERS * D * 4
    assert sum(found["sent"].values()) < weights / 500
