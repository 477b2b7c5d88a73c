"""How good a recognizer is: metrics, intervals, the files between, and the report.

::

    predict ─→ predictions.parquet ─→ measure ─→ metrics.json
                                  └─→ compare_runs ─→ write_report ─→ report.html
"""

from obelisk.evaluation.comparison import Comparison, RunResult, compare_runs
from obelisk.evaluation.effects import Effect, find_effects
from obelisk.evaluation.metrics import gap, retrieval_map
from obelisk.evaluation.predictions import Predictions, collect_predictions, read_predictions, write_predictions
from obelisk.evaluation.protocol import Metrics, measure, write_metrics
from obelisk.evaluation.report import write_report

__all__ = [
    "Comparison",
    "Effect",
    "Metrics",
    "Predictions",
    "RunResult",
    "collect_predictions",
    "compare_runs",
    "find_effects",
    "gap",
    "measure",
    "read_predictions",
    "retrieval_map",
    "write_metrics",
    "write_predictions",
    "write_report",
]
