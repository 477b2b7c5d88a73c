"""``obelisk recognize``: CSV, Parquet, and tags in sidecars."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from obelisk.outputs import ANSWER_SCHEMA


@pytest.fixture
def city(tmp_path: Path, obelisk: Any, places: Path, calibrated_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (places / "Dome").rename(places / "=Dome, old")
    assert obelisk("gallery", "build", "city", "--data", places, "--model", calibrated_bundle)[0] == 0
    return "city"


@pytest.fixture
def holiday(tmp_path: Path, photograph: Any) -> Path:
    for number, name in enumerate(["=1+1.png", 'a "b", c.png', "-x.png"]):
        photograph(tmp_path / "holiday" / name, ((230, 60, 60), (60, 60, 240))[number % 2], 100 + number)
    (tmp_path / "holiday" / "z.jpg").write_text("no photo", encoding="utf-8")
    return Path("holiday")


def test_csv_and_parquet_say_what_json_says(
    city: str, holiday: Path, obelisk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("holiday")
    options = ("-x.png", "=1+1.png", "z.jpg", "--gallery", "../city", "--threshold", "0")
    code, out, _ = obelisk("recognize", "--json", *options[1:], "--", options[0])
    answers = [json.loads(line) for line in out.splitlines()]
    assert (code, len(answers)) == (1, 3)
    code, out, _ = obelisk("recognize", "--csv", *options[1:], "--", options[0])
    rows = list(csv.DictReader(io.StringIO(out)))
    assert (code, [row["photo"] for row in rows]) == (1, ["'=1+1.png", "z.jpg", "'-x.png"])
    assert [float(row["confidence"]) for row in rows] == [answer["confidence"] for answer in answers]
    assert rows[0]["landmark"] == "'=Dome, old"
    assert rows[1]["error"] == answers[1]["error"]
    code, out, _ = obelisk("recognize", "--parquet", "a.parquet", *options[1:], "--", options[0])
    assert (code, out) == (1, "a.parquet: 3 answers\n")
    table = pl.read_parquet("a.parquet")
    for neighbor in (neighbor for answer in answers for neighbor in answer["neighbours"]):
        neighbor |= {key: neighbor.get(key) for key in ("author", "licence")}  # JSON has them where they are known
    assert (table.schema, table.to_dicts()) == (ANSWER_SCHEMA, answers)


def test_one_output_at_a_time(city: str, holiday: Path, obelisk: Any) -> None:
    code, _, err = obelisk("recognize", holiday, "--csv", "--json", "--gallery", city)
    assert (code, "--json and --csv" in err) == (2, True)
    code, _, err = obelisk("recognize", holiday, "--position", "--gallery", city)
    assert (code, "give --xmp --position" in err) == (2, True)


def test_a_full_disk_leaves_no_table(city: str, holiday: Path, obelisk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    code, out, err = obelisk("recognize", holiday, "--parquet", "a.parquet", "--gallery", city)
    assert (code, out, "the disk is full · a.parquet" in err) == (1, "", True)
    assert not [path for path in Path().iterdir() if "parquet" in path.name]


def test_sidecars_are_listed_written_and_taken_away(city: str, holiday: Path, obelisk: Any) -> None:
    command = ("recognize", holiday, "--xmp", "--gallery", city, "--threshold", "0", "--json")
    (holiday / "-x.png.xmp").write_text("no XMP", encoding="utf-8")
    before = sorted(path.name for path in holiday.iterdir())
    code, out, err = obelisk(*command, "--dry-run")
    assert (code, len(out.splitlines())) == (1, 4)
    assert "holiday/=1+1.png.xmp: +Places/=Dome, old" in err
    assert "2 sidecars would change" in err
    assert "the sidecar can't be used: it is no XML" in err
    assert sorted(path.name for path in holiday.iterdir()) == before
    assert "2 sidecars changed" in obelisk(*command)[2]
    assert sorted(path.name for path in holiday.glob("*.xmp")) == ["-x.png.xmp", "=1+1.png.xmp", 'a "b", c.png.xmp']
    assert "0 sidecars changed" in obelisk(*command)[2]
    code, out, err = obelisk("recognize", holiday, "--xmp", "--remove-tags")
    assert (code, out, "2 sidecars changed" in err) == (1, "", True)
    assert [path.read_text(encoding="utf-8") for path in holiday.glob("*.xmp")] == ["no XMP"]


def test_tags_need_a_calibration_or_a_threshold(
    tmp_path: Path, holiday: Path, obelisk: Any, places: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    obelisk("gallery", "build", "own", "--data", places, "--model", run_folder)
    command = ("recognize", holiday, "--xmp", "--gallery", "own")
    for options in ((), ("--dry-run",)):
        code, out, err = obelisk(*command, *options)
        assert (code, out) == (2, "")
        assert "--xmp would tag every photo: the model is not calibrated" in err
        assert "`obelisk calibrate own --data DIR`, or give --threshold" in err
    assert not list(holiday.glob("*.xmp"))
    code, _, err = obelisk(*command, "--threshold", "0.99")
    assert (code, "would tag" in err) == (1, False)  # z.jpg is no photo
    code, _, err = obelisk("album", holiday, "--out", "a.html", "--gallery", "own")
    assert (code, "without a threshold every photo gets a name" in err) == (1, True)


def test_tags_need_a_vote_that_is_calibrated(city: str, holiday: Path, obelisk: Any) -> None:
    code, _, err = obelisk("recognize", holiday, "--xmp", "--gallery", city, "--vote", "majority")
    assert (code, "leave out --vote, or give --threshold" in err) == (2, True)
