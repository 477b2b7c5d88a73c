"""What ``import obelisk`` costs: next to nothing."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import obelisk

HEAVY = ["faiss", "matplotlib", "numpy", "onnxruntime", "PIL", "polars", "pydantic", "timm", "torch", "typer"]


def run_python(code: str) -> object:
    """Run code in a fresh interpreter and return the JSON that it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return json.loads(done.stdout)


def test_importing_loads_nothing_heavy_and_starts_no_thread() -> None:
    code = (
        "import json, sys, threading, obelisk\n"
        "print(json.dumps([sorted(sys.modules), threading.active_count(), obelisk.__version__]))"
    )
    modules, threads, version = run_python(code)
    assert [name for name in HEAVY if name in modules] == []
    assert threads == 1
    assert version == obelisk.__version__


def test_importing_opens_no_file_but_its_own_code() -> None:
    code = (
        "import json, sys\n"
        "opened = []\n"
        "sys.addaudithook(lambda event, found: opened.append(str(found[0])) if event == 'open' else None)\n"
        "import obelisk\n"
        "print(json.dumps(opened))"
    )
    assert [path for path in run_python(code) if not path.endswith((".py", ".pyc"))] == []


def test_recognising_and_the_command_line_load_no_torch() -> None:
    code = (
        "import json, sys, obelisk\n"
        "import obelisk.cli.main\n"
        "found = [getattr(obelisk, name) for name in obelisk.__all__]\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    modules = run_python(code)
    assert [name for name in ("torch", "timm", "matplotlib") if name in modules] == []
    assert "obelisk.recognition" in modules


@pytest.mark.parametrize("name", obelisk.__all__)
def test_every_public_name_resolves_and_is_listed(name: str) -> None:
    assert getattr(obelisk, name) is not None
    assert name in dir(obelisk)


@pytest.mark.parametrize("name", [name for name in obelisk.__all__ if name != "__version__"])
def test_every_public_name_has_an_example(name: str) -> None:
    documented = getattr(obelisk, name).__doc__
    assert "Example::" in documented or ">>> " in documented


def test_the_public_names_are_sorted_and_their_homes_are_known() -> None:
    assert list(obelisk.__all__) == sorted(obelisk.__all__)
    assert {*obelisk._HOMES, "__version__"} == set(obelisk.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Recogniser'"):
        _ = obelisk.Recogniser
