"""A gallery refines its model's calibration with its own reference photos.

How alike strangers look differs from place to place: the churches of one region resemble each other more than the
landmarks that a model was calibrated with. A gallery's own references tell how much. Each is asked twice, as if it
were a query:

- with itself and its copies left out: an imitation of a query of a known landmark
- with its whole landmark left out: an imitation of a query of an unknown landmark of the same kind

Only the intercept of the calibration is fitted again, to this evidence and to the model's own, mixed in the ratio
L : MODEL_WEIGHT for L landmarks. A landmark whose photos score about as high without their landmark as with it has a
twin, the one that they are then taken for. If the twin has one, too, they probably are one place under two names, and
no evidence of strangers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from obelisk.arrays import Booleans, Embeddings, Floats, Integers, join_columns
from obelisk.embedding import Bundle, BundleClassifier
from obelisk.gallery import Gallery, Labels, SearchEngine, as_labels
from obelisk.recognition.calibration import (
    Calibration,
    find_margins,
    find_model_calibration,
    fits_model,
    read_calibration,
    read_own_file,
    shift_intercept,
)
from obelisk.recognition.classifier import KNNClassifier
from obelisk.recognition.rerank.background import Background, BackgroundReranker, read_background
from obelisk.recognition.rerank.prototypes import PROTOTYPE_WEIGHT, RERANKED, PrototypeReranker
from obelisk.recognition.rerank.reranker import Shortlist
from obelisk.recognition.rivals import raise_by_left_out
from obelisk.recognition.votes import count_votes, find_vote, rank_landmarks

MOST_ASKED = 2000  # references, drawn at random
ASKED_AT_ONCE = 250
LISTED = 512  # nearest references of each, of which the left-out ones are taken away
COPY_SIMILARITY = 0.93  # from here on, two photos are taken for copies of one
MODEL_WEIGHT = 2  # the model's evidence weighs as much as this many landmarks
KNOWN_SHARE = 0.75  # of the gallery's own evidence: as 0.6 known to 0.2 unknown in what a model is calibrated with
SEPARABLE = 0.70  # AUROC below which a landmark is taken for one that has a twin
SMALLEST_LENGTH = 1e-9  # of a sum of rows that still has a direction
CERTAIN = 0.99  # the precision at which a stranger that is named probably is none
STILL_GOOD = 0.01  # a gallery that has grown or shrunk by less than this share keeps its calibration


@dataclass(frozen=True, kw_only=True)
class SelfAnswers:
    """The first candidates of n references, asked with some references left out.

    ==============  ====  =====================================================================
    ``landmarks``   (n,)  the landmark that the photo shows
    ``scores``      (n,)  the score of the first candidate, in [0, 1]
    ``margins``     (n,)  its margin, of :func:`~obelisk.recognition.calibration.find_margins`
    ``candidates``  (n,)  the first candidate
    ``usable``      (n,)  whether enough references were left to answer
    ==============  ====  =====================================================================
    """

    landmarks: Integers
    scores: Floats
    margins: Floats
    candidates: Integers
    usable: Booleans

    @property
    def right(self) -> Booleans:
        """Whether the first candidate is the photo's landmark: (n,)."""
        return np.equal(self.candidates, self.landmarks)


@dataclass(frozen=True, kw_only=True)
class Refined:
    """A calibration after the gallery's own evidence, and what else the evidence says.

    ``twins`` are pairs of landmarks that look like one place. ``copies`` counts strangers that are copies of reference
    photos, which are left out; ``named`` are the row indices of strangers that the gallery would name all the same at
    a precision of :data:`CERTAIN`.
    """

    calibration: Calibration
    twins: tuple[tuple[int, int], ...] = ()
    copies: int = 0
    named: tuple[int, ...] = ()


