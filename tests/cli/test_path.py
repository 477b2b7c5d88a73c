"""The whole path from the command line, and what each kind of bad input gets: one clear error, never a traceback."""

import json
import re
import shutil
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from obelisk.cli.main import run
from obelisk.config import Recipe
from obelisk.evaluation.run_reader import Run, read_log

Outcome = tuple[int, str, str]
Command = Callable[..., Outcome]


@pytest.fixture
def evaluated(tiny_run: Run, tmp_path: Path) -> Path:
    """A copy of the trained run, to be written into."""
    return Path(shutil.copytree(tiny_run.folder, tmp_path / "tiny"))


def test_evaluate_writes_predictions_and_metrics_and_repeats_itself(
    obelisk: Command, evaluated: Path, tiny_dataset: Path
) -> None:
    code, out, _ = obelisk("evaluate", evaluated, "--data", tiny_dataset, "--json")
    metrics = json.loads(out)
    assert code == 0
    assert metrics["queries"] == 24
    assert metrics["landmarks"] == 6
    assert set(metrics) >= {"top1", "top5", "f1_macro", "f1_weighted", "gap", "auroc_distractors", "ece", "intervals"}
    assert metrics["auroc_unknown"] is None
    assert 0 < metrics["map100"] <= 1
    assert metrics == {**json.loads((evaluated / "metrics.json").read_text()), "buckets": metrics["buckets"]}
    written = (evaluated / "predictions.parquet").read_bytes(), (evaluated / "metrics.json").read_bytes()
    (evaluated / "predictions.parquet").unlink()
    assert obelisk("evaluate", evaluated, "--data", tiny_dataset)[0] == 0
    assert written == ((evaluated / "predictions.parquet").read_bytes(), (evaluated / "metrics.json").read_bytes())


