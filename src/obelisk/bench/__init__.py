"""How fast Obelisk answers, and how fast the same work is without it.

::

    benchmark   sets of photos: latency, throughput, cold start, memory
    speed       timing one recognizer, stage by stage
    naive       the same work by hand; it needs torch, and is imported only when it runs
"""

from __future__ import annotations

from obelisk.bench.benchmark import (
    AnswerSpeed,
    BenchmarkResult,
    describe_machine,
    missing_for_naive,
    render_photo_sets,
    run_benchmarks,
)
from obelisk.bench.speed import (
    STAGES,
    LatencyPercentiles,
    measure_latency,
    measure_stages,
    measure_throughput,
)

__all__ = [
    "STAGES",
    "AnswerSpeed",
    "BenchmarkResult",
    "LatencyPercentiles",
    "describe_machine",
    "measure_latency",
    "measure_stages",
    "measure_throughput",
    "missing_for_naive",
    "render_photo_sets",
    "run_benchmarks",
]
