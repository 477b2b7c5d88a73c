"""Calibration: from a score to the probability that it is right, and to the threshold of a wanted precision.

With s the score of the first candidate and N the number of reference photos::

    confidence = 1 / (1 + (s₀ / s)^a)      ln s₀ = b + c · ln N

This is logistic regression on ln s and ln N (Platt, *Probabilistic outputs for support vector machines*, 1999): the
more photos compete, the closer one of them gets by accident. It is strictly increasing in the score.

a, b and c are fitted to held-out photos: of landmarks of a gallery, which should be named, and of others, which
should not. They travel with the model, so that a gallery of any places has a confidence and a threshold without a
single labelled query. A gallery that was calibrated itself carries its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from obelisk.arrays import Booleans, Floats
from obelisk.defaults import PRECISION
from obelisk.embedding import LARGEST_JSON, Bundle, parse_json
from obelisk.errors import ModelError, UsageError
from obelisk.files import read_limited
from obelisk.gallery import Gallery

CALIBRATION = "calibration.json"
"""Name of the attachment of a bundle, and of the file of a gallery, that holds a :class:`Calibration`."""

CALIBRATION_FORMAT = 1
CAUTION = 0.8  # share of the mistakes that a wanted precision allows
RIDGE = 1e-3  # keeps the weights finite where the scores separate right from wrong without a mistake
NEWTON_STEPS = 100
TABULATED = 101  # confidences whose expected precision is kept


Share = Annotated[float, Field(ge=0, le=1)]


class Calibration(BaseModel):
    """What ``calibration.json`` holds: a, b and c, and the expected precision of answers from each confidence on."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)

    format: int = Field(default=CALIBRATION_FORMAT, ge=1, le=CALIBRATION_FORMAT, description="version of this layout")
    slope: float = Field(gt=0, description="a")
    center: float = Field(alias="centre", description="b")
    growth: float = Field(ge=0, description="c")
    precisions: tuple[tuple[Share, Share], ...] = Field(
        min_length=1,
        max_length=10_000,
        description="pairs of a confidence and the precision of answers of at least that; ascending",
    )

    def confidence(self, scores: Floats, references: int | Floats) -> Floats:
        """Return the confidence (Q,) in [0, 1] of scores (Q,) in [0, 1].

        ``references`` is N, the number of reference photos: one for all scores, or (Q,).
        """
        with np.errstate(divide="ignore", over="ignore"):
            against = self.slope * (self.center + self.growth * np.log(np.maximum(1, references)) - np.log(scores))
            return np.asarray(1.0 / (1.0 + np.exp(against)))

    def threshold(self, precision: float = PRECISION) -> float:
        """Return the lowest confidence whose answers reach a wanted precision, a share of right answers.

        The calibration errs, too, so only CAUTION of the mistakes that the precision allows are used. If no confidence
        reaches it, the threshold is the highest one measured.

        Raises :class:`~obelisk.errors.UsageError` for a precision outside (0, 1).
        """
        if not 0.0 < precision < 1.0:
            raise UsageError(f"precision = {precision}", fix="give a share of the answers, above 0 and below 1")
        wanted = 1.0 - CAUTION * (1.0 - precision)
        enough = [confidence for confidence, reached in self.precisions if reached >= wanted]
        return min(enough, default=self.precisions[-1][0])

    def to_json(self) -> str:
        """Return the text of ``calibration.json``."""
        return self.model_dump_json(indent=1, by_alias=True)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """First candidates of Q queries, to fit a calibration to.

    ==============  ====  ==============================================
    ``scores``      (Q,)  their scores in [0, 1]
    ``references``  (Q,)  number of reference photos that competed
    ``right``       (Q,)  whether the query shows the candidate
    ``weights``     (Q,)  how much each query counts; need not sum to 1
    ==============  ====  ==============================================
    """

    scores: Floats
    references: Floats
    right: Booleans
    weights: Floats