def test_predictions_that_are_there_are_not_made_again(
    obelisk: Command, evaluated: Path, tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = obelisk("evaluate", evaluated, "--data", tiny_dataset, "--json")
    monkeypatch.setattr("obelisk.evaluation.evaluate.predict_queries", lambda *_: pytest.fail("predicted again"))
    assert obelisk("evaluate", evaluated, "--data", tiny_dataset, "--json") == first


def test_compare_writes_one_page_and_names_the_winner(
    obelisk: Command, evaluated: Path, tiny_dataset: Path, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    recipe = tmp_path / "frozen.toml"
    frozen = tiny_recipe.to_toml().replace('"tiny"', '"frozen"').replace('kind = "linear"', 'kind = "identity"')
    recipe.write_text(frozen.replace('kind = "arcface"', 'kind = "none"'))
    assert obelisk("train", recipe, "--data", tiny_dataset, "--out", tmp_path / "frozen")[0] == 0
    page = tmp_path / "report.html"
    code, out, _ = obelisk("compare", evaluated, tmp_path / "frozen", "--data", tiny_dataset, "--out", page, "--json")
    assert code == 0
    comparison = json.loads(out)
    assert {entry["run"] for entry in comparison["runs"]} == {"tiny", "frozen"}
    assert comparison["headline"].startswith(comparison["best"])
    text = page.read_text(encoding="utf-8")
    assert comparison["headline"].split(":")[0] in text
    # One file, whole in itself: nothing is fetched from anywhere.
    assert 'src="http' not in text
    assert 'href="http' not in text


def test_a_run_can_be_compared_with_another_of_the_same_recipe(
    obelisk: Command, evaluated: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    shutil.copytree(evaluated, tmp_path / "again")
    code, out, _ = obelisk("compare", evaluated, tmp_path / "again", "--data", tiny_dataset, "--json")
    assert code == 0
    assert [entry["run"] for entry in json.loads(out)["runs"]] == ["tiny", "again"]


def test_photos_that_evaluation_leaves_out_are_named_each_time(
    obelisk: Command, tiny_run: Run, tiny_dataset: Path, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(tiny_dataset, tmp_path / "data"))
    photo = next((data / "test").rglob("*.jpg"))
    whole = photo.read_bytes()
    photo.write_bytes(b"rotten")
    run = shutil.copytree(tiny_run.folder, tmp_path / "run")
    for _ in range(2):
        code, out, err = obelisk("evaluate", run, "--data", data, "--json")
        assert code == 1
        assert photo.name in err
        assert json.loads(out)["queries"] == 24
    photo.write_bytes(whole)
    code, _, err = obelisk("evaluate", run, "--data", data, "--json")
    assert code == 0
    assert photo.name not in err


def test_neighbours_decide_where_a_softmax_layer_does_not_know_all_landmarks(
    obelisk: Command, tiny_recipe: Recipe, tiny_dataset: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "softmax.toml"
    text = tiny_recipe.to_toml().replace('kind = "linear"', 'kind = "identity"').replace('"arcface"', '"softmax"')
    recipe.write_text(text.replace('kind = "knn"', 'kind = "softmax"'))
    assert obelisk("train", recipe, "--data", tiny_dataset, "--out", tmp_path / "run")[0] == 0
    other = Path(shutil.copytree(tiny_dataset, tmp_path / "other"))
    known = {str(landmark) for landmark in Run.open(tmp_path / "run").landmarks}
    for name in ("train.csv", "train_clean.csv", "train_label_to_category.csv", "landmarks.csv"):
        table = other / "metadata" / name
        rows = table.read_text().splitlines(keepends=True)
        # Another set of landmarks: every id gets a digit more.
        table.write_text(
            "".join(re.sub(r"\b\d+\b", lambda m: m[0] + "9" if m[0] in known else m[0], row) for row in rows)
        )
    code, out, err = obelisk("evaluate", tmp_path / "run", "--data", other, "--json")
    assert code == 0
    assert "softmax layer does not know 6 of the gallery's landmarks" in err
    assert json.loads(out)["queries"] == 24


def test_the_curves_of_an_ensemble_are_told_apart(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    rows = [(1, 1, 4.0), (1, 2, 2.0), (1, 3, 1.0), (2, 1, 2.0), (2, 2, 1.0)]
    log.write_text("".join(json.dumps({"member": m, "epoch": e, "train_loss": x}) + "\n" for m, e, x in rows))
    assert [(row["epoch"], row["train_loss"]) for row in read_log(tmp_path)] == [(1, 3.0), (2, 1.5)]


def test_a_trained_model_makes_a_gallery_that_recognises(
    obelisk: Command, tiny_run: Run, tiny_dataset: Path, tmp_path: Path
) -> None:
    gallery = tmp_path / "gallery"
    assert obelisk("gallery", "build", gallery, "--data", tiny_dataset, "--model", tiny_run.folder)[0] == 0
    photos = sorted((tiny_dataset / "train").rglob("*.jpg"))[:4]
    code, out, _ = obelisk("recognize", *photos, "--gallery", gallery, "--json")
    answers = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    # Reference photos are their own nearest neighbours.
    assert [answer["neighbours"][0]["id"] for answer in answers] == [photo.stem for photo in photos]
    code, out, err = obelisk("recognize", photos[0], "--gallery", gallery, "--k", 1000)
    assert (code, out) == (2, "")
    assert "1000" in err
    assert "60" in err


def png_header(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("text.jpg", b"I am no photo", "text.jpg"),
        ("huge.png", png_header(60_000, 60_000) + b"\x00" * 64, "huge.png"),
        ("empty.jpg", b"", "empty.jpg"),
    ],
)
def test_a_bad_photo_is_named_and_the_others_are_answered(
    obelisk: Command, tiny_run: Run, tiny_dataset: Path, tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    gallery = tmp_path / "gallery"
    obelisk("gallery", "build", gallery, "--data", tiny_dataset, "--model", tiny_run.folder)
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / name).write_bytes(content)
    shutil.copy(next((tiny_dataset / "test").rglob("*.jpg")), folder / "zz.jpg")
    code, out, err = obelisk("recognize", folder, "--gallery", gallery, "--json")
    bad, good = (json.loads(line) for line in out.splitlines())
    assert code == 1
    assert said in err
    assert bad["error"]
    assert (bad["landmark"], bad["confidence"], bad["candidates"]) == (None, 0.0, [])
    assert good["error"] is None
    assert good["landmark"]


BAD: list[tuple[str, Sequence[str], str]] = [
    ("a dataset that is not there", ("train", "arcface", "--data", "{tmp}/nothing", "--out", "{tmp}/new"), "nothing"),
    ("an empty folder", ("train", "arcface", "--data", "{tmp}/empty", "--out", "{tmp}/new"), "empty"),
    (
        "a recipe that is not there",
        ("train", "arcfase", "--data", "{data}", "--out", "{tmp}/new"),
        "did you mean `arcface`?",
    ),
    (
        "a typo in a key",
        ("train", "arcface", "--data", "{data}", "--out", "{tmp}/new", "--set", "loss.margn=0.2"),
        "unknown key `loss.margn`, did you mean `margin`?",
    ),
    (
        "a wrong value and another",
        (
            "train",
            "arcface",
            "--data",
            "{data}",
            "--out",
            "{tmp}/new",
            "--set",
            "loss.scale=-1",
            "--set",
            "photos.size=2",
        ),
        "`loss.scale` = -1",
    ),
    (
        "an unknown backbone",
        ("train", "arcface", "--data", "{data}", "--out", "{tmp}/new", "--set", 'backbone.names=["resnet5O"]'),
        "did you mean `resnet50`?",
    ),
    ("a run of another recipe", ("train", "arcface", "--data", "{data}", "--out", "{run}"), "another recipe"),
    ("no run at all", ("evaluate", "{tmp}/empty", "--data", "{data}"), "not a finished run"),
    ("runs never evaluated and no data", ("compare", "{run}"), "--data DIR"),
    ("an unknown command", ("recognise",), "recognise"),
    ("a gallery that is not there", ("recognize", "{data}", "--gallery", "{tmp}/nothing"), "no such gallery"),
]


@pytest.mark.parametrize(("words", "said"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_a_users_mistake_gets_one_error_and_leaves_nothing_behind(
    obelisk: Command, tiny_run: Run, tiny_dataset: Path, tmp_path: Path, words: Sequence[str], said: str
) -> None:
    (tmp_path / "empty").mkdir()
    places = {"tmp": tmp_path, "data": tiny_dataset, "run": tiny_run.folder}
    code, out, err = obelisk(*(word.format(**places) for word in words))
    assert (code, out) == (2, "")
    assert said in err
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_mistakes_in_a_recipe_are_reported_together(obelisk: Command, tiny_dataset: Path, tmp_path: Path) -> None:
    words = ("--set", "loss.scale=-1", "--set", "photos.sise=224", "--set", "neck.kind=round")
    code, _, err = obelisk("train", "arcface", "--data", tiny_dataset, "--out", tmp_path / "new", *words)
    assert code == 2
    for said in ("`loss.scale` = -1", "did you mean `size`?", "`neck.kind` = 'round'"):
        assert said in err


def test_a_missing_column_is_named_with_its_file(obelisk: Command, tiny_dataset: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(tiny_dataset, tmp_path / "broken"))
    table = broken / "metadata" / "train.csv"
    table.write_text(table.read_text().replace("landmark_id", "label", 1))
    code, _, err = obelisk("train", "arcface", "--data", broken, "--out", tmp_path / "new")
    assert code == 2
    assert "train.csv" in err
    assert "landmark_id" in err
    assert not (tmp_path / "new").exists()


def test_a_landmark_with_one_photo_trains_and_stays_a_reference(
    obelisk: Command, tiny_dataset: Path, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    folder = tmp_path / "places"
    photos = sorted((tiny_dataset / "train").rglob("*.jpg"))
    for place, count in (("alone", 1), ("pair", 2), ("many", 9)):
        (folder / place).mkdir(parents=True)
        for photo in photos[:count]:
            shutil.copy(photo, folder / place)
        del photos[:count]
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        tiny_recipe.to_toml()
        .replace('kind = "arcface"', 'kind = "triplet"')
        .replace("photos_per_landmark = 0", "photos_per_landmark = 2")
    )
    code, _, err = obelisk("train", recipe, "--data", folder, "--out", tmp_path / "run")
    assert code == 0, err
    assert len(Run.open(tmp_path / "run").landmarks) == 3


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["obelisk", "evaluate", "nothing", "--data", "nothing", "--debug"])
    with pytest.raises(Exception, match="no such file or folder"):
        run()


def test_the_demo_walks_the_whole_path(
    obelisk: Command,
    tiny_dataset: Path,
    tiny_recipe: Recipe,
    tiny_run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The second arm is finished, so only the first one trains.
    arms = {"baseline_softmax": tiny_recipe.model_copy(update={"name": "baseline"}), "proposed_triplet": tiny_recipe}
    shutil.copytree(tiny_run.folder, tmp_path / "demo" / "runs" / "proposed_triplet")
    monkeypatch.setattr("obelisk.experiments.demo.load_recipe", arms.__getitem__)
    code, out, err = obelisk("demo", "--data", tiny_dataset, "--out", tmp_path / "demo")
    assert code == 0, err
    assert "report:" in out
    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == [
        "gallery",
        "recognition.png",
        "report.html",
        "runs",
    ]


def test_a_gallery_of_two_photos_recognizes_without_a_given_k(
    obelisk: Command, tiny_run: Run, tiny_dataset: Path, tmp_path: Path
) -> None:
    photos = sorted((tiny_dataset / "train").rglob("*.jpg"))[:2]
    for place, photo in zip(("here", "there"), photos, strict=True):
        (tmp_path / "places" / place).mkdir(parents=True)
        shutil.copy(photo, tmp_path / "places" / place)
    gallery = tmp_path / "gallery"
    assert obelisk("gallery", "build", gallery, "--data", tmp_path / "places", "--model", tiny_run.folder)[0] == 0
    code, out, _ = obelisk("recognize", *photos, "--gallery", gallery, "--json")
    assert code == 0
    assert [json.loads(line)["landmark"] for line in out.splitlines()] == ["here", "there"]
    assert obelisk("recognize", photos[0], "--gallery", gallery, "--k", 3)[0] == 2
