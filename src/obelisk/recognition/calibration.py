"""Calibration: from a score and its margin to the probability that they are right, and to a threshold.

With s₁ the score of the first candidate, s₂ that of the next other landmark and N the number of reference photos::

    confidence = 1 / (1 + exp(−z − i))      z = a · ln s₁ + m · min(ln(s₁ / s₂), M) − a · c · ln N,      i = −a · b

This is logistic regression (Platt, *Probabilistic outputs for support vector machines*, 1999) on the score, on its
margin over the best other landmark, and on ln N: the more photos compete, the closer one of them gets by accident. A
look-alike of a gallery's landmark scores high, but seldom with a margin; see :mod:`obelisk.recognition.rivals` for few
landmarks. The confidence is strictly increasing in the score, all else equal.

After geometric verification, the inliers come on top, and count only for the queries that were verified::

    z += v · ln(1 + inliers) + v₀

v₀ says what no inlier means: without it, a photo that fits no reference would lose nothing by it.

a, b, c and m are fitted to held-out photos: of landmarks of a gallery, which should be named, and of others, which
should not. They travel with the model, so that a gallery of any places has a confidence and a threshold without a
single labelled query. How alike strangers are differs from place to place, though, and only the intercept i depends on
it: a gallery shifts it by its own references (:mod:`obelisk.recognition.self_calibration`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from obelisk.arrays import Booleans, Floats
from obelisk.defaults import PRECISION, VOTE, K
from obelisk.embedding import LARGEST_JSON, Bundle, parse_json
from obelisk.errors import ModelError, UsageError
from obelisk.gallery import Gallery
from obelisk.recognition.rivals import ENOUGH_LANDMARKS, add_missing_rivals

CALIBRATION = "calibration.json"
"""Name of the attachment of a bundle, and of the file of a gallery, that holds a :class:`Calibration`."""

UNCALIBRATED = (
    "the model is not calibrated: the confidence is only a score, and without a threshold every photo gets a name · "
    "`obelisk calibrate` gives it a calibration"
)
"""What people are told wherever such a model answers."""

MOST_ROWS = 10_000  # of a table that is read
CALIBRATION_FORMAT = 4  # 1: without margin and evidence; 2: without inliers, vote and k; 3: without rival
MARGIN_CAP = 0.35  # M; a larger margin says no more
CAUTION = 0.8  # share of the mistakes that a wanted precision allows, unless geometry was verified
RIDGE = 1e-3  # keeps the weights finite where the scores separate right from wrong without a mistake
NEWTON_STEPS = 100
TABULATED = 101  # confidences whose expected precision is kept
KEPT_EVIDENCE = 200  # points of the evidence that travel with a calibration

Share = Annotated[float, Field(ge=0, le=1)]


class Calibration(BaseModel):
    """What ``calibration.json`` holds: the weights, and the expected precision of answers from each confidence on.

    ``evidence`` sums up what the weights were fitted to, for galleries that mix it with their own: points z, the share
    of right answers there, and their weight; the weights sum to 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)

    format: int = Field(default=CALIBRATION_FORMAT, ge=1, le=CALIBRATION_FORMAT, description="version of this layout")
    slope: float = Field(gt=0, description="a")
    center: float = Field(alias="centre", description="b")
    growth: float = Field(ge=0, description="c")
    margin: float = Field(default=0.0, ge=0, description="m")
    rival: float = Field(default=0.0, ge=0, le=1, description="r, the score of a landmark that a small gallery lacks")
    inliers: float = Field(default=0.0, ge=0, description="v")
    verified: float = Field(default=0.0, description="v₀")
    inlier_shares: tuple[tuple[float, Share, Share], ...] = Field(
        default=(),
        max_length=MOST_ROWS,
        description="inliers, with the share of right and of wrong first candidates that have so many",
    )
    model: str = Field(default="", max_length=100, description="fingerprint of the model it is for; empty if unknown")
    vote: str = Field(default=VOTE, max_length=100, description="how the neighbors voted for these scores")
    k: int = Field(default=K, ge=1, description="how many of them")
    references: int = Field(default=0, ge=0, description="N when a gallery made it of its own references, else 0")
    precisions: tuple[tuple[Share, Share], ...] = Field(
        min_length=1,
        max_length=MOST_ROWS,
        description="pairs of a confidence and the precision of answers of at least that; ascending",
    )
    verified_precisions: tuple[tuple[Share, Share], ...] = Field(
        default=(), max_length=MOST_ROWS, description="the same of answers after geometric verification"
    )
    evidence: tuple[tuple[float, Share, Share], ...] = Field(default=(), max_length=MOST_ROWS, description="see above")

    @property
    def intercept(self) -> float:
        """I = −a · b."""
        return -self.slope * self.center

    def combine(
        self,
        scores: Floats,
        margins: Floats | float,
        references: int | Floats,
        *,
        landmarks: int = ENOUGH_LANDMARKS,
        inliers: Floats | None = None,
    ) -> Floats:
        """Return z (Q,) of scores (Q,) in [0, 1] and their margins; −∞ for a score of 0.

        ``references`` is N, one or (Q,), of so many ``landmarks``; ``inliers`` (Q,) are NaN where not verified.
        """
        with np.errstate(divide="ignore"):
            score = self.slope * (np.log(scores) - self.growth * np.log(np.maximum(1, references)))
        z = score + self.margin * add_missing_rivals(margins, scores, landmarks, self.rival) + self._weigh(inliers)
        return np.asarray(z, dtype=np.float64)

    def confidence(
        self,
        scores: Floats,
        margins: Floats | float,
        references: int | Floats,
        *,
        landmarks: int = ENOUGH_LANDMARKS,
        inliers: Floats | None = None,
    ) -> Floats:
        """Return the confidence (Q,) in [0, 1] of first candidates; arguments as for :meth:`combine`."""
        with np.errstate(divide="ignore"):
            below = self.center + self.growth * np.log(np.maximum(1, references)) - np.log(scores)
        z = self.margin * add_missing_rivals(margins, scores, landmarks, self.rival) - self.slope * below
        return logistic(z + self._weigh(inliers))

    def _weigh(self, inliers: Floats | None) -> Floats:
        """Return what inliers add to z; 0 where there are none."""
        found = np.nan if inliers is None else inliers
        return np.nan_to_num(self.inliers * np.log1p(found) + self.verified, nan=0.0)

    def threshold(self, precision: float = PRECISION, *, verified: bool = False) -> float:
        """Return the lowest confidence whose answers reach a wanted precision, a share of right answers.

        How alike strangers are differs from place to place, so only CAUTION of the mistakes that the precision allows
        are used. What inliers say hardly depends on the place, so after geometric verification all of them are. That
        threshold is also lower because more answers are certain, so that less certain ones may join them. If no
        confidence reaches the precision, the threshold is the highest one measured.

        Raises :class:`~obelisk.errors.UsageError` for a precision outside (0, 1).
        """
        if not 0.0 < precision < 1.0:
            raise UsageError(f"precision = {precision}", fix="give a share of the answers, above 0 and below 1")
        table, wanted = self.precisions, 1.0 - CAUTION * (1.0 - precision)
        if verified and self.verified_precisions:
            table, wanted = self.verified_precisions, precision
        enough = [confidence for confidence, reached in table if reached >= wanted]
        return min(enough, default=table[-1][0])

    def to_json(self) -> str:
        """Return the text of ``calibration.json``, in the newest format whatever was read."""
        return self.model_copy(update={"format": CALIBRATION_FORMAT}).model_dump_json(indent=1, by_alias=True)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """First candidates of Q queries, to fit a calibration to.

    ==============  ====  ==============================================
    ``scores``      (Q,)  their scores in [0, 1]
    ``margins``     (Q,)  their margins, of :func:`find_margins`
    ``references``  (Q,)  number of reference photos that competed
    ``inliers``     (Q,)  inliers of verified geometry; NaN where nothing was verified
    ``right``       (Q,)  whether the query shows the candidate
    ``weights``     (Q,)  how much each query counts; need not sum to 1
    ==============  ====  ==============================================
    """

    scores: Floats
    margins: Floats
    references: Floats
    inliers: Floats
    right: Booleans
    weights: Floats


