"""Runs of earlier versions still open and can be evaluated, or say what to do."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from obelisk.config import Recipe
from obelisk.data import read_catalog
from obelisk.errors import ModelError
from obelisk.evaluation import Run, evaluate_model, open_target

GOLDEN = Path(__file__).parent / "golden" / "run"


@pytest.fixture
def old_run(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN, tmp_path / "run"))


def test_an_old_run_opens_with_its_keys_under_their_present_names(old_run: Path) -> None:
    assert 'pooling = "gap"' in (old_run / "recipe.toml").read_text()
    run = Run.open(old_run)
    assert (run.recipe.backbone.pooling, run.recipe.neck.normalize_parts) == ("avg", True)
    assert len(run.landmarks) == 3


def test_an_old_run_is_evaluated_by_the_classifier_of_its_recipe(old_run: Path, tiny_dataset: Path) -> None:
    target = open_target(old_run)
    assert (target.classifier.kind, target.classifier.k, target.classifier.vote) == ("knn", 3, "weighted")
    evaluated = evaluate_model(old_run, read_catalog(tiny_dataset))
    assert evaluated.measure().queries == 24
    assert (old_run / "metrics.json").is_file()
    # The predictions that are there are taken as they are.
    again = evaluate_model(old_run, read_catalog(tiny_dataset))
    assert again.predictions.made_by == evaluated.predictions.made_by


def test_an_old_softmax_run_says_how_to_convert_it(old_run: Path) -> None:
    run = Run.open(old_run)
    softmax = run.recipe.model_copy(update={"classifier": run.recipe.classifier.model_copy(update={"kind": "softmax"})})
    with pytest.raises(ModelError, match=r"lacks the softmax layer.*obelisk export .* --out BUNDLE"):
        run.read_as(softmax).find_classifier()


@pytest.mark.parametrize("missing", ["run.json", "recipe.toml"])
def test_an_unfinished_run_is_named(old_run: Path, missing: str, tiny_recipe: Recipe) -> None:
    (old_run / missing).unlink()
    with pytest.raises(Exception, match=r"not a finished run|recipe"):
        open_target(old_run)


@pytest.mark.parametrize(
    "line", [b"garbage\n", b"[1]\n", b"{}\n", b"\xff\n", b"[" * 100_000, b'{"member": 1, "epoch": [1]}\n']
)
def test_a_damaged_log_is_named(old_run: Path, line: bytes) -> None:
    with (old_run / "log.jsonl").open("ab") as log:
        log.write(line)
    with pytest.raises(ModelError, match=r"unreadable log: .* · .*log\.jsonl"):
        open_target(old_run)


def test_a_read_only_run_is_evaluated_without_keeping_its_predictions(
    old_run: Path, tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # who runs the tests may be allowed everything
    monkeypatch.setattr(os, "access", lambda path, mode: path != old_run or mode != os.W_OK)
    before = sorted(old_run.iterdir())
    evaluated = evaluate_model(old_run, read_catalog(tiny_dataset))
    assert evaluated.measure().queries == 24
    assert sorted(old_run.iterdir()) == before
    assert evaluated.target.kept_in is None
    out = old_run.parent / "out"
    assert evaluate_model(old_run, read_catalog(tiny_dataset), out=out).target.kept_in == out
    assert (out / "predictions.parquet").is_file()
