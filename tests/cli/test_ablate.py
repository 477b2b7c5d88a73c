"""``obelisk ablate``: from an ablation file to its table, and what a second call does not do again."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from obelisk.config import Recipe
from obelisk.markup import Markup

Outcome = tuple[int, str, str]

FACTORS = """
[factors.loss."cross entropy".loss]
kind = "softmax"
[factors.loss.triplet.loss]
kind = "triplet"
mining = "multi_similarity"
[factors.loss.triplet.training]
photos_per_landmark = 4
[factors.classifier.softmax.classifier]
kind = "softmax"
[factors.classifier.neighbours.classifier]
kind = "knn"
vote = "majority"
"""


@pytest.fixture
def ablation(tiny_recipe: Recipe, tmp_path: Path) -> Path:
    """Two losses by two classifiers of the tiny recipe."""
    shared = tiny_recipe.to_toml().split("\n[")[1:]
    shared = [text for text in shared if text.split("]")[0] in ("photos", "backbone", "views", "neck", "training")]
    path = tmp_path / "ablation.toml"
    path.write_text('name = "tiny"\n' + "".join(f"[recipe.{text}\n" for text in shared) + FACTORS)
    return path


def test_two_trainings_make_four_cells_and_are_not_made_again(
    obelisk: Callable[..., Outcome],
    ablation: Path,
    tiny_dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    words = ("ablate", ablation, "--data", tiny_dataset, "--out", out)
    code, text, err = obelisk(*words, "--json")
    assert code == 0, err
    reported = json.loads(text)
    assert json.loads((out / "ablation.json").read_text()) == reported
    assert sorted(path.name for path in (out / "runs").iterdir()) == ["cross_entropy", "triplet"]
    assert [tuple(cell["levels"].values()) for cell in reported["cells"]] == [
        ("cross entropy", "softmax"),
        ("cross entropy", "neighbours"),
        ("triplet", "softmax"),
        ("triplet", "neighbours"),
    ]
    top1 = [cell["metrics"]["top1"] for cell in reported["cells"]]
    assert all(value is not None for value in top1)
    main, *_ = reported["effects"]
    assert main["changes"] == [{"factor": "loss", "against": "cross entropy", "level": "triplet"}]
    assert main["metrics"]["top1"]["difference"] == pytest.approx((top1[2] + top1[3] - top1[0] - top1[1]) / 2)
    assert "triplet-softmax" in (out / "report.html").read_text()
    # The cell and the run by itself, evaluated by the layer it has trained, agree.
    for place, name in ((0, "cross_entropy"), (2, "triplet")):
        alone = json.loads(obelisk("evaluate", out / "runs" / name, "--data", tiny_dataset, "--json")[1])
        assert alone == reported["cells"][place]["metrics"]

    # The figures are drawn once; from here on, only numbers count.
    monkeypatch.setattr("obelisk.evaluation.report.show_charts", lambda *_, **__: Markup(""))
    with monkeypatch.context() as patch:
        patch.setattr("obelisk.training.train.run_stages", lambda *_: pytest.fail("trained again"))
        patch.setattr("obelisk.evaluation.evaluate.predict_queries", lambda *_: pytest.fail("predicted again"))
        assert obelisk(*words, "--json")[1] == text
        code, shown, _ = obelisk(*words)
    assert code == 0
    assert "loss: cross entropy → triplet" in shown
    assert "loss: cross entropy → triplet × classifier: softmax → neighbours" in shown
    # An interrupted run resumes, with the same result.
    (out / "runs" / "triplet" / "run.json").unlink()
    assert obelisk(*words, "--json")[1] == text


def test_mistakes_end_before_any_work(obelisk: Callable[..., Outcome], tiny_dataset: Path, tmp_path: Path) -> None:
    code, _, err = obelisk("ablate", "ligt", "--data", tiny_dataset, "--out", tmp_path / "out")
    assert (code, "did you mean `lite`" in err) == (2, True)
    code, _, err = obelisk("ablate", "lite", "--data", tiny_dataset, "--out", tmp_path / "out", "--set", "neck.knd=x")
    assert (code, "`neck.knd`" in err, "--set" in err) == (2, True, True)
    assert not (tmp_path / "out").exists()
