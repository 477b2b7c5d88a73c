"""The pages say what is true: links lead somewhere, examples run, commands parse, generated pages are fresh."""

from __future__ import annotations

import doctest
import importlib.util
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote

import pytest
import typer

import obelisk
from obelisk.bundled import bundled_gallery
from obelisk.cli.main import make_app
from obelisk.config import load_ablation, load_recipe, shipped_ablations, shipped_recipes
from obelisk.data import read_catalog
from obelisk.gallery import build_gallery
from obelisk.wording import describe_answer

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
CODE = re.compile(r"`([^`\n]+)`")
FACTS = ("command", "hardware", "expected")
# What a path in backticks may be relative to.
PATH_ROOTS = [ROOT, ROOT / "src/obelisk"]
FOLDERS = ("src/", "tests/", "docs/", "tools/", "examples/", ".ci/")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def find_blocks(page: Path, language: str) -> list[str]:
    return [code for found, code in FENCED.findall(page.read_text(encoding="utf-8")) if found == language]


def anchor_of(heading: str) -> str:
    """The anchor that GitHub gives a heading: lower case, no punctuation, a dash for a space."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def find_commands() -> Iterator[tuple[str, str]]:
    """Every obelisk command in the shell examples of the pages and in the headers of shipped recipes."""
    for page in PAGES:
        for block in find_blocks(page, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                for part in line.split(" | "):
                    if part.strip().startswith("obelisk "):
                        yield name_of(page), part.strip()
    for name in (*shipped_recipes(), *(f"ablations/{name}" for name in shipped_ablations())):
        if command := read_header(name).get("command"):
            yield f"{name}.toml", command


def read_header(recipe: str) -> dict[str, str]:
    """The facts in the comment at the top of a shipped recipe."""
    return {
        found[1]: found[2] for found in re.finditer(r"^# (command|hardware|expected) +(\S.*)$", text_of(recipe), re.M)
    }


def text_of(recipe: str) -> str:
    return (ROOT / "src/obelisk/recipes" / f"{recipe}.toml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "docs"))
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def workplace(tiny_dataset: Path, tiny_run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the examples name: two galleries and a photo."""
    folder = tmp_path_factory.mktemp("workplace")
    catalog = read_catalog(tiny_dataset)
    built = build_gallery(folder / "mycity", catalog, tiny_run.bundle).gallery
    shutil.copytree(built.path, folder / "demo-out/gallery")
    (folder / "photo.jpg").write_bytes(catalog.locate_photos(catalog.queries)[0].read_bytes())
    return folder


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_a_page_and_a_heading(page: Path) -> None:
    dead = []
    for target in LINK.findall(FENCED.sub("", page.read_text(encoding="utf-8"))):
        path, _, anchor = unquote(target).partition("#")
        if "://" in target:
            continue
        there = page.parent / path if path else page
        headings = (
            HEADING.findall(there.read_text(encoding="utf-8")) if there.suffix == ".md" and there.is_file() else []
        )
        if not there.exists() or (anchor and anchor not in map(anchor_of, headings)):
            dead.append(target)
    assert dead == []


def find_repository_paths(page: Path) -> list[str]:
    """What stands in backticks and looks like a file of the repository, or a folder of it."""
    prose = FENCED.sub("", page.read_text(encoding="utf-8"))
    words = [code for code in CODE.findall(prose) if re.fullmatch(r"[\w./-]+", code)]
    return [
        word for word in words if word.startswith(FOLDERS) or word.endswith((".py", "project.toml", "constraints.txt"))
    ]


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=name_of)
def test_a_path_in_backticks_exists(page: Path) -> None:
    files = {path.name for folder in ("src", "tests", "tools", "docs") for path in (ROOT / folder).rglob("*.py")}
    dead = [
        path
        for path in find_repository_paths(page)
        if not any((root / path).exists() for root in PATH_ROOTS) and not ("/" not in path and path in files)
    ]
    assert dead == []


def resolve(name: str) -> Any:
    """What a dotted name stands for: a module, or an attribute of what stands before its last dot."""
    try:
        return importlib.import_module(name)
    except ImportError:
        before, _, attribute = name.rpartition(".")
        if before == "obelisk" or not before:
            return getattr(obelisk, attribute)
        return getattr(resolve(before), attribute)


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=name_of)
def test_a_python_name_in_backticks_exists(page: Path) -> None:
    words = CODE.findall(FENCED.sub("", page.read_text(encoding="utf-8")))
    names = {found[1] for word in words if (found := re.fullmatch(r"(obelisk(?:\.\w+)+)(?:\(.*\))?", word))}
    unknown = []
    for name in sorted(names):
        try:
            resolve(name)
        except AttributeError:
            unknown.append(name)
    assert unknown == []


