from __future__ import annotations

import re
import sys
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest
from PIL import Image

from obelisk.data import read_catalog
from obelisk.errors import MissingExtraError
from obelisk.evaluation import RunResult, collect_predictions, compare_runs
from obelisk.evaluation.cards import sample_queries
from obelisk.evaluation.charts import all_charts
from obelisk.evaluation.figures import write_figures
from obelisk.evaluation.report import write_report

HOSTILE = "<script>alert('Tower & \"Bridge\"')</script>"
LOG = [
    {"epoch": n, "train_loss": 3 / n, "val_loss": 4 / n, "val_top1": 1 - 1 / (n + 1), "learning_rate": 0.1}
    for n in range(1, 6)
]


class Page(HTMLParser):
    """Reads a page, and fails on tags that do not close in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "link", "img", "wbr"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def attributes(self, name):
        return [attrs[name] for _, attrs in self.tags if name in attrs]


@pytest.fixture
def catalog(make_catalog):
    truths = {f"q{n:03}": [n % 8] for n in range(64)} | {f"x{n:03}": [] for n in range(16)}
    return make_catalog({landmark: 2 + 6 * landmark for landmark in range(8)}, truths, names={3: HOSTILE})


@pytest.fixture
def photos(catalog):
    """The photos of the catalog: small, each of its own color, tall and wide ones among them."""
    listed = catalog.references["path"].to_list() + catalog.queries["path"].to_list()
    for number, path in enumerate(listed):
        target = catalog.root / path
        target.parent.mkdir(exist_ok=True)
        size = ((20, 20), (30, 12), (12, 30))[number % 3]
        Image.new("RGB", size, (number % 256, 90, 160)).save(target)


@pytest.fixture
def compare(catalog, make_predictions):
    def compare(*names, log=LOG, accuracy=0.5):
        runs = [
            RunResult(
                name=name,
                title=f"Run number {number}",
                recipe={"loss": "triplet <hard>"},
                predictions=make_predictions(catalog, accuracy=accuracy + 0.1 * number, noise_seed=number),
                log=log,
            )
            for number, name in enumerate(names)
        ]
        return compare_runs(runs, catalog, resamples=30)

    return compare


@pytest.mark.usefixtures("photos")
def test_the_page_needs_nothing_else_and_shows_everything(compare, catalog, tmp_path):
    comparison = compare("base_line", "arc_face", "other")
    path = write_report(tmp_path / "out" / "report.html", comparison, catalog)
    written = path.read_text(encoding="utf-8")
    page = Page(written)
    assert comparison.headline() in page.text
    for title in ("Metrics", "Differences", "Long tail", "Training", "Confusions", "Queries", "Runs"):
        assert f"#{title.lower().replace(' ', '-')}" in page.attributes("href")
    for word in ("Macro F1", "GAP", "Validation top-1", "Loss of arc_face", "No landmark of the gallery"):
        assert word in page.text
    assert not {"script", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.attributes("src"))
    assert all(link.startswith(("#", "data:")) for link in page.attributes("href"))
    assert not re.search("https?:", re.sub(r'data:[^"]*', "", written))
    assert "photo not readable" not in page.text
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    used = re.findall(r"url\(#([^)]*)\)", written) + [link[1:] for link in page.attributes("href") if link[0] == "#"]
    assert set(used) <= set(ids)


def test_figures_are_described_and_the_page_allows_no_style_but_its_own(compare, catalog, tmp_path):
    page = Page(write_report(tmp_path / "r.html", compare("a", "<b>"), catalog).read_text("utf-8"))
    figures = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(figures) > 6
    assert all(figure["role"] == "img" and figure["aria-labelledby"] in page.attributes("id") for figure in figures)
    assert "Top-1: points above or below" in page.text
    assert page.attributes("style") == []
    (policy,) = [attributes["content"] for tag, attributes in page.tags if "http-equiv" in attributes]
    assert "unsafe-inline" not in policy


def test_figures_are_written_as_files_that_stand_alone(compare, catalog, tmp_path):
    charts = all_charts(compare("a", "塔 <b>"), catalog)
    assert {"differences-top1", "buckets", "reliability", "validation"} <= {chart.name for chart in charts}
    paths = write_figures(tmp_path / "figures", charts[:1])
    assert [path.name for path in paths] == ["differences-top1.svg", "differences-top1.pdf"]
    before = {path: path.read_bytes() for path in paths}
    for path, content in before.items():
        assert content.startswith(b"%PDF" if path.suffix == ".pdf" else b"<?xml")
        assert not re.search(b"#0[012a]0[012a]", content) or path.suffix == ".pdf"
    write_figures(tmp_path / "figures", charts[:1])
    assert {path: path.read_bytes() for path in paths} == before


def test_authors_stand_below_the_photos_where_the_dataset_names_them(compare, catalog, tmp_path):
    assert "credit" not in Page(write_report(tmp_path / "r.html", compare("a"), catalog).read_text()).attributes(
        "class"
    )
    rows = [f'{photo},"Ann <b>",CC BY 4.0' for photo in catalog.references["image_id"]]
    (catalog.root / "attribution.csv").write_text("\n".join(["image_id,author,license", *rows]), encoding="utf-8")
    page = Page(write_report(tmp_path / "r.html", compare("a"), catalog).read_text("utf-8"))
    assert "Ann <b>, CC BY 4.0" in page.text
    assert "credit" in page.attributes("class")


@pytest.mark.usefixtures("photos")
def test_equal_comparisons_give_equal_bytes(compare, catalog, tmp_path):
    first = write_report(tmp_path / "a.html", compare("a", "b"), catalog).read_bytes()
    assert write_report(tmp_path / "b.html", compare("a", "b"), catalog).read_bytes() == first
    assert write_report(tmp_path / "c.html", compare("a", "b"), catalog, seed=1).read_bytes() != first


@pytest.mark.usefixtures("photos")
def test_names_cannot_break_the_page(compare, catalog, tmp_path):
    written = write_report(tmp_path / "r.html", compare("$x_1$ </svg><b>", "塔 & tour"), catalog).read_text("utf-8")
    page = Page(written)
    assert "<script" not in written
    assert "</svg><b>" not in written
    assert HOSTILE in page.text, "shown letter by letter"
    assert "$x_ 1$ </svg><b>" in page.text, "with a place to break after the underscore"
    assert "triplet <hard>" in page.text


def test_missing_photos_become_boxes(compare, catalog, tmp_path):
    page = Page(write_report(tmp_path / "r.html", compare("a"), catalog).read_text("utf-8"))
    assert page.text.count("photo not readable") > 20
    assert "img" not in {tag for tag, _ in page.tags}


def test_a_single_run_has_nothing_to_differ_from(compare, catalog, tmp_path):
    page = Page(write_report(tmp_path / "r.html", compare("alone", log=()), catalog).read_text("utf-8"))
    assert "#differences" not in page.attributes("href")
    assert "#training" not in page.attributes("href"), "nothing was trained"
    assert "Wrong in every run" not in page.text


def test_a_dataset_without_known_queries_still_has_a_page(make_catalog, make_predictions, tmp_path):
    catalog = make_catalog({1: 3, 2: 4}, {"x1": [], "x2": []})
    runs = [
        RunResult(name=name, title="", recipe={}, predictions=make_predictions(catalog, noise_seed=seed))
        for seed, name in enumerate("ab")
    ]
    path = write_report(tmp_path / "r.html", compare_runs(runs, catalog, resamples=5), catalog)
    assert "there is nothing to compare" in Page(path.read_text("utf-8")).text


def test_logs_without_validation_are_drawn_as_far_as_they_go(compare, catalog, tmp_path):
    log = [row | {"val_loss": None, "val_top1": None} for row in LOG]
    page = Page(write_report(tmp_path / "r.html", compare("a", log=log), catalog).read_text("utf-8"))
    assert "Loss of a" in page.text
    assert "Validation top-1" not in page.text


def test_without_matplotlib_the_extra_is_named_and_nothing_is_written(compare, catalog, tmp_path, monkeypatch):
    comparison = compare("a")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"the report needs the extra `train`.*pip install"):
        write_report(tmp_path / "r.html", comparison, catalog)
    assert not (tmp_path / "r.html").exists()


def test_the_sample_has_every_kind_of_query_and_follows_the_seed(compare):
    comparison = compare("a", "b")
    right = np.array([arm.outcomes.right for arm in comparison.arms])
    known = comparison.first.outcomes.known
    some, every, no_run, distractors = sample_queries(comparison, seed=3)
    assert all(known[row] and len(set(right[:, row])) == 2 for row in some.rows)
    assert all(right[:, row].all() for row in every.rows)
    assert all(known[row] and not right[:, row].any() for row in no_run.rows)
    assert not known[list(distractors.rows)].any()
    assert sum(kind.count for kind in (some, every, no_run, distractors)) == len(known)
    assert sample_queries(comparison, seed=3) == [some, every, no_run, distractors]
    assert sample_queries(comparison, seed=4) != [some, every, no_run, distractors]


def test_frames_say_which_neighbors_are_right(make_catalog, tmp_path):
    catalog = make_catalog({1: 2, 2: 2}, {"q": [1]})
    predictions = collect_predictions(
        query_ids=["q"],
        truths=[[1]],
        candidates=[[2, 1]],
        scores=[[0.6, 0.4]],
        confidence=[0.62],
        neighbors=[["r2-000", "r1-001", "r2-001", "r1-000"]],
        similarities=[[0.875, 0.5, 0.25, 0.0]],
    )
    run = RunResult(name="run", title="", recipe={}, predictions=predictions)
    written = write_report(tmp_path / "r.html", compare_runs([run], catalog, resamples=5), catalog).read_text("utf-8")
    figures = re.findall(
        r'<figure class="(right|wrong)" title="([^"]*)">.*?class="mark (?:good|bad)".*?>(.)</span>', written
    )
    assert figures == [
        ("wrong", "Place 2 · r2-000", "✗"),
        ("right", "Place 1 · r1-001", "✓"),
        ("wrong", "Place 2 · r2-001", "✗"),
    ], "three neighbors voted"
    assert "s 0.875" in written
    assert "d 0.500" in written
    assert "confidence 0.62" in written


def test_real_photos_are_embedded_small(real_photos, make_predictions, tmp_path):
    whole = read_catalog(real_photos)
    catalog = type(whole)(
        root=whole.root,
        references=whole.references,
        queries=pl.concat([whole.select_known_queries().head(60), whole.select_distractors().head(20)]).sort(
            "image_id"
        ),
        landmarks=whole.landmarks,
    )
    runs = [
        RunResult(name=name, title="", recipe={}, predictions=make_predictions(catalog, noise_seed=seed))
        for seed, name in enumerate(("one", "two"))
    ]
    path = write_report(tmp_path / "r.html", compare_runs(runs, catalog, resamples=20), catalog)
    page = Page(path.read_text("utf-8"))
    photos = page.attributes("src")
    assert len(photos) > 80
    assert max(map(len, photos)) < 60_000
    assert "photo not readable" not in page.text
