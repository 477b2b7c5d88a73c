from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from obelisk.cli.data import SHOWN_OF_A_KIND, data_app
from obelisk.errors import DataError, UsageError

COLORS = ("red", "green", "blue", "white", "black", "orange")


@pytest.fixture
def places(tmp_path) -> Path:
    """A folder per landmark: A with four photos, B with two."""
    for number, path in enumerate(("A/0.png", "A/1.png", "A/2.png", "A/3.png", "B/4.png", "B/5.png")):
        (tmp_path / "places" / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), COLORS[number]).save(tmp_path / "places" / path)
    return tmp_path / "places"


def call(*words: object) -> Result:
    return CliRunner().invoke(data_app, [str(word) for word in words])


def test_check_of_a_sound_dataset_prints_nothing_and_exits_0(places):
    done = call("check", places)
    assert done.exit_code == 0
    assert done.stdout == ""
    assert "no fault found" in done.stderr


def test_check_prints_a_table_for_each_kind_and_exits_1(places):
    (places / "B/text.jpg").write_text("no photo")
    (places / "Empty").mkdir()
    done = call("check", places)
    assert done.exit_code == 1
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[:2] == [["empty:", "1"], ["where", "what", "what", "to", "do"]]
    assert lines[2][0] == "Empty"
    assert lines[3:6] == [[], ["unreadable:", "1"], ["where", "what", "what", "to", "do"]]
    assert lines[6][0] == "B/text.jpg"
    assert "1 empty, 1 unreadable" in done.stderr


def test_check_json_is_one_problem_a_line(places):
    (places / "B/5.png").write_bytes((places / "B/4.png").read_bytes())
    done = call("check", places, "--json")
    assert done.exit_code == 1
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {
            "kind": "duplicate",
            "where": "B/5.png",
            "what": "the same content as B/4.png",
            "fix": "delete one of the two",
        }
    ]


def test_check_shortens_a_long_table_and_json_does_not(places):
    for number in range(SHOWN_OF_A_KIND + 7):
        (places / f"B/text{number}.jpg").write_bytes(b"")
    done = call("check", places)
    assert f"empty: {SHOWN_OF_A_KIND + 7}" in done.stdout
    assert done.stdout.count("B/text") == SHOWN_OF_A_KIND
    assert "7 more" in done.stderr
    assert len(call("check", places, "--json").stdout.splitlines()) == SHOWN_OF_A_KIND + 7


STATS = """\
                        count
landmarks                   2
references                  6
queries                     0
queries with landmark       0
distractors                 0
single photo landmarks      0

                     p0  p10  p25  p50  p75  p90  p99  p100
photos per landmark   2    2    2    2    4    4    4     4

bucket  photos        landmarks
head    more than 20          0
mid     6 to 20               0
tail    up to 5               2
"""


def test_stats_prints_counts_percentiles_and_buckets(places):
    done = call("stats", places)
    assert done.exit_code == 0
    assert "".join(line.rstrip() + "\n" for line in done.stdout.splitlines()) == STATS


def test_stats_json_is_one_object(places):
    (line,) = call("stats", places, "--json").stdout.splitlines()
    fields = json.loads(line)
    assert (fields["landmarks"], fields["references"]) == (2, 6)
    assert fields["buckets"] == {"head": 0, "mid": 0, "tail": 2}


def test_stats_draws_the_figure(places, tmp_path):
    done = call("stats", places, "--figure", tmp_path / "tail.png")
    assert done.exit_code == 0
    with Image.open(tmp_path / "tail.png") as picture:
        assert picture.width > 500


def test_stats_warns_of_what_reading_left_out(places):
    (places / "Empty").mkdir()
    done = call("stats", places)
    assert done.exit_code == 0
    assert "warning: folders without a photo, left out: 'Empty'" in done.stderr


def test_stats_listed_counts_rows_without_photos(tmp_path):
    (tmp_path / "train.csv").write_text("id,landmark_id\naaa,1\nbbb,1\n")
    assert isinstance(call("stats", tmp_path).exception, DataError)
    assert json.loads(call("stats", tmp_path, "--listed", "--json").stdout)["references"] == 2


def test_subset_writes_manifests_and_shows_both_distributions(places, tmp_path):
    out = tmp_path / "out"
    done = call("subset", places, "--landmarks", 1, "--seed", 5, "--out", out, "--figure", tmp_path / "a.png")
    assert done.exit_code == 0
    assert sorted(path.name for path in out.iterdir()) == ["landmarks.csv", "manifest.json", "photos.csv"]
    assert "photos per landmark, source" in done.stdout
    assert "KS distance of the two distributions: 0.5000" in done.stdout
    assert f"OBELISK_PHOTOS={places}" in done.stderr
    assert (tmp_path / "a.png").stat().st_size > 1000
    again = call("subset", places, "--landmarks", 1, "--seed", 5, "--out", out, "--json")
    assert again.exit_code == 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert json.loads(again.stdout).items() <= manifest.items()


def test_subset_inside_the_dataset_needs_no_variable(places):
    done = call("subset", places, "--landmarks", 2, "--out", places / "subsets" / "two")
    assert "OBELISK_PHOTOS" not in done.stderr
    assert call("stats", places / "subsets" / "two").exit_code == 0


# Mistakes of the caller: each is an error of the kind that exits 2, and tells what would be right.
MISTAKES = {
    "more landmarks than there are": (("subset", "{places}", "--landmarks", "3", "--out", "{out}"), "at most 2"),
    "no landmark": (("subset", "{places}", "--landmarks", "0", "--out", "{out}"), "at least 1"),
    "output folder in use": (("subset", "{places}", "--landmarks", "1", "--out", "{places}"), "holds something else"),
    "no such folder": (("stats", "{out}"), "no such folder"),
    "a file": (("check", "{places}/A/0.png"), "this is a file"),
    "a figure that is no picture": (("stats", "{places}", "--figure", "{out}/x.txt"), ".png"),
}


@pytest.mark.parametrize(("words", "reported"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_are_usage_errors_that_tell_the_remedy(words: tuple[str, ...], reported: str, places, tmp_path):
    done = call(*(word.format(places=places, out=tmp_path / "out") for word in words))
    assert isinstance(done.exception, UsageError)
    assert reported in str(done.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("words", [["subset", "d", "--landmarks", "many", "--out", "o"], ["subset", "d"], ["check"]])
def test_words_that_cannot_be_parsed_exit_2(words: list[str]):
    done = call(*words)
    assert done.exit_code == 2
    assert "Usage" in done.stderr
