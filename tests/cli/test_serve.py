"""``obelisk serve``: what it says before it serves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from obelisk.recognition.calibration import UNCALIBRATED


@pytest.mark.parametrize("workers", [1, 2])
def test_a_gallery_without_calibration_is_reported_once(
    workers: int, tmp_path: Path, obelisk: Any, places: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[dict[str, Any]] = []
    monkeypatch.setattr(uvicorn, "run", lambda app, **options: served.append(options))
    monkeypatch.setattr(os, "environ", dict(os.environ))  # it leaves settings there for its workers
    monkeypatch.chdir(tmp_path)
    obelisk("gallery", "build", "own", "--data", places, "--model", run_folder)
    code, _, err = obelisk("serve", "--gallery", "own", "--workers", workers)
    assert (code, err.count(UNCALIBRATED), len(served)) == (0, 1, 1)
    code, _, err = obelisk("serve", "--gallery", "gone", "--workers", workers)
    assert (code, "no such gallery" in err, len(served)) == (2, True, 1)
