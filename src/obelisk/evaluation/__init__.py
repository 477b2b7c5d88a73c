"""How good a recognizer is: metrics, intervals, the files between, and the report.

::

    evaluate_model ─→ predictions.parquet ─→ measure ─→ metrics.json
                                          └─→ compare_runs ─→ write_report ─→ report.html
"""

from obelisk.evaluation.comparison import Comparison, RunResult, compare_runs
from obelisk.evaluation.effects import Effect, find_effects
from obelisk.evaluation.evaluate import (
    Evaluated,
    Target,
    compare_targets,
    evaluate_model,
    evaluate_targets,
    open_target,
    remembered_data,
)
from obelisk.evaluation.gldv2_protocols import Gldv2Result, evaluate_gldv2_retrieval, measure_gldv2_recognition
from obelisk.evaluation.halves import Halves, evaluate_halves, write_halves
from obelisk.evaluation.metrics import gap, retrieval_map
from obelisk.evaluation.predictions import Predictions, collect_predictions, read_predictions, write_predictions
from obelisk.evaluation.protocol import Metrics, measure, write_metrics
from obelisk.evaluation.report import write_report
from obelisk.evaluation.retrieval import Retrieval, read_distractors
from obelisk.evaluation.revisited_protocol import RevisitedResult, evaluate_revisited
from obelisk.evaluation.run_reader import Run

__all__ = [
    "Comparison",
    "Effect",
    "Evaluated",
    "Gldv2Result",
    "Halves",
    "Metrics",
    "Predictions",
    "Retrieval",
    "RevisitedResult",
    "Run",
    "RunResult",
    "Target",
    "collect_predictions",
    "compare_runs",
    "compare_targets",
    "evaluate_gldv2_retrieval",
    "evaluate_halves",
    "evaluate_model",
    "evaluate_revisited",
    "evaluate_targets",
    "find_effects",
    "gap",
    "measure",
    "measure_gldv2_recognition",
    "open_target",
    "read_distractors",
    "read_predictions",
    "remembered_data",
    "retrieval_map",
    "write_halves",
    "write_metrics",
    "write_predictions",
    "write_report",
]
