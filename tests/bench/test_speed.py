"""What the benchmark measures, with times and memory that are known; and the work by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from obelisk.bench import benchmark, measure_latency, measure_throughput
from obelisk.bench.naive import NaiveRecognizer
from obelisk.bench.speed import percentiles
from obelisk.errors import ObeliskError
from obelisk.photos import ModelInput


def test_percentiles_are_in_milliseconds() -> None:
    latency = percentiles([i / 1000 for i in range(101)])
    assert (latency.p50, latency.p95) == (pytest.approx(50), pytest.approx(95))


def test_every_photo_is_timed_as_often_as_the_others() -> None:
    seen: list[Path] = []
    measure_latency(seen.append, [Path("a"), Path("b"), Path("c")], answers=7)
    # Three to warm up, then three rounds.
    assert [seen.count(Path(name)) for name in "abc"] == [4, 4, 4]


def test_throughput_is_that_of_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 102.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    calls: list[int] = []
    assert measure_throughput(lambda many: calls.append(len(many)), [Path("a"), Path("b")], answers=5) == 3.0
    assert calls == [6]


def test_peak_memory_is_in_mib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("VmPeak:\t  999999 kB\nVmHWM:\t  204800 kB\n")
    monkeypatch.setattr(benchmark, "PROCESS_STATUS", status)
    monkeypatch.setattr(benchmark, "run_python", lambda *_, stdin: status.read_text())
    assert benchmark.measure_peak_memory([Path("a.jpg")], Path("gallery")) == 200.0
    monkeypatch.setattr(benchmark, "PROCESS_STATUS", tmp_path / "nowhere")
    assert benchmark.measure_peak_memory([Path("a.jpg")], Path("gallery")) is None


def test_a_process_that_fails_says_why() -> None:
    with pytest.raises(ObeliskError, match="out of paper"):
        benchmark.run_python("-c", "raise SystemExit('out of paper')")


def test_the_work_by_hand_answers_every_photo(tiny_dataset: Path) -> None:
    rule = ModelInput(size=64, resize="squash", mean=(0.5,) * 3, std=(0.5,) * 3)
    photos = sorted((tiny_dataset / "train").rglob("*.jpg"))[:34]
    batches = list(NaiveRecognizer("test_efficientnet", rule, references=20).recognize(photos))
    assert [batch.shape for batch in batches] == [(32, 3), (2, 3)]
    assert np.concatenate(batches).max() < 20
