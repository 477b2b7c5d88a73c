"""The commands of the core on a system that lacks what only POSIX has: simulated, by taking it away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from obelisk import files
from obelisk.data.download import http

# What Windows lacks of `os`, `signal` and the standard library; some of it macOS lacks, too.
WITHOUT_POSIX = """
import json, os, signal, sys
import faiss, numpy, onnxruntime, PIL.Image, polars, pydantic, rich.progress, typer  # they know each system themselves
import concurrent.futures, shutil, sqlite3, tarfile, tempfile, urllib.request

for name in ("fcntl", "grp", "posix", "pwd", "resource", "syslog", "termios", "tty"):
    sys.modules[name] = None
for name in (
    "chown", "fchmod", "fchown", "fork", "forkpty", "getgid", "getloadavg", "getpgid", "getuid", "geteuid", "killpg",
    "mkfifo", "nice", "posix_fadvise", "posix_fallocate", "pread", "process_cpu_count", "pwrite", "register_at_fork",
    "sched_getaffinity", "sched_setscheduler", "setsid", "statvfs", "sysconf", "uname",
    "O_DIRECTORY", "O_NOFOLLOW", "O_CLOEXEC", "SCHED_IDLE",
):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "alarm", "pthread_sigmask", "setitimer", "sigwait"):
    if hasattr(signal, name):
        delattr(signal, name)

from obelisk.cli.main import run
for words in json.loads(sys.argv[1]):
    sys.argv = ["obelisk", *words]
    code = 0
    try:
        run()
    except SystemExit as leaving:
        code = leaving.code or 0
    print("exit code", code, flush=True)
"""


def test_galleries_and_answers_need_nothing_that_only_posix_has(places: Path, run_folder: Path, tmp_path: Path) -> None:
    gallery, photo = tmp_path / "city", places / "Dome" / "0.png"
    lines = [
        (("data", "check", places), "no fault found"),
        (("data", "stats", places), "references"),
        (("data", "subset", places, "--landmarks", 2, "--out", tmp_path / "subset"), "subset"),
        (("gallery", "build", gallery, "--data", places, "--model", run_folder), ""),
        (("gallery", "rename", gallery, "塔", "--into", "故宮"), "故宮"),
        (("gallery", "add", gallery, photo, "--landmark", "Dome"), "is there already"),
        (("gallery", "remove", gallery, "--landmark", "故宮"), "removed landmark `故宮`"),
        (("gallery", "info", gallery, "--landmarks"), "Dome"),
        (("gallery", "check", gallery), "sound"),
        (("recognize", photo, "--gallery", gallery, "--threshold", 0), f"{photo}  Dome"),
        (("recognize", photo, "--gallery", gallery, "--explain", tmp_path / "pictures"), str(photo)),
    ]
    commands = json.dumps([list(map(str, words)) for words, _ in lines])
    # A Windows pipe has another encoding.
    environment = os.environ | {"PYTHONIOENCODING": "cp1252", "OBELISK_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_POSIX, commands],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        env=environment,
        timeout=300,
    )
    printed = done.stdout.decode("utf-8", errors="replace").split("exit code ")
    assert len(printed) == len(lines) + 1, printed[-1]
    for (_, said), output, code in zip(lines, printed, printed[1:], strict=False):
        assert said in output
        assert code[0] == "0"


def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "os", SimpleNamespace(**vars(os) | {"name": "nt"}))
    monkeypatch.delattr(files.os, "O_NOFOLLOW", raising=False)


def test_files_and_folders_are_replaced_where_no_folder_can_be_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows(monkeypatch)
    for name in ("made", "target"):
        (tmp_path / name).mkdir()
    (tmp_path / "made" / "a").write_text("a")
    files.move_folder(tmp_path / "made", tmp_path / "target")
    assert (tmp_path / "target" / "a").read_text() == "a"
    for text in ("old", "new"):
        files.replace_file(tmp_path / "file", lambda partial, text=text: partial.write_text(text))
    assert (tmp_path / "file").read_text() == "new"
    with open(tmp_path / "more", "ab", opener=http.without_links) as file:
        file.write(b"more")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "more", "target"]