def calibrate_gallery(gallery: Gallery, strangers: Embeddings | None = None, *, again: bool = False) -> Refined | None:
    """Refine the calibration of a gallery's model with the gallery's own references, and keep it in the gallery.

    ``strangers`` (S, D) are unit-norm embeddings of photos of what is not in the gallery, further evidence. Unless
    ``again``, a gallery that has hardly changed in size since its calibration was made keeps that one. Returns None,
    and changes nothing, if there is nothing to do: the model is not calibrated, or the gallery has a calibration file.

    Raises :class:`~obelisk.errors.ModelError` for a damaged calibration, :class:`~obelisk.errors.GalleryError` if the
    gallery can't be written to.
    """
    bundle = gallery.load_bundle()
    general = find_model_calibration(bundle)
    own = read_own_file(gallery)
    if general is None or not general.evidence or (own is not None and fits_model(own, gallery)):
        return None
    references = gallery.references()
    if not again and (kept := gallery.own_calibration()) is not None:
        former = read_calibration(kept.encode(), gallery.name)
        grown = abs(former.references - len(references))
        if comes_from(former, general) and grown < STILL_GOOD * former.references:
            return None
    refined = refine(general, references, references.labels, read_background(bundle), strangers)
    gallery.keep_calibration(refined.calibration.to_json())
    return refined


def comes_from(own: Calibration, general: Calibration) -> bool:
    """Return whether a gallery's calibration was made from a model's: all but the intercept is the same."""
    moved = {"format", "center", "references", "precisions", "verified_precisions", "evidence"}
    return own.model_dump(exclude=moved) == general.model_dump(exclude=moved)


def refine(
    general: Calibration,
    references: SearchEngine,
    labels: Labels | Integers,
    background: Background | None,
    strangers: Embeddings | None = None,
) -> Refined:
    """Return a model's calibration with the intercept that a gallery's references (N, D) call for.

    It is ``general`` itself where they tell nothing: with one landmark, or one photo of each. ``strangers`` (S, D) are
    asked, too.
    """
    labels = as_labels(labels)
    N, C = len(references), len(labels.landmarks)
    if not N or find_vote(general.vote).voters == "prototypes":
        return Refined(calibration=general)
    known, unknown = ask_references(general, references, labels, background)
    twins = find_twins(general, known, unknown, N, C)
    with_twin = {one for one, _ in twins}
    one_place = [one for one, other in twins if other in with_twin]  # three folders of one place may form a ring
    unknown = replace(unknown, usable=unknown.usable & ~np.isin(unknown.landmarks, one_place))
    if general.rival:
        unknown = replace(unknown, scores=raise_by_left_out(unknown.scores, C))
    asked = None
    if strangers is not None and len(strangers):
        asked = ask_strangers(general, references, labels, background, strangers)
        unknown = join_columns([unknown, asked])
    z, right, weights, landmarks = weigh(general, known, unknown, N, C)
    shifted = general
    if landmarks:
        model_z, model_right, model_weights = (np.array(column) for column in zip(*general.evidence, strict=True))
        own = landmarks / (landmarks + MODEL_WEIGHT)
        shifted = shift_intercept(
            general,
            np.concatenate([z, model_z]),
            np.concatenate([right, model_right]),
            np.concatenate([own * weights, (1 - own) * model_weights / model_weights.sum()]),
        )
    calibration = shifted.model_copy(update={"evidence": (), "references": N})
    if asked is None:
        return Refined(calibration=calibration, twins=twins)
    confidence = calibration.confidence(asked.scores, asked.margins, N, landmarks=C)
    named = np.flatnonzero(asked.usable & (confidence >= calibration.threshold(CERTAIN))).tolist()
    return Refined(calibration=calibration, twins=twins, copies=int((~asked.usable).sum()), named=tuple(named))


def ask_strangers(
    general: Calibration,
    references: SearchEngine,
    labels: Labels | Integers,
    background: Background | None,
    strangers: Embeddings,
) -> SelfAnswers:
    """Ask for strangers (S, D), which show the landmark -1: none. Copies of reference photos are not usable."""
    classifier = KNNClassifier(references, labels, vote=general.vote, background=background)
    ranking = classifier.classify(strangers, k=min(general.k, len(references)), top=2)
    return SelfAnswers(
        landmarks=np.full(len(strangers), -1),
        scores=ranking.scores[:, 0],
        margins=find_margins(ranking.scores),
        candidates=ranking.candidates[:, 0],
        usable=ranking.similarities[:, 0] <= COPY_SIMILARITY,
    )


