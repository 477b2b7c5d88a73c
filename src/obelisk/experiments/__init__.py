"""What needs training and recognition together: ablations, and the demo."""

from __future__ import annotations

from obelisk.experiments.ablations import AblationResult, run_ablation
from obelisk.experiments.demo import DemoResult, run_demo

__all__ = ["AblationResult", "DemoResult", "run_ablation", "run_demo"]