IMPORT = re.compile(r"^(?:>>> )?from (obelisk[\w.]*) import (.+)$", re.MULTILINE)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if IMPORT.search(page.read_text(encoding="utf-8"))], ids=name_of
)
def test_what_a_block_of_code_imports_exists(page: Path) -> None:
    found = IMPORT.findall(page.read_text(encoding="utf-8"))
    names = [f"{module}.{name.strip().split(' as ')[0]}" for module, imported in found for name in imported.split(",")]
    unknown = []
    for name in names:
        try:
            resolve(name)
        except AttributeError:
            unknown.append(name)
    assert unknown == []


def test_the_tree_of_the_readme_is_the_tree() -> None:
    (tree,) = [block for block in find_blocks(ROOT / "README.md", "") if "src/obelisk/" in block]
    listed: set[str] = set()
    room = ""
    for line in tree.splitlines():
        name = line.split()[0]
        if line.startswith("    "):
            listed.add(f"src/obelisk/{room}{name}")
        elif line.startswith("  "):
            room = name
            listed.add(f"src/obelisk/{name}")
        else:
            listed.add(name)
    assert [path for path in sorted(listed) if not (ROOT / path).exists()] == []
    rooms = {f"src/obelisk/{path.parent.name}/" for path in (ROOT / "src/obelisk").glob("*/__init__.py")}
    assert rooms - listed == set()


def read_rows(page: str, *, columns: int) -> list[tuple[str, ...]]:
    """The first numbers of each table row of a page, intervals left out."""
    rows = []
    for line in (ROOT / page).read_text(encoding="utf-8").splitlines():
        cells = [re.sub(r" \(.*\)$", "", cell.strip()) for cell in line.strip().strip("|").split("|")]
        numbers = tuple(cell for cell in cells[1:] if re.fullmatch(r"[\d.]+", cell))
        if line.startswith("|") and len(numbers) >= columns:
            rows.append(numbers[:columns])
    return rows


def test_the_numbers_of_the_readme_are_those_of_the_results() -> None:
    rows = read_rows("README.md", columns=4)
    assert len(rows) >= 6
    assert [row for row in rows if row not in read_rows("docs/results.md", columns=4)] == []
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme[readme.index("## Results") : readme.index("## Where things are")]
    differences = re.findall(r"\+[\d.]+(?: \([^)]*…[^)]*\))?", section)
    assert differences
    results = (ROOT / "docs/results.md").read_text(encoding="utf-8").replace("−", "+")
    assert [difference for difference in differences if difference not in results] == []
    (unseen,) = re.findall(r"first candidate\s+is right (\d+) %", readme)
    (first,) = re.findall(r"first candidate, named or not, is right for (\.\d+) of", results)
    assert round(100 * float(first)) == int(unseen)
    (asked, reached) = re.findall(r"Asked for\s+(\d+) % right answers, .* give (\d+) %", readme)[0]
    (precision,) = re.findall(rf"\*\*\.{asked}\*\* \| \*\*(\.\d+) ", results)
    assert round(100 * float(precision)) == int(reached)