def weigh(
    general: Calibration, known: SelfAnswers, unknown: SelfAnswers, references: int, competing: int
) -> tuple[Floats, Floats, Floats, int]:
    """Return the evidence (z, right, weights), each (E,), and how many landmarks it comes from; 0 if it is one-sided.

    Both kinds of query keep their share of the weight, however many photos could be asked. ``competing`` is how many
    landmarks the gallery has.
    """
    z, right, weights = [], [], []
    for answers, share in ((known, KNOWN_SHARE), (unknown, 1 - KNOWN_SHARE)):
        combined = general.combine(answers.scores, answers.margins, references, landmarks=competing)
        usable = answers.usable & np.isfinite(combined)
        if not usable.any():
            return np.empty(0), np.empty(0), np.empty(0), 0
        z.append(combined[usable])
        right.append(answers.right[usable].astype(np.float64))
        weights.append(np.full(usable.sum(), share / usable.sum()))
    landmarks = len(np.unique(known.landmarks[known.usable]))
    return np.concatenate(z), np.concatenate(right), np.concatenate(weights), landmarks


def find_twins(
    general: Calibration, known: SelfAnswers, unknown: SelfAnswers, references: int, competing: int
) -> tuple[tuple[int, int], ...]:
    """Return the landmarks whose photos score about as high without their landmark as with it, each with its twin.

    The twin is the landmark that most of these photos are then taken for.
    """
    z_known, z_unknown = (
        general.combine(one.scores, one.margins, references, landmarks=competing) for one in (known, unknown)
    )
    twins = []
    for landmark in np.unique(known.landmarks).tolist():
        without = (unknown.landmarks == landmark) & unknown.usable
        with_it = z_known[(known.landmarks == landmark) & known.usable]
        if len(with_it) and without.any() and (with_it[:, None] > z_unknown[without][None, :]).mean() < SEPARABLE:
            taken_for, counts = np.unique(unknown.candidates[without], return_counts=True)
            twins.append((landmark, int(taken_for[counts.argmax()])))
    return tuple(twins)


def find_twin_landmarks(bundle: Bundle, references: SearchEngine, labels: Labels | Integers) -> list[tuple[int, int]]:
    """Return the pairs of landmarks that look like one place to a model; none if it is not calibrated.

    ``references`` (N, D) are the photos that ``labels`` tells the landmarks of, as it embeds them.
    """
    general = find_model_calibration(bundle)
    if general is None or not len(references) or find_vote(general.vote).voters == "prototypes":
        return []
    labels = as_labels(labels)
    known, unknown = ask_references(general, references, labels, read_background(bundle))
    return find_mutual(find_twins(general, known, unknown, len(references), len(labels.landmarks)))