def find_margins(scores: Floats) -> Floats:
    """Return min(ln(s₁ / s₂), M) (Q,) of ranked scores (Q, T); M where T = 1, as there is no other landmark."""
    if scores.shape[1] < 2:
        return np.full(len(scores), MARGIN_CAP)
    with np.errstate(divide="ignore", invalid="ignore"):
        margins = np.log(scores[:, 0]) - np.log(scores[:, 1])
    capped: Floats = np.minimum(np.nan_to_num(margins, nan=0.0, posinf=MARGIN_CAP), MARGIN_CAP)
    return capped


def fit_calibration(evidence: Evidence, *, margin_ratio: float | None = None, sharpness: float = 1.0) -> Calibration:
    """Fit a calibration by weighted logistic regression (Newton's method, with a small ridge).

    With ``margin_ratio``, m is not fitted, but that many times a. ``sharpness`` multiplies a and m after the fit; the
    intercept is then fitted again.

    Raises :class:`~obelisk.errors.UsageError` if all candidates are right or all wrong, or if better scores are not
    more often right.
    """
    if evidence.right.all() or not evidence.right.any():
        raise UsageError("the answers to calibrate with are all right, or all wrong", fix="give photos of both kinds")
    scores, weights = np.maximum(evidence.scores, 1e-6), evidence.weights / evidence.weights.sum()
    margins = evidence.margins if margin_ratio is None else np.zeros(len(scores))
    base = np.log(scores) if margin_ratio is None else np.log(scores) + margin_ratio * evidence.margins
    columns = np.stack([base, margins, np.ones(len(scores)), np.log(evidence.references)], axis=1)
    mean = columns.mean(axis=0) * [1, 1, 0, 1]
    # Evidence from galleries of one size says nothing about ln N, so the ridge shrinks its weight.
    beta = fit_logistic(columns - mean, evidence.right, weights, shrunk=[0, 0, 0, 1])
    slope, margin, shift, growth = beta
    if slope <= 0:
        raise UsageError(
            "here, answers with better scores are not more often right", fix="give more photos, or a better model"
        )
    fitted = Calibration(
        slope=sharpness * slope,
        center=-(shift - beta @ mean) / slope,
        growth=max(0.0, -growth / slope),
        margin=sharpness * (max(0.0, margin) if margin_ratio is None else margin_ratio * slope),
        precisions=((0.0, 0.0),),
    )
    z = fitted.combine(scores, evidence.margins, evidence.references)
    fitted = fit_inliers(fitted, (z + fitted.intercept) / sharpness, evidence)
    if sharpness != 1.0:
        fitted = shift_intercept(fitted, z, evidence.right, weights)
    return fitted.model_copy(
        update=tabulate_precisions(fitted, z, weights) | {"evidence": sum_up(z, evidence.right, weights)}
    )


