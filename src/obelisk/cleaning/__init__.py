"""Label errors: find them, list them, drop them.

::

    near-duplicates → folds → embeddings (cached) → label issues → suspects → dropped photos → subset
"""

from __future__ import annotations

from obelisk.cleaning.bias import count_learned_landmarks, trained_landmarks
from obelisk.cleaning.drop import Cleaning, CleaningRule, clean_labels, write_cleaning
from obelisk.cleaning.issue_sheets import draw_issue_sheets
from obelisk.cleaning.label_errors import LabelIssues, choose_dropped, find_label_issues
from obelisk.cleaning.look_alikes import check_look_alikes

__all__ = [
    "Cleaning",
    "CleaningRule",
    "LabelIssues",
    "check_look_alikes",
    "choose_dropped",
    "clean_labels",
    "count_learned_landmarks",
    "draw_issue_sheets",
    "find_label_issues",
    "trained_landmarks",
    "write_cleaning",
]