def fit_calibration(evidence: Evidence) -> Calibration:
    """Fit a calibration by weighted logistic regression (Newton's method, with a small ridge).

    Raises :class:`~obelisk.errors.UsageError` if all candidates are right or all wrong, or if better scores are not
    more often right.
    """
    if evidence.right.all() or not evidence.right.any():
        raise UsageError("the answers to calibrate with are all right, or all wrong", fix="give photos of both kinds")
    columns = np.stack(
        [np.log(np.maximum(evidence.scores, 1e-6)), np.ones(len(evidence.scores)), np.log(evidence.references)], axis=1
    )
    mean = columns.mean(axis=0) * [1, 0, 1]
    beta = fit_logistic(columns - mean, evidence.right, evidence.weights / evidence.weights.sum())
    slope, shift, growth = beta
    if slope <= 0:
        raise UsageError(
            "here, answers with better scores are not more often right", fix="give more photos, or a better model"
        )
    fitted = Calibration(
        slope=slope,
        center=-(shift - beta @ mean) / slope,
        growth=max(0.0, -growth / slope),
        precisions=((0.0, 0.0),),
    )
    confidences = fitted.confidence(evidence.scores, evidence.references)
    return fitted.model_copy(update={"precisions": expected_precisions(confidences, evidence.weights)})


def fit_logistic(columns: Floats, right: Booleans, weights: Floats) -> Floats:
    """Return the coefficients (3,) of a logistic regression on columns (Q, 3): ln s, 1 and ln N, centered.

    The ridge shrinks the last one most: evidence from galleries of one size says nothing about it.
    """
    beta = np.zeros(3)
    for _ in range(NEWTON_STEPS):
        probability = 1.0 / (1.0 + np.exp(-np.clip(columns @ beta, -30, 30)))
        gradient = columns.T @ (weights * (right - probability)) - RIDGE * beta * [0, 0, 1]
        curvature = columns.T * (weights * probability * (1 - probability)) @ columns
        step = np.linalg.solve(curvature + RIDGE * np.diag([1e-3, 1e-3, 1]), gradient)
        beta += step
        if np.abs(step).max() < 1e-9:
            break
    return beta


def expected_precisions(confidences: Floats, weights: Floats) -> tuple[tuple[float, float], ...]:
    """Tabulate confidences, ascending, with the expected precision of all answers of at least each.

    That is their weighted mean confidence. It is smooth and never falls; the share of right answers, in contrast,
    would depend on a few lucky ones at the top.
    """
    order = np.argsort(-confidences)
    reached = np.cumsum((weights * confidences)[order]) / np.cumsum(weights[order])
    ranks = np.unique(np.linspace(0, len(order) - 1, TABULATED).astype(int))[::-1]
    return tuple((float(confidences[order][rank]), float(reached[rank])) for rank in ranks)


def check_threshold(threshold: float | None) -> None:
    """Refuse a confidence threshold outside [0, 1]; None rejects nothing."""
    if threshold is not None and not 0.0 <= threshold <= 1.0:
        raise UsageError(f"threshold = {threshold}", fix="a threshold is a confidence, from 0 to 1")


def find_calibration(gallery: Gallery, bundle: Bundle) -> Calibration | None:
    """Return the calibration of a gallery: its own, else that of its model, else None.

    Raises :class:`~obelisk.errors.ModelError` if it can't be read.
    """
    own = gallery.path / CALIBRATION
    if own.is_file():
        try:
            return read_calibration(read_limited(own, LARGEST_JSON), own)
        except OSError as error:
            what, fix = f"unreadable calibration: {error.strerror}", "copy it again, or make it readable for you"
            raise ModelError(what, where=own, fix=fix) from error
    found = bundle.read_attachment(CALIBRATION, LARGEST_JSON)
    return None if found is None else read_calibration(found, bundle.folder / CALIBRATION)


def read_calibration(text: bytes, where: Path) -> Calibration:
    """Parse ``calibration.json``; raise ModelError if it is damaged or of a newer format."""
    fix = "copy it again, or upgrade obelisk"
    return parse_json(text, TypeAdapter(Calibration), where=where, what="calibration", fix=fix)