def test_the_readme_shows_what_recognize_says_to_a_photo_of_no_landmark(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    ((picture, line),) = re.findall(r"^(docs/pictures/\S+)  (.*)$", readme, re.M)
    (answer,) = obelisk.Recognizer.open(bundled_gallery()).recognize([picture])
    # Runtimes differ by rounding.
    near = [replace(answer, confidence=max(0.0, answer.confidence + off)) for off in (-0.005, 0.0, 0.005)]
    assert line in map(describe_answer, near)
    assert line.startswith("not a landmark I know")


def test_the_citation_gives_the_version_and_licence_of_the_package() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    fields = dict(re.findall(r"^([\w-]+): (.+)$", citation, re.M))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (fields["cff-version"], fields["version"], fields["license"]) == (
        "1.2.0",
        project["version"],
        project["license"],
    )
    assert fields["title"]
    assert fields["message"]
    assert '- name: "The Obelisk contributors"' in citation


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_rows_of_a_table_have_as_many_cells_as_its_head(page: Path) -> None:
    uneven = []
    cells = 0
    for line in FENCED.sub("", page.read_text(encoding="utf-8")).splitlines():
        if not line.startswith("|"):
            cells = 0
            continue
        found = len(re.findall(r"(?<!\\)\|", line)) - 1
        cells = cells or found
        if found != cells:
            uneven.append(line)
    assert uneven == []


def test_every_page_is_linked_from_another() -> None:
    linked = {
        (page.parent / target.partition("#")[0]).resolve()
        for page in PAGES
        for target in LINK.findall(page.read_text(encoding="utf-8"))
        if "://" not in target and not target.startswith("#")
    }
    assert [name_of(page) for page in PAGES if page.parent == ROOT / "docs" and page not in linked] == []


def test_the_examples_of_the_metrics_page_give_what_they_show() -> None:
    examples = "\n".join(find_blocks(ROOT / "docs/metrics.md", "python"))
    reported: list[str] = []
    test = doctest.DocTestParser().get_doctest(examples, {}, "docs/metrics.md", None, 0)
    outcome = doctest.DocTestRunner(verbose=False).run(test, out=reported.append)
    assert outcome.failed == 0, "".join(reported)
    assert outcome.attempted > 25


@pytest.mark.parametrize("page", ["README.md", "docs/how-to.md", "docs/tutorial.md", "docs/gallery-format.md"])
def test_the_python_of_a_page_runs_from_top_to_bottom(
    page: str, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workplace)
    names: dict[str, Any] = {}
    blocks = find_blocks(ROOT / page, "python")
    assert blocks
    for number, block in enumerate(blocks, start=1):
        exec(compile(block, f"{page}, block {number}", "exec"), names)
    assert "Traceback" not in capsys.readouterr().out


@pytest.mark.parametrize("writable", [True, False])
def test_reading_a_gallery_without_obelisk_leaves_nothing_behind(
    writable: bool, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace)
    # who runs the tests may be allowed everything
    monkeypatch.setattr("os.access", lambda path, mode: writable)
    exec(find_blocks(ROOT / "docs/gallery-format.md", "python")[0], {})
    assert sorted(path.name for path in Path("mycity").iterdir()) == ["gallery.sqlite", "model"]


@pytest.mark.parametrize(("place", "line"), list(find_commands()))
def test_a_command_of_a_page_parses(place: str, line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line, comments=True)[1:]
    if ">" in words:
        words = words[: words.index(">")]
    command = typer.main.get_command(make_app())
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    assert not hasattr(command, "commands"), f"obelisk has no command `{' '.join(words[:1])}`"
    command.make_context("obelisk", list(words))


@pytest.mark.parametrize(("place", "line"), [(p, c) for p, c in find_commands() if c.startswith("obelisk train ")])
def test_the_recipe_of_a_page_loads(place: str, line: str) -> None:
    words = shlex.split(line, comments=True)
    overrides = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    assert load_recipe(words[2], overrides).name


@pytest.mark.parametrize("block", find_blocks(ROOT / "docs/how-to.md", "toml"))
def test_the_recipe_file_of_the_how_to_loads(block: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(block, encoding="utf-8")
    load = load_ablation if "[factors." in block else load_recipe
    assert load(str(tmp_path / "mine.toml")).name


@pytest.mark.parametrize("name", ["recipes.md", "cli.md", "api.md", "landmarks.md"])
def test_a_generated_page_is_fresh(generator: ModuleType, name: str) -> None:
    remedy = f"docs/{name} is not what the code says: run `python docs/generate.py`"
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == generator.render_pages()[name], remedy


def test_the_reference_describes_every_public_name_once() -> None:
    page = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    anchors = [anchor_of(heading) for heading in HEADING.findall(FENCED.sub("", page))]
    assert [anchor for anchor in anchors if anchors.count(anchor) > 1] == []
    assert {anchor_of(name) for name in obelisk.__all__ if not name.startswith("__")} <= set(anchors)


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_loads_and_has_a_title(name: str) -> None:
    assert load_recipe(name).title


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_says_how_to_run_it_and_what_comes_of_it(name: str) -> None:
    header = read_header(name)
    assert [fact for fact in FACTS if fact not in header] == []
    assert header["command"].startswith(f"obelisk train {name} ")
