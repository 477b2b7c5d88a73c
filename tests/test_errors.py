"""The command that installs a missing extra: it fits the way in which Obelisk was installed."""

from __future__ import annotations

import ast
import json
import shlex
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from obelisk.errors import MissingExtraError, install_command

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
METADATA = """Metadata-Version: 2.4
Name: obelisk-landmarks
Version: 9
Requires-Dist: numpy>=2.0
Provides-Extra: train
Requires-Dist: torch>=2.8; extra == 'train'
Requires-Dist: timm>=1.0.15; (python_version >= "3.11") and extra == "train"
"""

Install = Callable[[dict[str, object] | None], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Make Python see an installation of Obelisk that pip recorded with this source, or with none."""

    def record(source: dict[str, object] | None) -> None:
        folder = tmp_path / "site" / "obelisk_landmarks-9.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(METADATA)
        if source is not None:
            (folder / "direct_url.json").write_text(json.dumps(source))
        monkeypatch.syspath_prepend(str(folder.parent))

    return record


def words_of(command: str) -> list[str]:
    """What pip is given, as a shell reads the command."""
    words = shlex.split(command)
    start = words.index("install")
    assert words[:start] in (["pip"], [sys.executable, "-m", "pip"])
    return words[start + 1 :]


@pytest.mark.parametrize("editable", [False, True])
def test_an_installation_from_a_clone_names_the_clone(install: Install, tmp_path: Path, editable: bool) -> None:
    clone = tmp_path / "my clones" / "obelisk's"
    clone.mkdir(parents=True)
    install({"url": clone.as_uri(), "dir_info": {"editable": True} if editable else {}})
    assert words_of(install_command("train")) == [*["--editable"] * editable, f"{clone}[train]"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        pytest.param(None, ["obelisk-landmarks[train]"], id="from a package index"),
        pytest.param(
            {"url": "https://example.org/obelisk", "vcs_info": {"vcs": "git", "commit_id": "0123abc"}},
            ["obelisk-landmarks[train] @ git+https://example.org/obelisk@0123abc"],
            id="from a repository",
        ),
        pytest.param(
            {"url": "https://example.org/obelisk.whl", "archive_info": {}},
            ["obelisk-landmarks[train] @ https://example.org/obelisk.whl"],
            id="from an archive on the web",
        ),
        pytest.param(
            {"url": "file:///nowhere/obelisk", "dir_info": {}}, ["torch>=2.8", "timm>=1.0.15"], id="from a clone gone"
        ),
    ],
)
def test_another_installation_names_its_source(install: Install, source: dict[str, object], words: list[str]) -> None:
    install(source)
    assert words_of(install_command("train")) == words


def test_a_pip_of_another_environment_is_not_named(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(None)
    for folder in ("here", "elsewhere"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "pip").touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "here" / "python"))
    for folder, start in (("here", "pip install "), ("elsewhere", f"{tmp_path}/here/python -m pip install ")):
        monkeypatch.setenv("PATH", str(tmp_path / folder))
        assert install_command("train").startswith(start)


def test_this_installation_is_named_by_a_source_that_has_the_extra() -> None:
    """Made from a clone, as the README says, it is found again: a project that has the extra."""
    *_, source = words_of(install_command("train"))
    path, _, extra = source.partition("[")
    if path != "obelisk-landmarks":
        project = tomllib.loads((Path(path) / "pyproject.toml").read_text())["project"]
        assert project["name"] == "obelisk-landmarks"
        assert extra.removesuffix("]") in project["optional-dependencies"]


def extras_named() -> Iterator[tuple[str, str]]:
    """Every extra that the code asks for, with the file that does."""
    for path in sorted((ROOT / "src").rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text())):
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or not call.args:
                continue
            if call.func.id in ("MissingExtraError", "require_extra", "install_command"):
                (name, *_) = call.args
                if isinstance(name, ast.Constant):
                    yield name.value, path.name


def test_every_extra_that_errors_name_exists_and_every_extra_is_named() -> None:
    named = dict(extras_named())
    assert {extra: file for extra, file in named.items() if extra not in EXTRAS} == {}
    assert set(EXTRAS) - set(named) == {"dev"}


def test_the_error_says_what_for_and_how(install: Install) -> None:
    install(None)
    error = MissingExtraError("verify", needed_for="geometric verification")
    assert str(error).startswith("geometric verification needs the extra `verify` · ")
    assert error.fix.endswith("pip install 'obelisk-landmarks[verify]'")
    assert error.exit_code == 2
