"""Verification: views of one thing agree in their geometry, others do not; nothing to see is no evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageDraw

from obelisk.embedding import Bundle, Embedded
from obelisk.errors import MissingExtraError
from obelisk.gallery import Gallery, ReferenceFiles, ReferencePhoto
from obelisk.photos import GivenPhoto
from obelisk.recognition import Calibration, Ranking, Recognizer
from obelisk.recognition.calibration import MARGIN_CAP
from obelisk.recognition.rerank.geometry import (
    BY_ACCIDENT,
    ENOUGH,
    FEW,
    MOST_KEYPOINTS,
    NO_KEYPOINTS,
    RATIO,
    GeometricVerifier,
    KeypointCache,
    Keypoints,
    count_inliers,
    find_keypoints,
    make_inlier_counter,
    match_descriptors,
    most_inliers,
    raise_scores,
    rank_verified,
    root_sift,
)

cv2 = pytest.importorskip("cv2", reason="the extra `verify` is not installed")

QUADS = {
    "as it is": (0, 0, 0, 300, 300, 300, 300, 0),
    "from the left": (0, 30, 0, 270, 300, 300, 300, 0),
    "from below": (40, 0, 0, 300, 300, 300, 260, 0),
    "from nearer": (60, 60, 60, 240, 240, 240, 240, 60),
}


def paint(seed: int) -> Image.Image:
    """A wall of colored boxes and discs, another for each seed."""
    rng = np.random.default_rng(seed)
    wall = Image.new("RGB", (300, 300), tuple(rng.integers(60, 200, 3).tolist()))
    canvas = ImageDraw.Draw(wall)
    for number in range(120):
        x, y, width, height = (*rng.integers(0, 290, 2).tolist(), *rng.integers(6, 40, 2).tolist())
        draw = canvas.ellipse if number % 2 else canvas.rectangle
        draw((x, y, x + width, y + height), fill=tuple(rng.integers(0, 255, 3).tolist()))
    return wall


def stamp(wall: Image.Image) -> Image.Image:
    """A photo with a watermark, which is the same on every photo."""
    canvas = ImageDraw.Draw(wall)
    canvas.rectangle((140, 260, 290, 290), fill="black")
    canvas.text((145, 262), "14 KQZ 2009", fill="white", font_size=22)
    return wall


def encode(image: Image.Image, kind: str = "PNG") -> bytes:
    written = BytesIO()
    image.save(written, kind)
    return written.getvalue()


@pytest.mark.parametrize("quad", QUADS.values(), ids=QUADS)
def test_another_view_of_a_wall_has_many_inliers(quad: tuple[int, ...]) -> None:
    view = paint(1).transform((300, 300), Image.Transform.QUAD, quad, Image.Resampling.BICUBIC)
    wall, seen = find_keypoints(encode(paint(1))), find_keypoints(encode(view, "JPEG"))
    assert count_inliers(seen, wall) >= ENOUGH
    assert count_inliers(seen, wall) == count_inliers(seen, wall), "the same each time"


def test_another_wall_has_few_inliers() -> None:
    keypoints = [find_keypoints(encode(paint(seed))) for seed in range(6)]
    counts = [count_inliers(keypoints[0], other) for other in keypoints[1:]]
    assert max(counts) < 12


def test_a_watermark_is_no_evidence_but_a_copy_of_the_photo_is() -> None:
    one, other = (find_keypoints(encode(stamp(paint(seed)))) for seed in (1, 2))
    pairs = match_descriptors(one.descriptors, other.descriptors)
    moved = np.abs(one.positions[pairs[:, 0]] - other.positions[pairs[:, 1]]).max(axis=1)
    assert (moved < 1).sum() > BY_ACCIDENT
    assert count_inliers(one, other) <= BY_ACCIDENT
    assert count_inliers(one, find_keypoints(encode(stamp(paint(1)), "JPEG"))) >= ENOUGH


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(Image.new("RGB", (200, 200), "white"), id="nothing to see"),
        pytest.param(Image.new("RGB", (1, 1)), id="one pixel"),
        pytest.param(paint(1).resize((3000, 2)), id="a strip"),
        pytest.param(paint(1).resize((2, 3000)), id="an upright strip"),
        pytest.param(paint(1).resize((17, 17)), id="very small"),
        pytest.param(Image.linear_gradient("L"), id="a gradient"),
    ],
)
def test_featureless_photos_are_no_evidence_and_no_crash(image: Image.Image) -> None:
    keypoints = find_keypoints(encode(image))
    assert len(keypoints.positions) == len(keypoints.descriptors)
    wall = find_keypoints(encode(paint(1)))
    assert count_inliers(keypoints, wall) < 8
    assert count_inliers(wall, keypoints) < 8
    assert count_inliers(keypoints, keypoints) >= 0


def test_large_photos_are_bounded() -> None:
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 255, (2000, 3000, 3), dtype=np.uint8))
    keypoints = find_keypoints(encode(noise, "JPEG"))
    assert len(keypoints.positions) <= MOST_KEYPOINTS
    assert keypoints.positions.max(initial=0) <= 320


def test_photos_that_cannot_be_read_have_no_keypoints(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_text("no photo")
    for path in (tmp_path / "bad.jpg", tmp_path / "gone.jpg", tmp_path):
        assert len(find_keypoints(path).positions) == 0


def test_points_on_one_line_are_no_evidence() -> None:
    positions = np.stack([np.arange(40), np.full(40, 7)], axis=1).astype(np.float32)
    descriptors = np.random.default_rng(0).integers(0, 255, (40, 128), dtype=np.uint8)
    line = Keypoints(positions=positions, descriptors=descriptors)
    assert 0 <= count_inliers(line, line) <= 40


def test_matches_are_those_of_opencv() -> None:
    rng = np.random.default_rng(0)
    query = rng.integers(0, 255, (90, 128), dtype=np.uint8)
    reference = np.concatenate([np.clip(query[:40] + rng.integers(-20, 20, (40, 128)), 0, 255), query[:5]])
    reference = reference.astype(np.uint8)
    matcher = cv2.BFMatcher(cv2.NORM_L2)
    forth = matcher.knnMatch(root_sift(query), root_sift(reference), k=2)
    back = {
        match[0].queryIdx: match[0].trainIdx for match in matcher.knnMatch(root_sift(reference), root_sift(query), k=1)
    }
    expected = [
        [first.queryIdx, first.trainIdx]
        for first, second in forth
        if first.distance < RATIO * second.distance and back[first.trainIdx] == first.queryIdx
    ]
    assert match_descriptors(query, reference).tolist() == expected


@pytest.mark.parametrize(("n", "m"), [(0, 5), (5, 0), (0, 0), (1, 1), (1, 2), (2, 1)])
def test_few_descriptors_match_little(n: int, m: int) -> None:
    rng = np.random.default_rng(0)
    pairs = match_descriptors(
        rng.integers(0, 255, (n, 128), dtype=np.uint8), rng.integers(0, 255, (m, 128), dtype=np.uint8)
    )
    assert pairs.shape[1] == 2
    assert len(pairs) <= min(n, m)


@given(
    scores=arrays.arrays(np.float64, (3, 4), elements=st.floats(0, 1)),
    inliers=arrays.arrays(np.int64, (3, 4), elements=st.integers(0, 1000)),
)
def test_evidence_raises_scores_within_their_range(scores: np.ndarray, inliers: np.ndarray) -> None:
    raised = raise_scores(scores, inliers)
    assert (raised >= scores - 1e-12).all()
    assert (raised <= 1.0).all()
    np.testing.assert_allclose(raise_scores(scores, np.minimum(inliers, BY_ACCIDENT)), scores, atol=1e-12)
    order = np.argsort(inliers, axis=None)
    same = raise_scores(np.full(12, 0.4), inliers.ravel()[order])
    assert (np.diff(same) >= 0).all()


def test_the_best_photo_of_a_landmark_is_its_evidence() -> None:
    keypoints = [find_keypoints(encode(paint(seed))) for seed in range(3)]
    wall = keypoints[0]
    assert most_inliers(wall, [keypoints[1], None, wall]) == ENOUGH
    assert FEW <= most_inliers(wall, keypoints[1:]) < 12
    assert most_inliers(wall, [NO_KEYPOINTS]) == FEW
    assert np.isnan(most_inliers(wall, [None, None])), "no file, no evidence"
    assert np.isnan(most_inliers(wall, []))


def test_nothing_is_compared_once_there_is_enough() -> None:
    wall = find_keypoints(encode(paint(1)))

    def read() -> Iterator[Keypoints]:
        yield wall
        raise AssertionError("a photo too many")

    assert most_inliers(wall, read()) == ENOUGH


def test_a_calibration_takes_the_photos_whose_inliers_tell_something(monkeypatch: pytest.MonkeyPatch) -> None:
    view = paint(1).transform((300, 300), Image.Transform.QUAD, QUADS["from below"], Image.Resampling.BICUBIC)
    files = [encode(paint(1)), encode(view, "JPEG"), encode(paint(2)), encode(Image.new("RGB", (200, 200), "white"))]
    monkeypatch.setattr("obelisk.recognition.rerank.geometry.TELLING", len(find_keypoints(files[0]).positions))
    count = make_inlier_counter(files)
    assert count is not None
    assert count(0, np.array([2, 1])) == ENOUGH
    assert count(0, np.array([3])) == FEW
    assert np.isnan(count(3, np.array([0]))), "a photo without keypoints has no inliers with the right landmark, either"


def ranking_of(candidates: list[int], scores: list[float]) -> Ranking:
    return Ranking(
        candidates=np.array([candidates]),
        scores=np.array([scores]),
        confidence=np.array([scores[0]]),
        neighbors=np.array([[0]]),
        similarities=np.array([[0.5]], dtype=np.float32),
    )


def test_geometry_brings_a_candidate_to_the_front() -> None:
    verified = rank_verified(ranking_of([7, 8, 9], [0.6, 0.5, 0.4]), np.array([[6.0, 20.0, np.nan]]))
    assert verified.ranking.candidates.tolist() == [[8, 7, 9]]
    assert verified.ranking.scores == pytest.approx(np.array([[0.95, 0.6, 0.4]]))
    assert verified.ranking.neighbors.tolist() == [[0]]
    assert verified.inliers.tolist() == [20.0]
    assert verified.scores.tolist() == [0.5], "what the calibration knows is the score of the embedding"
    assert verified.margins == pytest.approx([np.log(0.5 / 0.6)]), "and it was behind"


def test_inliers_by_accident_and_missing_files_leave_the_order() -> None:
    ranking = ranking_of([7, 8, 9], [0.6, 0.59, 0.4])
    for inliers in ([FEW, BY_ACCIDENT, np.nan], [np.nan] * 3):
        verified = rank_verified(ranking, np.array([inliers], dtype=float))
        assert verified.ranking.candidates.tolist() == [[7, 8, 9]]
        assert verified.ranking.scores.tolist() == ranking.scores.tolist()
        assert verified.margins == pytest.approx([np.log(0.6 / 0.59)])
        assert verified.inliers[0] == FEW or np.isnan(inliers[0])
    alone = rank_verified(ranking_of([7], [0.6]), np.array([[9.0]]))
    assert alone.margins.tolist() == [MARGIN_CAP]


@pytest.fixture
def walls(tmp_path: Path, write_any_bundle: Callable[..., Bundle]) -> Gallery:
    """Two walls whose embeddings say nothing, and one whose file is gone."""
    gallery = Gallery.create(tmp_path / "walls", write_any_bundle(tmp_path / "bundle", dimensions=2))
    for seed in (1, 2):
        paint(seed).save(tmp_path / f"{seed}.png")
    photos = [ReferencePhoto(id=f"{seed}", source=str(tmp_path / f"{seed}.png")) for seed in (1, 2, 3)]
    gallery.add(np.ones((3, 2)), ["one", "two", "three"], photos)
    return gallery


def test_geometry_decides_where_embeddings_do_not(walls: Gallery, tmp_path: Path) -> None:
    references = walls.references()
    ids = references.landmark_ids.tolist()
    view = paint(2).transform((300, 300), Image.Transform.QUAD, QUADS["from below"], Image.Resampling.BICUBIC)
    view.save(tmp_path / "query.jpg")
    query = np.full((1, 2), 0.5**0.5, dtype=np.float32)
    files = ReferenceFiles()
    verifier = GeometricVerifier(references, KeypointCache(files))
    verified = verifier.verify(ranking_of(ids, [0.6, 0.5, 0.5]), query, [tmp_path / "query.jpg"])
    assert verified.ranking.candidates.tolist() == [[ids[1], ids[0], ids[2]]]
    assert verified.ranking.scores[0, 0] == pytest.approx(0.95)
    assert verified.inliers.tolist() == [ENOUGH]
    assert (files.asked, files.at_hand) == (2, 2)
    gone = verifier.verify(ranking_of(ids[::-1], [0.6, 0.5, 0.5]), query, [tmp_path / "query.jpg"])
    assert gone.ranking.candidates[0, 0] == ids[1], "the second candidate has a file, the first has none"
    alone = verifier.verify(ranking_of(ids[2:], [0.6]), query, [tmp_path / "query.jpg"])
    assert np.isnan(alone.inliers).all()
    assert (files.asked, files.at_hand) == (3, 2), "each file is read once"


def test_queries_that_are_asked_again_keep_their_keypoints(tmp_path: Path) -> None:
    paths = [tmp_path / "1.png", tmp_path / "2.png"]
    for seed, path in enumerate(paths, start=1):
        paint(seed).save(path)
    once, kept = KeypointCache(ReferenceFiles()), KeypointCache(ReferenceFiles(), queries=1)
    for cache in (once, kept):
        found = cache.find_of_query(paths[0])
        assert (cache.find_of_query(paths[0]) is found) == (cache is kept)
    assert kept.find_of_query(GivenPhoto(name="1", source=paths[0])) is found
    assert kept.find_of_query(paths[0].read_bytes()) is not found
    kept.find_of_query(paths[1])
    assert kept.find_of_query(paths[0]) is not found, "no more than one is kept"


def test_no_query_is_no_work(walls: Gallery) -> None:
    none = Ranking(
        candidates=np.empty((0, 3), np.int64),
        scores=np.empty((0, 3)),
        confidence=np.empty(0),
        neighbors=np.empty((0, 1), np.int64),
        similarities=np.empty((0, 1), np.float32),
    )
    verifier = GeometricVerifier(walls.references(), KeypointCache(ReferenceFiles()))
    verified = verifier.verify(none, np.empty((0, 2), np.float32), [])
    assert verified.ranking.candidates.shape == (0, 3)
    assert verified.inliers.shape == (0,)


def test_without_opencv_the_extra_is_named(walls: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[verify\]"):
        GeometricVerifier(walls.references(), KeypointCache(ReferenceFiles()))


class ConstantEmbedder:
    """Sees the same in every photo."""

    def embed(self, sources: Iterable[Path], **options: bool) -> Iterator[Embedded]:
        for path in sources:
            yield Embedded(path=path, content_hash="", embedding=np.full(2, 0.5**0.5, dtype=np.float32))


def test_verified_answers_have_the_confidence_and_threshold_of_their_evidence(walls: Gallery, tmp_path: Path) -> None:
    calibration = Calibration(
        slope=9.0,
        center=0.2,
        growth=0.0,
        margin=1.0,
        inliers=2.0,
        verified=-4.0,
        precisions=((0.5, 0.97),),
        verified_precisions=((0.4, 0.97),),
    )
    paint(2).save(tmp_path / "query.png")
    photo = tmp_path / "query.png"
    recognizer = Recognizer(walls, ConstantEmbedder(), calibration=calibration)
    (plain,) = recognizer.recognize([photo])
    (verified,) = recognizer.recognize([photo], verify=True)
    assert plain.threshold == 0.5
    assert (verified.threshold, verified.landmark) == (0.4, "two")
    score = plain.candidates[0].score
    assert verified.candidates[0].score == pytest.approx(score + (1 - score) * 0.9)
    gained = np.log(verified.confidence / (1 - verified.confidence)) - np.log(plain.confidence / (1 - plain.confidence))
    assert gained == pytest.approx(2 * np.log(1 + ENOUGH) - 4)
    (fixed,) = recognizer.recognize([photo], verify=True, threshold=0.99)
    assert fixed.threshold == 0.99
    (tmp_path / "1.png").unlink()
    (tmp_path / "2.png").unlink()
    again = Recognizer(walls, ConstantEmbedder(), calibration=calibration)
    assert list(again.recognize([photo], verify=True)) == [plain], "no file, no evidence"
