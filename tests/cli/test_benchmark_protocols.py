"""The field's benchmarks, run from the command line on stand-ins in their own formats."""

from __future__ import annotations

import csv
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from obelisk.arrays import Integers
from obelisk.data import read_catalog
from obelisk.data.formats.revisited import read_revisited
from obelisk.embedding import Embedder
from obelisk.errors import DataError, UsageError
from obelisk.evaluation import Retrieval, Run, evaluate_revisited, gap, read_predictions, retrieval_map
from obelisk.evaluation.part_search import PartedRows
from obelisk.evaluation.revisited_protocol import DIFFICULTIES
from obelisk.gallery import as_stored

Command = Callable[..., tuple[int, str, str]]
LABELS = ("easy", "hard", "junk")


MakeBenchmark = Callable[..., Path]


@pytest.fixture
def make_benchmark(tiny_dataset: Path, tmp_path: Path) -> MakeBenchmark:
    """A benchmark of made-up landmarks in the format of the real one; ``change`` may spoil the ground truth."""

    def make(change: Callable[[dict[str, Any]], object] = lambda truth: None, name: str = "roxford5k") -> Path:
        folder = tmp_path / "benchmark"
        (folder / "jpg").mkdir(parents=True)
        catalog = read_catalog(tiny_dataset)
        truth: dict[str, Any] = {"imlist": [], "qimlist": [], "gnd": []}
        landmarks = catalog.references["landmark_id"].to_list()
        photos = catalog.locate_photos(catalog.references)
        for number, photo in enumerate(photos):
            truth["imlist"].append(f"place_{number:06}")
            Image.open(photo).save(folder / "jpg" / f"place_{number:06}.jpg")
        queries = catalog.select_known_queries()
        shown = queries["landmark_ids"].list.first().to_list()
        for number, (photo, landmark) in enumerate(zip(catalog.locate_photos(queries), shown, strict=True)):
            truth["qimlist"].append(f"query_{number:06}")
            Image.open(photo).save(folder / "jpg" / f"query_{number:06}.jpg")
            own = [index for index, one in enumerate(landmarks) if one == landmark]
            entry = {"bbx": [4.0, 4.0, 60.5, 60.5], "easy": own[:2], "hard": np.array(own[2:4]), "junk": own[4:5]}
            truth["gnd"].append(entry)
        change(truth)
        (folder / f"gnd_{name}.pkl").write_bytes(pickle.dumps(truth, protocol=2))
        return folder

    return make


def test_ranks_crops_among_all_photos(
    make_benchmark: MakeBenchmark, tiny_run: Run, obelisk: Command, tmp_path: Path
) -> None:
    folder = make_benchmark()
    dataset = read_revisited(folder, "roxford5k")
    assert "can't be compared" in dataset.notes[0]
    result = evaluate_revisited(tiny_run.bundle, dataset)
    # The same, from scratch.
    embedder = Embedder(tiny_run.bundle)
    rows = as_stored(
        np.stack([photo.embedding for photo in embedder.embed(dataset.photos) if photo.embedding is not None])
    )
    for number, query in enumerate(dataset.queries):
        with Image.open(query.path) as photo:
            crop = photo.convert("RGB").crop((4, 4, 60, 60))
        (embedded,) = embedder.embed(crop)
        assert embedded.embedding is not None
        unit = embedded.embedding / np.linalg.norm(embedded.embedding)
        ranking = np.argsort(-(rows.astype(np.float64) @ unit), kind="stable").tolist()
        for difficulty, (wanted, passed) in DIFFICULTIES.items():
            positive, junk = (np.concatenate([getattr(query, label) for label in part]) for part in (wanted, passed))
            left = [photo for photo in ranking if photo not in junk]
            places = np.flatnonzero(np.isin(left, positive))
            hits = np.arange(len(places))
            before = [hit / place if place else 1.0 for hit, place in zip(hits, places, strict=True)]
            average = np.mean((before + (hits + 1) / (places + 1)) / 2)
            assert result.per_query[difficulty][number][0] == pytest.approx(average)
    out = tmp_path / "out"
    code, printed, said = obelisk(
        "evaluate", tiny_run.folder, "--data", folder, "--protocol", "roxford5k", "--json", "--out", out
    )
    assert code == 0, said
    fields = json.loads(printed)
    assert fields["medium"]["map"] == pytest.approx(result.figures["medium"]["map"])
    assert fields["photos"] == 60
    assert fields["hard"]["queries"] == 18
    low, high = fields["easy"]["intervals"]["mp5"]
    assert low <= fields["easy"]["mp5"] <= high
    table = pl.read_parquet(out / "roxford5k.parquet")
    assert table.filter(difficulty="medium")["map"].mean() == pytest.approx(fields["medium"]["map"])
    assert json.loads((out / "roxford5k.json").read_text()) == fields


