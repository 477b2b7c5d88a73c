"""What is installed beside the package: the lock files agree with pyproject.toml and with the versions tested."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PINNED = re.compile(
    r"^([A-Za-z0-9._-]+)==([^ \\]+)(?: ; [^\\]*)? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.M
)


def read_lock(name: str) -> dict[str, str]:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert PINNED.sub("", text).strip() == "", "each line is a version with its hashes"
    return {canonicalize_name(package): version for package, version, _ in PINNED.findall(text)}


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-all.lock"])
def test_a_lock_holds_the_versions_tested_and_all_that_is_required(name: str) -> None:
    locked = read_lock(name)
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    tested = dict(line.split("==") for line in lines if "==" in line)
    tested = {canonicalize_name(package): version for package, version in tested.items()}
    assert {package: tested.get(package, version) for package, version in locked.items()} == locked
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values() if "all" in name else []
    required = [Requirement(line) for line in sum(extras, project["dependencies"])]
    assert [str(one) for one in required if locked.get(canonicalize_name(one.name), "0") not in one.specifier] == []


def test_the_core_is_locked_without_extras() -> None:
    assert not {"torch", "onnx", "matplotlib", "pillow-heif", "pytest"} & read_lock("requirements.lock").keys()
