"""From a score to the probability that it is right, and to the confidence that an answer needs.

With s the score of the first candidate and N the number of reference photos::

    confidence = 1 / (1 + (s₀ / s)^a)      ln s₀ = b + c · ln N

This is a logistic regression on ln s and ln N (Platt, *Probabilistic outputs for support vector machines*, 1999):
the more photos compete, the nearer one of them comes by chance. It is strictly increasing in the score. a, b and c
are learnt from photos that are held back: of landmarks of a gallery, which ought to be named, and of others, which
ought not. They travel with the model, so that a gallery of anybody's places has a confidence and a threshold without
one labelled query; a gallery for which they were measured apart carries its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from obelisk.embedding import Bundle
from obelisk.errors import ModelError, UsageError
from obelisk.gallery import Gallery

CALIBRATION = "calibration.json"  # an attachment of a bundle, or a file of a gallery
FORMAT = 1
PRECISION = 0.95  # of the answers that are given where nobody wants another
CAUTION = 0.8  # share of the mistakes that a wanted precision allows
RIDGE = 1e-3  # keeps the weights finite where right and wrong answers can be told apart without a mistake
STEPS = 100


Share = Annotated[float, Field(ge=0, le=1)]


class Calibration(BaseModel):
    """What ``calibration.json`` holds: a, b and c, and the precision of the answers from each confidence on."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: int = Field(default=FORMAT, ge=1, le=FORMAT, description="version of this layout")
    slope: float = Field(gt=0, description="a")
    centre: float = Field(description="b")
    growth: float = Field(ge=0, description="c")
    precisions: tuple[tuple[Share, Share], ...] = Field(
        min_length=1, description="pairs of a confidence and the share of answers of at least that which are right"
    )

    def confidence(self, scores: NDArray[np.float64], references: int | NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the confidence (Q,) of scores (Q,) among N ``references``, one number for all or one a score."""
        with np.errstate(divide="ignore", over="ignore"):
            against = self.slope * (self.centre + self.growth * np.log(np.maximum(1, references)) - np.log(scores))
            return np.asarray(1.0 / (1.0 + np.exp(against)))

    def threshold(self, precision: float = PRECISION) -> float:
        """Return the least confidence that answers of this precision need; raises UsageError outside (0, 1).

        It allows for CAUTION of the mistakes only, because calibration errs, too. Where no measured confidence was
        enough, it is the largest measured one.
        """
        if not 0.0 < precision < 1.0:
            raise UsageError(f"precision = {precision}", fix="a wanted precision is a share, above 0 and below 1")
        wanted = 1.0 - CAUTION * (1.0 - precision)
        enough = [confidence for confidence, reached in self.precisions if reached >= wanted]
        return min(enough, default=self.precisions[-1][0])


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Scores (Q,) of first candidates among ``references`` (Q,) photos, whether they were ``right``, and weights."""

    scores: NDArray[np.float64]
    references: NDArray[np.float64]
    right: NDArray[np.bool_]
    weights: NDArray[np.float64]


def fit_calibration(evidence: Evidence) -> Calibration:
    """Learn a calibration by logistic regression: Newton's method on the weighted log-likelihood with a small ridge.

    Raises UsageError where the answers are all right or all wrong, or better scores are no better answers.
    """
    if evidence.right.all() or not evidence.right.any():
        raise UsageError("the answers to calibrate with are all right, or all wrong", fix="give photos of both kinds")
    columns = np.stack(
        [np.log(np.maximum(evidence.scores, 1e-6)), np.ones(len(evidence.scores)), np.log(evidence.references)], axis=1
    )
    middle = columns.mean(axis=0) * [1, 0, 1]
    weights = evidence.weights / evidence.weights.sum()
    beta = np.zeros(3)
    for _ in range(STEPS):
        probability = 1.0 / (1.0 + np.exp(-np.clip((columns - middle) @ beta, -30, 30)))
        gradient = (columns - middle).T @ (weights * (evidence.right - probability)) - RIDGE * beta * [0, 0, 1]
        curvature = (columns - middle).T * (weights * probability * (1 - probability)) @ (columns - middle)
        step = np.linalg.solve(curvature + RIDGE * np.diag([1e-3, 1e-3, 1]), gradient)
        beta += step
        if np.abs(step).max() < 1e-9:
            break
    slope, shift, growth = beta
    if slope <= 0:
        raise UsageError("better scores are no better answers here", fix="give more photos, or a better model")
    found = Calibration(
        slope=slope,
        centre=-(shift - beta @ middle) / slope,
        growth=max(0.0, -growth / slope),
        precisions=((0.0, 0.0),),
    )
    confidences = found.confidence(evidence.scores, evidence.references)
    return found.model_copy(update={"precisions": tabulate_precisions(confidences, evidence.weights)})


def tabulate_precisions(
    confidences: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[tuple[float, float], ...]:
    """Return for a hundred confidences which share of the answers of at least that is right, as the confidences say.

    Their mean is smooth and never falls, where counted right answers would promise what a few lucky ones held.
    """
    order = np.argsort(-confidences)
    reached = np.cumsum((weights * confidences)[order]) / np.cumsum(weights[order])
    places = np.unique(np.linspace(0, len(order) - 1, 101).astype(int))[::-1]
    return tuple((float(confidences[order][place]), float(reached[place])) for place in places)


def check_threshold(threshold: float | None) -> None:
    """Refuse a confidence threshold outside [0, 1]; None rejects nothing."""
    if threshold is not None and not 0.0 <= threshold <= 1.0:
        raise UsageError(f"threshold = {threshold}", fix="a threshold is a confidence, from 0 to 1")


def find_calibration(gallery: Gallery, bundle: Bundle) -> Calibration | None:
    """Return the calibration of a gallery: its own, else that of its model, else None.

    Raises ModelError for one that cannot be read.
    """
    own = gallery.path / CALIBRATION
    if own.is_file():
        try:
            return read_calibration(own.read_bytes(), own)
        except OSError as error:
            what, fix = f"unreadable calibration: {error.strerror}", "see to it that you may read it"
            raise ModelError(what, where=own, fix=fix) from error
    found = bundle.read_attachment(CALIBRATION)
    return None if found is None else read_calibration(found, bundle.folder / CALIBRATION)


def read_calibration(text: bytes, where: Path) -> Calibration:
    """Read ``calibration.json``; raises ModelError when it is damaged or of a newer format."""
    try:
        return Calibration.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"]) or "the whole file"
        fix = "copy it again, or upgrade obelisk"
        raise ModelError(f"unreadable calibration: {key}: {problem['msg']}", where=where, fix=fix) from None