def test_distractors_follow_the_database_and_options_change_the_ranking(
    make_benchmark: MakeBenchmark, tiny_run: Run
) -> None:
    dataset = read_revisited(make_benchmark(), "roxford5k")
    plain = evaluate_revisited(tiny_run.bundle, dataset)
    # Distractors far from all queries change nothing; copies of what is found push it down.
    near = np.stack(
        [one.embedding for one in Embedder(tiny_run.bundle).embed(dataset.photos) if one.embedding is not None]
    )
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    pushed = evaluate_revisited(tiny_run.bundle, dataset, distractors=PartedRows.of_array(np.repeat(near, 3, axis=0)))
    far = evaluate_revisited(tiny_run.bundle, dataset, distractors=PartedRows.of_array(-near[:5]))
    assert pushed.distractors == 180
    assert far.figures == plain.figures
    assert pushed.figures["medium"]["map"] < plain.figures["medium"]["map"]
    for expand in ("query", "references"):
        other = evaluate_revisited(tiny_run.bundle, dataset, how=Retrieval(expand=expand))
        assert other.figures["medium"]["map"] != plain.figures["medium"]["map"]
    assert evaluate_revisited(tiny_run.bundle, dataset, how=Retrieval(verify=True)).how.verify
    with pytest.raises(UsageError, match="augmented"):
        evaluate_revisited(
            tiny_run.bundle, dataset, how=Retrieval(expand="references"), distractors=PartedRows.of_array(near)
        )


def test_distractors_come_from_embedded_shards(
    make_benchmark: MakeBenchmark, tiny_dataset: Path, tiny_run: Run, obelisk: Command, tmp_path: Path
) -> None:
    out = tmp_path / "embedded"
    code, _, said = obelisk("embed", tiny_dataset, "--out", out, "--model", tiny_run.folder)
    assert code == 0, said
    command = ("evaluate", tiny_run.folder, "--data", make_benchmark(), "--protocol", "roxford5k", "--json")
    _, plain, _ = obelisk(*command)
    code, printed, said = obelisk(*command, "--distractors", out)
    assert code == 0, said
    assert json.loads(printed)["distractors"] == 60
    assert json.loads(printed)["hard"]["map"] < json.loads(plain)["hard"]["map"]
    next((out / "parts").glob("*.parquet")).unlink()
    code, _, said = obelisk(*command, "--distractors", out)
    assert code == 2
    assert "incomplete" in said