def fit_inliers(calibration: Calibration, log_odds: Floats, evidence: Evidence) -> Calibration:
    """Fit v and v₀ to the verified among first candidates, whose log odds (Q,) without inliers stay as they are.

    So answers with and without this evidence agree on average. How many inliers right and wrong ones have is kept, too.
    """
    verified = ~np.isnan(evidence.inliers)
    inliers, right, weights = evidence.inliers[verified], evidence.right[verified], evidence.weights[verified]
    if right.all() or not right.any():
        return calibration
    weight = np.log1p(inliers)
    columns = np.stack([weight - weight.mean(), np.ones(len(weight))], axis=1)
    weights = weights / weights.sum()
    slope, shift = fit_logistic(columns, right, weights, shrunk=[0.01, 0], offset=log_odds[verified])
    if slope <= 0:
        return calibration
    counts = np.unique(inliers)
    held = [(inliers == counts[:, None]) @ (weights * group) for group in (right, ~right)]
    shares = np.stack([counts, *(one / one.sum() for one in held)], axis=1)
    return calibration.model_copy(
        update={
            "inliers": float(slope),
            "verified": float(shift - slope * weight.mean()),
            "inlier_shares": tuple(map(tuple, np.round(shares, 6).tolist())),
        }
    )


def fit_logistic(
    columns: Floats, right: Booleans, weights: Floats, *, shrunk: Sequence[float], offset: Floats | float = 0.0
) -> Floats:
    """Return the coefficients (P,) of a logistic regression on centered columns (Q, P), added to an offset (Q,).

    ``shrunk`` (P,) says how much the ridge shrinks each: 1 all of it, 0 only against singular columns.
    """
    penalties = np.array(shrunk, dtype=np.float64)
    beta = np.zeros(len(penalties))
    for _ in range(NEWTON_STEPS):
        probability = 1.0 / (1.0 + np.exp(-np.clip(columns @ beta + offset, -30, 30)))
        gradient = columns.T @ (weights * (right - probability)) - RIDGE * penalties * beta
        curvature = columns.T * (weights * probability * (1 - probability)) @ columns
        step = np.linalg.solve(curvature + RIDGE * np.diag(np.maximum(penalties, 1e-3)), gradient)
        beta += step
        if np.abs(step).max() < 1e-9:
            break
    return beta


def shift_intercept(calibration: Calibration, z: Floats, right: Floats | Booleans, weights: Floats) -> Calibration:
    """Refit i alone to evidence z (Q,), of which the shares ``right`` (Q,) are right; weights (Q,) sum to 1."""
    intercept = calibration.intercept
    for _ in range(NEWTON_STEPS):
        probability = logistic(z + intercept)
        curvature = float((weights * probability * (1 - probability)).sum())
        step = float(np.clip((weights * (right - probability)).sum() / (curvature + RIDGE * 1e-3), -2.0, 2.0))
        intercept += step
        if abs(step) < 1e-9:
            break
    shifted = calibration.model_copy(update={"center": -intercept / calibration.slope})
    return shifted.model_copy(update=tabulate_precisions(shifted, z, weights))


