"""How fast Obelisk answers, and how fast the same work is without it.

::

    benchmark   sets of photos: latency, throughput, cold start, memory
    speed       timing one recognizer, stage by stage
    naive       the same work by hand; it needs torch, so nothing here imports it until it is asked for
"""

from __future__ import annotations

from obelisk.bench.benchmark import (
    AnswerSpeed,
    BenchmarkResult,
    benchmark_naive,
    benchmark_photos,
    describe_machine,
    missing_for_naive,
    render_photo_sets,
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
    "benchmark_naive",
    "benchmark_photos",
    "describe_machine",
    "measure_latency",
    "measure_stages",
    "measure_throughput",
    "missing_for_naive",
    "render_photo_sets",
]