def set_box(box: object) -> Callable[[dict[str, Any]], object]:
    return lambda truth: truth["gnd"][3].update(bbx=box)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(set_box([4, 4, 90, 60]), "lies outside its photo of 64 × 64 pixels", id="box outside"),
        pytest.param(set_box([40, 4, 20, 60]), "is empty", id="box of no width"),
        pytest.param(set_box([4, 4, 60]), "no box of four numbers", id="three numbers"),
        pytest.param(
            lambda truth: truth["gnd"][0].update(easy=[60]), "number 60, but the photos are 0 to 59", id="number"
        ),
        pytest.param(lambda truth: truth["gnd"][0].update(easy=[1], junk=[1]), "stands twice", id="two labels"),
        pytest.param(lambda truth: truth["gnd"].pop(), "17 entries in `gnd` for 18 queries", id="entries"),
        pytest.param(lambda truth: truth.pop("imlist"), "no list of names in `imlist`", id="no list"),
        pytest.param(lambda truth: truth["imlist"].append("../../etc/passwd"), "is no name of a file", id="path"),
        pytest.param(
            lambda truth: truth["imlist"].extend(f"gone{n}" for n in range(60)), "60 of the 138 photos", id="half"
        ),
        pytest.param(lambda truth: truth.update(gnd=print), "it wants to call", id="calls a function"),
    ],
)
def test_unusable_ground_truth(
    make_benchmark: MakeBenchmark, tiny_run: Run, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    folder = make_benchmark(change)
    with pytest.raises(DataError, match=said):
        evaluate_revisited(tiny_run.bundle, read_revisited(folder, "roxford5k"))


def test_a_ground_truth_of_the_other_benchmark(make_benchmark: MakeBenchmark, obelisk: Command, tiny_run: Run) -> None:
    folder = make_benchmark(name="rparis6k")
    code, _, said = obelisk("evaluate", tiny_run.folder, "--data", folder, "--protocol", "roxford5k")
    assert code == 2
    assert "rparis6k, not roxford5k" in said
    (folder / "gnd_rparis6k.pkl").unlink()
    code, _, said = obelisk("evaluate", tiny_run.folder, "--data", folder, "--protocol", "roxford5k")
    assert code == 2
    assert "`gnd_roxford5k.pkl` is missing" in said


def test_a_matlab_file_counts_from_one(make_benchmark: MakeBenchmark) -> None:
    scipy_io = pytest.importorskip("scipy.io", reason="SciPy reads MATLAB files")
    folder = make_benchmark()
    truth = pickle.loads((folder / "gnd_roxford5k.pkl").read_bytes())
    expected = read_revisited(folder, "roxford5k")
    entries = np.empty(len(truth["gnd"]), dtype=[(key, object) for key in ("bbx", *LABELS)])
    for row, entry in zip(range(len(entries)), truth["gnd"], strict=True):
        entries[row] = (entry["bbx"], *(np.array(entry[label]) + 1 for label in LABELS))
    names = {key: np.array(truth[key], dtype=object) for key in ("imlist", "qimlist")}
    scipy_io.savemat(folder / "gnd_roxford5k.mat", names | {"gnd": entries})
    (folder / "gnd_roxford5k.pkl").unlink()
    found = read_revisited(folder, "roxford5k")
    assert found.photos == expected.photos
    for query, other in zip(found.queries, expected.queries, strict=True):
        assert query.box == other.box
        numbers: list[Integers] = [query.easy, query.hard, query.junk]
        for mine, theirs in zip(numbers, [other.easy, other.hard, other.junk], strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_damaged_pickles_are_refused(make_benchmark: MakeBenchmark) -> None:
    folder = make_benchmark()
    path = folder / "gnd_roxford5k.pkl"
    sound = path.read_bytes()
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(60):
        data = bytearray(sound)
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(data if rng.random() < 0.7 else data[: int(rng.integers(len(data)))])
        try:
            read_revisited(folder, "roxford5k")
        except DataError:
            refused += 1
    assert refused > 20
    shutil.rmtree(folder)


@pytest.fixture
def retrieval_data(tiny_dataset: Path, tmp_path: Path) -> Path:
    """The benchmark's own layout: an index, test photos, and the solution."""
    folder = tmp_path / "gldv2"
    shutil.copytree(tiny_dataset, folder)
    (folder / "train").rename(folder / "index")
    catalog = read_catalog(tiny_dataset)
    of_landmark = catalog.references.group_by("landmark_id").agg("image_id")
    photos = dict(of_landmark.iter_rows())
    rows = []
    for number, (query, shown) in enumerate(catalog.queries.select("image_id", "landmark_ids").iter_rows()):
        found = [photo for landmark in shown for photo in photos[landmark]]
        usage = ("Public", "Private")[number % 2] if found else "Ignored"
        rows.append((query, " ".join(found) or "None", usage))
    write_solution(folder, rows)
    return folder


def write_solution(folder: Path, rows: list[tuple[str, str, str]]) -> None:
    with (folder / "retrieval_solution_v2.1.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "images", "Usage"), *rows])


def read_solution(folder: Path) -> list[tuple[str, str, str]]:
    with (folder / "retrieval_solution_v2.1.csv").open(newline="") as file:
        return [(row["id"], row["images"], row["Usage"]) for row in csv.DictReader(file)]


def test_retrieval_ranks_the_index(retrieval_data: Path, tiny_run: Run, obelisk: Command, tmp_path: Path) -> None:
    command = ("evaluate", tiny_run.folder, "--data", retrieval_data, "--protocol", "gldv2-retrieval")
    code, printed, said = obelisk(*command, "--json", "--out", tmp_path / "out")
    assert code == 0, said
    fields = json.loads(printed)
    index = sorted((path.stem, path) for path in (retrieval_data / "index").rglob("*.*"))
    embedder = Embedder(tiny_run.bundle)
    rows = as_stored(stack(embedder, [path for _, path in index]))
    expected = {}
    solution = {query: images.split() for query, images, usage in read_solution(retrieval_data) if usage != "Ignored"}
    for query in solution:
        (photo,) = (retrieval_data / "test").rglob(f"{query}.*")
        unit = stack(embedder, [photo])[0].astype(np.float64)
        order = np.argsort(-(rows.astype(np.float64) @ unit), kind="stable")[:100]
        expected[query] = [index[row][0] for row in order]
    assert fields["map100"] == pytest.approx(retrieval_map(solution, expected), abs=1e-6)
    assert fields["queries"] == 18
    assert fields["public"]["queries"] + fields["private"]["queries"] == 18
    per_query = pl.read_parquet(tmp_path / "out" / "gldv2-retrieval.parquet")
    assert per_query["average_precision"].mean() == pytest.approx(fields["map100"])
    for expand in ("query", "references"):
        code, printed, said = obelisk(*command, "--expand", expand, "--json")
        assert code == 0, said
        assert json.loads(printed)["map100"] != fields["map100"]
    code, printed, said = obelisk(*command, "--verify")
    assert code == 0, said
    assert "verified" in printed


def stack(embedder: Embedder, photos: list[Path]) -> np.ndarray[Any, np.dtype[np.float32]]:
    rows = np.stack([one.embedding for one in embedder.embed(photos) if one.embedding is not None])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_an_index_photo_that_cannot_be_read_is_named_and_missed(
    retrieval_data: Path, tiny_run: Run, obelisk: Command
) -> None:
    command = ("evaluate", tiny_run.folder, "--data", retrieval_data, "--protocol", "gldv2-retrieval", "--json")
    _, printed, _ = obelisk(*command)
    before = json.loads(printed)
    victim = sorted((retrieval_data / "index").rglob("*.*"))[0]
    victim.write_bytes(b"no photo")
    code, printed, said = obelisk(*command)
    assert code == 1
    assert victim.name in said
    assert json.loads(printed)["photos"] == before["photos"] - 1
    assert json.loads(printed)["map100"] < before["map100"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(lambda folder: shutil.rmtree(folder / "index"), "no photo of the index", id="no index"),
        pytest.param(lambda folder: (folder / "retrieval_solution_v2.1.csv").unlink(), "is missing", id="no solution"),
        pytest.param(
            lambda folder: write_solution(folder, [("a", "b", "Pubic"), ("c", "", "Public")]),
            "2 rows that can't be used; the first is row 2, of usage 'Pubic'",
            id="usage",
        ),
        pytest.param(
            lambda folder: write_solution(folder, [("a", "b c", "Public"), ("d", "b", "Private")]),
            "2 of 2 index photos to be found are not on disk",
            id="another dataset",
        ),
        pytest.param(
            lambda folder: write_solution(folder, 2 * read_solution(folder)[:1]), "1 queries stand twice", id="twice"
        ),
        pytest.param(
            lambda folder: shutil.rmtree(folder / "test"), "18 of 18 query photos are not on disk", id="no test photos"
        ),
    ],
)
def test_unusable_retrieval_data(
    retrieval_data: Path, tiny_run: Run, obelisk: Command, spoil: Callable[[Path], object], said: str
) -> None:
    spoil(retrieval_data)
    code, _, error = obelisk("evaluate", tiny_run.folder, "--data", retrieval_data, "--protocol", "gldv2-retrieval")
    assert code == 2
    assert said in " ".join(error.split())


def test_recognition_measures_gap_of_what_recognize_answers(
    tiny_dataset: Path, tiny_run: Run, obelisk: Command, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = ("evaluate", tiny_run.folder, "--data", tiny_dataset, "--protocol", "gldv2-recognition", "--json")
    code, printed, said = obelisk(*command, "--out", out)
    assert code == 0, said
    fields = json.loads(printed)
    predictions = read_predictions(out / "predictions.parquet")
    catalog = read_catalog(tiny_dataset)
    usages = dict(catalog.queries.select("image_id", "usage").iter_rows())
    truths = dict(catalog.queries.select("image_id", "landmark_ids").iter_rows())
    answers = {
        str(query): (int(landmark), float(confidence))
        for query, landmark, confidence in zip(
            predictions.query_ids, predictions.answers, predictions.confidence, strict=True
        )
    }
    assert fields["gap"] == pytest.approx(gap(truths, answers))
    for usage in ("Public", "Private"):
        asked = {query: truths[query] for query, one in usages.items() if one == usage}
        if asked:
            given = {query: answers[query] for query in asked}
            assert fields[usage.lower()]["gap"] == pytest.approx(gap(asked, given))
            assert fields[usage.lower()]["queries"] == len(asked)
    code, printed, said = obelisk(*command, "--expand", "query", "--out", tmp_path / "expanded")
    assert code == 0, said
    assert json.loads(printed)["expand"] == "query"


def test_options_of_other_protocols_are_refused(tiny_dataset: Path, tiny_run: Run, obelisk: Command) -> None:
    command = ("evaluate", tiny_run.folder, "--data", tiny_dataset)
    for words, said in (
        (("--expand", "query"), "--expand and --distractors are for benchmarks"),
        (("--verify",), "--verify is for another protocol"),
        (("--protocol", "gldv2-retrieval", "--queries", tiny_dataset), "add --protocol halves"),
        (("--protocol", "gldv2-retrieval", "--distractors", tiny_dataset), "use it with roxford5k or rparis6k"),
    ):
        code, _, error = obelisk(*command, *words)
        assert code == 2
        assert said in " ".join(error.split())