def tabulate_precisions(calibration: Calibration, z: Floats, weights: Floats) -> dict[str, object]:
    """Return ``precisions`` for first candidates with z (Q,), and ``verified_precisions``.

    The latter are those to expect after verification, where right and wrong candidates have inliers as in the evidence.
    """
    z = z + calibration.intercept
    tables: dict[str, object] = {"precisions": expected_precisions(logistic(z), weights)}
    if calibration.inlier_shares:
        inliers, right, wrong = np.array(calibration.inlier_shares).T
        verified = z[:, None] + calibration.inliers * np.log1p(inliers) + calibration.verified
        probability = logistic(z)[:, None]
        spread = weights[:, None] * (probability * right + (1 - probability) * wrong)
        # Most of these points weigh next to nothing, so they are first summed up in points of the same weight.
        summed = sum_up(verified.ravel(), np.zeros(verified.size, dtype=bool), spread.ravel())
        z, _, held = (np.array(column) for column in zip(*summed, strict=True))
        tables["verified_precisions"] = expected_precisions(logistic(z), held)
    return tables


def sum_up(z: Floats, right: Booleans, weights: Floats) -> tuple[tuple[float, float, float], ...]:
    """Average neighboring z into at most KEPT_EVIDENCE points of about the same weight: (z, share right, weight)."""
    order = np.argsort(z)
    ends = np.cumsum(weights[order])
    point = np.minimum((ends / ends[-1] * KEPT_EVIDENCE).astype(int), KEPT_EVIDENCE - 1)
    sums = [np.bincount(point, weights=weights[order] * values[order]) for values in (np.ones(len(z)), z, right)]
    filled = sums[0] > 0
    held, mean, share = sums[0][filled], sums[1][filled] / sums[0][filled], sums[2][filled] / sums[0][filled]
    columns = (np.round(column, 6).tolist() for column in (mean, np.clip(share, 0, 1), held))
    return tuple(zip(*columns, strict=True))


def logistic(z: Floats) -> Floats:
    """Return 1 / (1 + exp(−z))."""
    with np.errstate(over="ignore"):
        return np.asarray(1.0 / (1.0 + np.exp(-z)), dtype=np.float64)


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
    """Return the calibration of a gallery: its own file's, its own references', its model's, or None, in this order.

    A file that was made for another model does not count (:func:`find_foreign_calibration`).

    Raises :class:`~obelisk.errors.ModelError` if it can't be read.
    """
    if (own := read_own_file(gallery)) is not None and fits_model(own, gallery):
        return own
    if (kept := gallery.own_calibration()) is not None:
        return read_calibration(kept.encode(), gallery.name)
    return find_model_calibration(bundle)


def read_own_file(gallery: Gallery) -> Calibration | None:
    """Read the file ``calibration.json`` of a gallery; None if it has none; raises ModelError if it can't be read."""
    path = gallery.folder / CALIBRATION if gallery.folder else gallery.name
    try:
        found = gallery.truth.read_file(CALIBRATION, LARGEST_JSON)
        return None if found is None else read_calibration(found, path)
    except OSError as error:
        what, fix = f"unreadable calibration: {error.strerror}", "copy it again, or make it readable for you"
        raise ModelError(what, where=path, fix=fix) from error


def fits_model(own: Calibration, gallery: Gallery) -> bool:
    """Return whether a gallery's calibration file was made for its model, as far as the file says."""
    return own.model in ("", gallery.fingerprint)


def find_foreign_calibration(gallery: Gallery) -> str | None:
    """Say that the calibration file of a gallery was made for another model, and so does not count; None if not."""
    own = read_own_file(gallery)
    if own is None or fits_model(own, gallery):
        return None
    return (
        f"{gallery.name}/{CALIBRATION} was made for another model (fingerprint {own.model}), so the model's own "
        "calibration counts · delete the file, or copy that of this gallery's model"
    )


def find_model_calibration(bundle: Bundle) -> Calibration | None:
    """Return the calibration that a model carries, or None; raises :class:`~obelisk.errors.ModelError` for damage."""
    found = bundle.read_attachment(CALIBRATION, LARGEST_JSON)
    return None if found is None else read_calibration(found, bundle.folder / CALIBRATION)


def read_calibration(text: bytes, where: Path | str) -> Calibration:
    """Parse ``calibration.json``; raise ModelError if it is damaged or of a newer format."""
    fix = "copy it again, or upgrade obelisk"
    return parse_json(text, TypeAdapter(Calibration), where=where, what="calibration", fix=fix)