def find_mutual(twins: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the pairs in which each landmark is the other's twin, once each: these look like one place.

    One that is only taken for another may just have photos that say little.
    """
    return sorted((one, other) for one, other in twins if one < other and (other, one) in twins)


def ask_references(
    general: Calibration,
    references: SearchEngine,
    labels: Labels | Integers,
    background: Background | None,
    *,
    seed: int = 0,
) -> tuple[SelfAnswers, SelfAnswers]:
    """Ask references (at most :data:`MOST_ASKED`) with their copies left out, and with their whole landmark left out.

    Answers are those of the calibrated vote, as a :class:`~obelisk.recognition.Recognizer` gives them from a gallery
    without the left-out photos; in a landmark of hundreds of photos the nearest :data:`LISTED` decide.
    """
    labels = as_labels(labels)
    asked = labels.numbers()
    if len(asked) > MOST_ASKED:
        asked = np.sort(np.random.default_rng(seed).choice(asked, MOST_ASKED, replace=False))
    vote = BundleClassifier(vote=general.vote, k=general.k)
    blended = find_vote(general.vote).voters == "blended"
    prototypes = PrototypeReranker(references, labels) if blended else None
    normalize = BackgroundReranker(references, background).rerank if background else keep_similarities
    parts = [
        ask_some(vote, references, labels, asked[start : start + ASKED_AT_ONCE], prototypes, normalize)
        for start in range(0, len(asked), ASKED_AT_ONCE)
    ]
    known, unknown = zip(*parts, strict=True)
    return join_columns(known), join_columns(unknown)


def keep_similarities(queries: Embeddings, shortlist: Shortlist) -> Shortlist:
    """Return the shortlist as it is: the normalization of a model without a background."""
    return shortlist


def ask_some(
    vote: BundleClassifier,
    references: SearchEngine,
    labels: Labels,
    asked: Integers,
    prototypes: PrototypeReranker | None,
    normalize: Callable[[Embeddings, Shortlist], Shortlist],
) -> tuple[SelfAnswers, SelfAnswers]:
    """Ask the references with the numbers ``asked`` (n,), with either kind of photos left out."""
    queries = references.rows(asked)
    indices, similarities = references.nearest(queries, min(LISTED, len(references)))
    shown = labels.of(asked)
    of_landmark = labels.of(indices) == shown[:, None]
    copies = (similarities > COPY_SIMILARITY) | (indices == asked[:, None])
    blended = blended_known = similarities
    if prototypes:
        fit = prototypes.prototype_similarities(queries, indices)
        own_fit = fit_without_copies(references, labels, queries, shown, indices, copies & of_landmark)
        blended = blend_prototypes(similarities, fit)
        blended_known = blend_prototypes(similarities, np.where(of_landmark, own_fit[:, None], fit))
    known = ask_without(copies, blended_known, indices, queries, normalize)
    unknown = ask_without(copies | of_landmark, blended, indices, queries, normalize)
    return (
        read_answers(vote, known, labels, shown, usable=(of_landmark & ~copies).any(axis=1)),
        read_answers(vote, unknown, labels, shown, usable=(~copies & ~of_landmark).any(axis=1)),
    )


def blend_prototypes(similarities: Embeddings, fit: Embeddings) -> Embeddings:
    """Blend similarities with those to the landmarks' prototypes, as a PrototypeReranker does."""
    return ((similarities + PROTOTYPE_WEIGHT * fit) / (1 + PROTOTYPE_WEIGHT)).astype(np.float32)


def ask_without(
    left_out: Booleans,
    similarities: Embeddings,
    indices: Integers,
    queries: Embeddings,
    normalize: Callable[[Embeddings, Shortlist], Shortlist],
) -> Shortlist:
    """Rerank the listed references (n, M), at row indices (n, M), that are not left out; the others come last.

    ``similarities`` (n, M) are those to the photos, blended with those to the prototypes of their landmarks if the vote
    asks for it.
    """
    remaining = np.where(left_out, -1.0, similarities).astype(np.float32)
    order = np.argsort(np.where(left_out, np.inf, -similarities), axis=1, kind="stable")[:, :RERANKED]
    listed = Shortlist(
        indices=np.take_along_axis(indices, order, axis=1),
        similarities=np.take_along_axis(remaining, order, axis=1),
        bound=np.full(len(indices), -np.inf, dtype=np.float32),
    )
    return normalize(queries, listed)


def read_answers(
    vote: BundleClassifier, shortlist: Shortlist, labels: Labels, shown: Integers, *, usable: Booleans
) -> SelfAnswers:
    """Let the shortlists vote for photos that show the landmarks ``shown`` (n,)."""
    rule = find_vote(vote.vote)
    k = min(vote.k, shortlist.indices.shape[1])
    counts = count_votes(labels.of(shortlist.indices), shortlist.similarities, k=k, exponent=rule.exponent)
    candidates, scores = rank_landmarks(counts, rule.score(counts), queries=len(shown), top=2)
    return SelfAnswers(
        landmarks=shown,
        scores=scores[:, 0],
        margins=find_margins(scores),
        candidates=candidates[:, 0],
        usable=usable,
    )


def fit_without_copies(
    references: SearchEngine,
    labels: Labels,
    queries: Embeddings,
    shown: Integers,
    indices: Integers,
    copies: Booleans,
) -> Embeddings:
    """Return the similarity (n,) of each query to the prototype of its landmark, without the copies (n, M) of itself.

    0 where nothing is left of the landmark.
    """
    landmarks, of_query = np.unique(shown, return_inverse=True)
    photos = labels.photos_of(landmarks)
    rest = np.stack([references.rows(numbers).astype(np.float64).sum(axis=0) for numbers in photos])[of_query]
    query, column = np.nonzero(copies & np.isin(indices, np.concatenate(photos)))
    np.subtract.at(rest, query, references.rows(indices[query, column]).astype(np.float64))
    lengths = np.linalg.norm(rest, axis=1)
    along = np.einsum("nd,nd->n", queries.astype(np.float64), rest)
    return np.where(lengths > SMALLEST_LENGTH, along / np.maximum(lengths, SMALLEST_LENGTH), 0.0).astype(np.float32)
