"""Photos in, answers out: embed → search → rerank → vote → verify → calibrate → answer or reject."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL.Image import Image

from obelisk.arrays import l2_normalize
from obelisk.defaults import PRECISION, TOP
from obelisk.embedding import (
    Bundle,
    BundleClassifier,
    Embedded,
    Embedder,
    LayerLandmarks,
    read_classifier,
    read_layer,
)
from obelisk.errors import GalleryChangedError, ModelError, ObeliskError, PhotoMissingError, UsageError
from obelisk.gallery import Gallery, JoinedGallery, ReferenceFiles, References, open_galleries, refuse_directionless
from obelisk.photos import GivenPhoto, PhotoLike, PhotosLike, UntilError, take_photo, take_photos
from obelisk.positions import Position
from obelisk.recognition.answers import AnswerRules, compose_answers, name_model
from obelisk.recognition.calibration import (
    UNCALIBRATED,
    Calibration,
    check_threshold,
    find_calibration,
    find_foreign_calibration,
)
from obelisk.recognition.decider import Decider, Rank
from obelisk.recognition.joined_calibration import calibrate_joined
from obelisk.recognition.nearness import CameraPositions, Near
from obelisk.recognition.rerank.background import Background, read_background
from obelisk.recognition.rerank.geometry import KeypointCache
from obelisk.recognition.softmax_classifier import describe_layer
from obelisk.recognition.tta import embed_augmented
from obelisk.recognition.votes import find_vote
from obelisk.records import Neighbor, Recognition

if TYPE_CHECKING:
    from obelisk.recognition.explain import SeenPhotos
    from obelisk.recognition.explain.regions import Resemblance

MOST_CHANGES = 5  # of the gallery while the same photos are answered
PHOTOS_AT_ONCE = 16  # searched together: a large gallery is then read from memory once for all of them


class Recognizer:
    """Names the landmark in each photo, among those of a gallery.

    :meth:`open` puts a recognizer together from these parts:

    ================  ==========================================================================================
    ``gallery``       the reference photos and their landmarks
    ``embedder``      the model that made the gallery's embeddings, ready to run
    ``background``    normalizes similarities; None if the model has none
    ``calibration``   turns scores into confidences and thresholds; None if the model has none
    ``classifier``    what decides by default: a vote of k neighbors, or the model's softmax layer
    ``layer``         the landmarks of that softmax layer; None if the model has none
    ``files``         the files of the reference photos, as far as ``verify`` and :meth:`explain` asked for them
    ``keypoints``     what ``verify`` takes keypoints from; None for a new cache whenever the gallery has changed
    ``camera``        the positions of the photos of the last call; None if they were not considered
    ================  ==========================================================================================

    Example::

        import obelisk

        recognizer = obelisk.Recognizer.open("mycity")
        for answer in recognizer.recognize(["photo.jpg"]):
            print(answer.landmark or "not a landmark I know", answer.confidence)
    """

    def __init__(
        self,
        gallery: Gallery | JoinedGallery,
        embedder: Embedder,
        *,
        background: Background | None = None,
        calibration: Calibration | None = None,
        classifier: BundleClassifier | None = None,
        layer: LayerLandmarks | None = None,
    ) -> None:
        self.gallery = gallery
        self.embedder = embedder
        self.background = background
        self.calibration = calibration
        self.classifier = classifier or BundleClassifier()
        self.layer = layer
        self.files = ReferenceFiles()
        self.keypoints: KeypointCache | None = None
        self.camera: CameraPositions | None = None
        self._decider = Decider(background, calibration, self.classifier, layer, self.files)

    def __repr__(self) -> str:
        return f"Recognizer({self.gallery!r})"

    @classmethod
    def open(
        cls,
        gallery: Gallery | JoinedGallery | Path | str | Sequence[Gallery | Path | str] | None = None,
        *,
        model: Bundle | None = None,
        classifier: BundleClassifier | None = None,
        embedder: Embedder | None = None,
    ) -> Recognizer:
        """Open a gallery, by default the bundled one, with its own model; several galleries of one model as one.

        If ``model`` is given, the gallery must have been built with it. ``classifier`` replaces the one that the
        model carries; ``embedder`` is used instead of a new one.

        Raises :class:`~obelisk.errors.GalleryError` if there is no gallery, or if it was built with a model other than
        ``model`` (the message gives the command that rebuilds it), and :class:`~obelisk.errors.ModelError` if the
        gallery's model is damaged.
        """
        if isinstance(gallery, Gallery | Path | str):
            gallery = [gallery]
        opened = gallery if isinstance(gallery, JoinedGallery) else open_galleries(gallery or ())
        if model:
            opened.check_model(model)
        bundle = opened.load_bundle()
        background = read_background(bundle)
        if isinstance(opened, JoinedGallery):
            calibration = calibrate_joined(opened, bundle)
        else:
            calibration = find_calibration(opened, bundle)
        classifier = classifier or find_classifier(bundle)
        layer = read_layer(bundle) if classifier.kind == "softmax" and isinstance(opened, Gallery) else None
        return cls(
            opened,
            embedder or Embedder(bundle, logits=layer is not None),
            background=background,
            calibration=calibration,
            classifier=classifier,
            layer=layer,
        )

    def recognize(
        self,
        photos: PhotosLike,
        *,
        top: int = TOP,
        k: int | None = None,
        vote: str | None = None,
        exponent: float | None = None,
        threshold: float | None = None,
        precision: float = PRECISION,
        verify: bool = False,
        expand: str = "none",
        augment: bool = False,
        near: Near | None = None,
    ) -> Iterator[Recognition]:
        """Name the landmark in each photo; yield one answer per photo, in input order, as soon as it is known.

        ``photos`` is one photo or an iterable of them, mixed as you like: paths, encoded bytes, files open for reading
        (read from their position on), Pillow images of any mode (turned as their Exif says), and uint8 arrays, RGB
        (H, W, 3) or gray (H, W). An answer calls a photo by its path, the name of its file, or ``photo 3`` if it is the
        third one.

        Photos are read as answers are consumed, so ``photos`` may be endless. If a photo can't be read, its answer
        carries the error instead; if a JPEG was cut off, its answer rests on what is left, and carries a warning.

        ==============  ==============================================================================================
        ``top``         number of candidates in an answer, at least 1
        ``k``           number of nearest reference photos that vote; by default what the model's classifier says, or
                        all photos of a smaller gallery
        ``vote``        how they vote: a name in :data:`~obelisk.recognition.votes.VOTES`; by default what the model's
                        classifier says. If that is a softmax layer that knows every landmark of the gallery, the layer
                        decides (:mod:`obelisk.recognition.softmax_classifier`)
        ``exponent``    p of the vote (:mod:`obelisk.recognition.votes`); each vote has its own default
        ``threshold``   confidence in [0, 1] below which an answer is rejected, that is, names no landmark
        ``precision``   share of the given answers that should be right; sets the threshold if none is given (see
                        :meth:`threshold`)
        ``verify``      compare the geometry of the query and of its first candidates' reference photos, if their
                        files still exist: evidence for the confidence (:mod:`obelisk.recognition.rerank.geometry`)
        ``expand``      ``none``, ``query`` or ``references``: which embeddings to average with their neighbors
                        (:mod:`obelisk.recognition.rerank.query_expansion`)
        ``augment``     also embed the mirror image and the middle of each photo (:mod:`obelisk.recognition.tta`)
        ``near``        where the photos were taken, evidence for the landmarks nearby: ``exif`` (as their Exif says),
                        ``none``, a latitude and a longitude in degrees for all of them, or an iterable of one for each,
                        None where it is not known (:mod:`obelisk.recognition.nearness`); by default ``exif`` if the
                        confidence is calibrated, else ``none``
        ==============  ==============================================================================================

        The options are checked right away, before any photo is read. Raises :class:`~obelisk.errors.UsageError` for
        unusable values, :class:`~obelisk.errors.GalleryError` for a ``k`` above the number of reference photos, and
        :class:`~obelisk.errors.MissingExtraError` for ``verify`` without OpenCV. An item that is no photo, such as None
        or a list, raises :class:`~obelisk.errors.UsageError` after the answers for the photos before it.
        """
        check_threshold(threshold)
        thresholds = [threshold] * 2
        if threshold is None:
            thresholds = [self.threshold(precision, vote=vote, verified=verified) for verified in (False, True)]
        calibrated = self.is_calibrated(vote=vote)
        self.camera = CameraPositions.read(("exif" if calibrated else "none") if near is None else near)

        def prepare() -> tuple[References, Rank]:
            references = self.gallery.references()
            rank = self._decider.make_rank(
                references, top=top, k=k, vote=vote, exponent=exponent, expand=expand, verify=verify
            )
            return references, rank

        prepared = prepare()
        rules = AnswerRules(
            model=name_model(self.gallery.model, self.gallery.fingerprint),
            threshold=thresholds[0],
            verified_threshold=thresholds[1],
            calibrated=calibrated,
        )
        camera = self.camera
        return self._answer(take_photos(photos), prepared, prepare, rules, camera, augment=augment, verify=verify)

    def is_calibrated(self, *, vote: str | None = None) -> bool:
        """Return whether confidences are probabilities: if the gallery or its model is calibrated for this vote."""
        return self._decider.find_calibration(self.gallery.references(), vote) is not None

    def threshold(
        self, precision: float = PRECISION, *, vote: str | None = None, verified: bool = False
    ) -> float | None:
        """Return the confidence below which answers must be rejected so that this share of the others is right.

        ``verified`` asks for that of answers whose geometry was verified, which is lower. None, which rejects nothing,
        if neither the gallery nor its model is calibrated, or if anything but the default vote decides. Raises
        :class:`~obelisk.errors.UsageError` for a precision outside (0, 1).
        """
        calibration = self._decider.find_calibration(self.gallery.references(), vote)
        return calibration.threshold(precision, verified=verified) if calibration else None

    def find_remark(self) -> str | None:
        """Return what people should know about all answers, None if there is nothing.

        That is why the model's softmax layer can't answer for the gallery, that its calibration file is for another
        model, and that nothing is calibrated.
        """
        foreign = None if isinstance(self.gallery, JoinedGallery) else find_foreign_calibration(self.gallery)
        uncalibrated = UNCALIBRATED if self.calibration is None else None
        return "; ".join(filter(None, (self._find_layer_remark(), foreign, uncalibrated))) or None

    def _find_layer_remark(self) -> str | None:
        if self.classifier.kind != "softmax":
            return None
        if isinstance(self.gallery, JoinedGallery):
            return "the model's softmax layer can't answer for joined galleries, so the nearest reference photos decide"
        return describe_layer(self.layer, self.gallery.references())

    def explain(self, answer: Recognition, photo: PhotoLike | None = None) -> Image:
        """Draw what an answer of this recognizer rests on; ``photo`` is needed if it was not given as a path.

        The picture shows the photo beside its nearest reference photos. If the model gives feature maps, it also shows
        which regions of the photo match which regions of the best reference. References whose files are gone are drawn
        without a photo.

        Raises :class:`~obelisk.errors.PhotoError` if no photo is given, and none is at ``answer.photo``.
        """
        from obelisk.recognition.explain import explain_answer

        given = take_photo(Path(answer.photo) if photo is None else photo, answer.photo)
        try:
            return explain_answer(answer, given, self.gallery, self.embedder.bundle.input, self._seen_photos)
        except PhotoMissingError as error:
            fix = error.fix or ("" if photo is not None else "give the photo again: `explain(answer, photo)`")
            raise PhotoMissingError(error.what, where=error.where, fix=fix) from error

    def find_resemblance(
        self, answer: Recognition, photo: PhotoLike | GivenPhoto
    ) -> tuple[Neighbor, Resemblance] | None:
        """Find the regions that :meth:`explain` outlines: in a photo, and in its best reference photo.

        None if the file of that reference is not at hand, or if the model gives no feature maps. Raises
        :class:`~obelisk.errors.PhotoError` if the photo can't be read.
        """
        from obelisk.recognition.explain import find_resemblance

        return find_resemblance(answer, take_photo(photo, answer.photo), self.gallery, self._seen_photos)

    def prepare_explanations(self) -> None:
        """Keep what is known of each photo from now on until :meth:`explain` asks for it, which then takes less time.

        Every answer has to be explained: photos of answers that are not stay in memory.
        """
        self._seen_photos.watch()

    @cached_property
    def _seen_photos(self) -> SeenPhotos:
        from obelisk.recognition.explain import SeenPhotos

        return SeenPhotos(self.embedder, self.files)

    def _answer(
        self,
        photos: Iterator[GivenPhoto],
        prepared: tuple[References, Rank],
        prepare: Callable[[], tuple[References, Rank]],
        rules: AnswerRules,
        camera: CameraPositions | None,
        *,
        augment: bool,
        verify: bool,
    ) -> Iterator[Recognition]:
        """Embed photos, rank a few at a time, and yield their answers.

        What is not held of a large gallery may change while it is searched: then its present state answers.
        """
        stream = UntilError(photos)
        ahead: deque[GivenPhoto] = deque()

        def remember() -> Iterator[GivenPhoto]:
            for photo in stream:
                ahead.append(photo if verify else photo.without_content())  # only verification looks at it again
                yield photo

        located = camera is not None and camera.given is None
        embedded = refuse_directionless(self._embed(remember(), augment=augment, located=located))
        pairs = ((ahead.popleft(), found) for found in embedded)
        while batch := list(islice(pairs, PHOTOS_AT_ONCE)):
            positions = [camera.take(found, photo.name) if camera else None for photo, found in batch]
            usable = [pair for pair in zip(batch, positions, strict=True) if pair[0][1].embedding is not None]
            for changes in count():
                try:
                    answers = iter(self._answer_some(usable, *prepared, rules))
                    break
                except GalleryChangedError:
                    if changes == MOST_CHANGES:
                        raise
                    prepared = prepare()
            for photo, found in batch:
                if found.error:
                    error = str(found.error)
                    yield Recognition.failed(photo.name, error, threshold=rules.threshold, model=rules.model)
                else:
                    yield replace(next(answers), warning=found.warning)
        if stream.error:
            raise stream.error

    def _answer_some(
        self,
        usable: Sequence[tuple[tuple[GivenPhoto, Embedded], Position | None]],
        references: References,
        rank: Rank,
        rules: AnswerRules,
    ) -> list[Recognition]:
        """Return the answers for embedded photos, each with where it was taken."""
        photos, found = [photo for (photo, _), _ in usable], [embedded for (_, embedded), _ in usable]
        nearness = self._decider.locate([position for _, position in usable], references)
        rows = np.array([one.embedding for one in found], dtype=np.float32)
        dimensions = self.gallery.dimensions
        queries = l2_normalize(rows.reshape(-1, dimensions), dimensions=dimensions)
        ranking = rank(queries, found, photos, nearness)
        answers = compose_answers([photo.name for photo in photos], ranking, references, rules, nearness)
        references.refuse_edited()
        return answers

    def _embed(self, photos: Iterator[GivenPhoto], *, augment: bool, located: bool) -> Iterator[Embedded]:
        if augment:
            return embed_augmented(self.embedder, photos, located=located)
        plain = (photo.source if isinstance(photo.source, Path) else photo for photo in photos)
        options = {"located": True} if located else {}
        return self.embedder.embed(plain, hashed=False, cut_off=True, **options)


def find_classifier(bundle: Bundle) -> BundleClassifier:
    """Return the classifier that a bundle carries, or the default one; raise ModelError for an unknown vote."""
    found = read_classifier(bundle) or BundleClassifier()
    try:
        find_vote(found.vote)
    except UsageError as error:
        raise ModelError(error.what, where=bundle.folder, fix="upgrade obelisk, or export the bundle again") from None
    return found


def check_recognition(path: Path | str) -> list[str]:
    """Check what recognition needs from a gallery, beyond sound tables and a sound model.

    Returns one sentence per problem, or an empty list.
    """
    try:
        Recognizer.open(path)
    except ObeliskError as error:
        return [str(error)]
    return []
