"""``obelisk export`` from the command line: what it says, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from obelisk.embedding import Bundle
from obelisk.evaluation.run_reader import Run

Outcome = tuple[int, str, str]
Command = Callable[..., Outcome]


@pytest.fixture
def export(obelisk: Command) -> Command:
    """Run ``obelisk export``; return exit code, stdout and stderr."""
    return partial(obelisk, "export")


def test_it_prints_the_bundle_and_says_what_was_checked(
    export: Command, tiny_run: Run, tiny_dataset: Path, tmp_path: Path
) -> None:
    out = tmp_path / "bundle"
    code, printed, said = export(tiny_run.folder, "--out", out, "--precision", "fp16", "--data", tiny_dataset)
    assert (code, printed) == (0, f"{out}\n")
    assert "smallest cosine to torch over 60 photos: 1.0000" in said
    assert "fp16: mean cosine to float32 over 60 photos: 1.0000" in said
    assert "fp16: top-1 of these photos among each other" in said
    assert Bundle.load(out).manifest.precision == "fp16"


def test_a_photo_that_cannot_be_read_is_named_and_the_rest_is_done(
    export: Command, tiny_run: Run, tiny_dataset: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "broken.jpg").write_text("not a photo")
    for photo in sorted((tiny_dataset / "train").rglob("*.jpg"))[:3]:
        (photos / photo.name).write_bytes(photo.read_bytes())
    code, printed, said = export(tiny_run.folder, "--out", tmp_path / "bundle", "--photos", photos)
    assert (code, printed) == (1, f"{tmp_path / 'bundle'}\n")
    assert "broken.jpg" in said
    assert "over 3 photos" in said


# What follows the run (R twice is two runs), and what the error says.
MISTAKES = {
    "no run": (["{none}"], "not a finished run"),
    "nothing to check with": (["R"], "none of the runs has been evaluated · name the dataset with --data DIR"),
    "an unknown precision": (["R", "--precision", "fp8"], "fp8"),
    "photos for several": (["R", "R", "--photos", "D"], "is for a single run"),
    "a size for several": (["R", "R", "--size", "64"], "--size is for a single run"),
    "weights that are words": (["R", "R", "--weights", "most", "--data", "D"], "--weights 'most'"),
    "too few weights": (["R", "R", "--weights", "1", "--data", "D"], "give a positive number for each run"),
    "a refitted run": (["R", "R", "--data", "D"], "was refitted on its validation photos"),
}


@pytest.mark.parametrize(("words", "said"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_named(
    export: Command, tiny_run: Run, tiny_dataset: Path, tmp_path: Path, words: list[str], said: str
) -> None:
    known = {"R": tiny_run.folder, "D": tiny_dataset, "{none}": tmp_path / "none"}
    code, printed, errors = export(*(known.get(word, word) for word in words), "--out", tmp_path / "bundle")
    assert (code, printed) == (2, "")
    assert said in errors
    assert not (tmp_path / "bundle").exists()
