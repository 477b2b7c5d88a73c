"""The house's own rules, read from its source: names that stand once, small folders, short functions, clean imports."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

import obelisk

PACKAGE = Path(obelisk.__file__).parent
TESTS = Path(__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

# What exists on one operating system only.
UNPORTABLE = ("fcntl", "grp", "pwd", "resource", "termios", "msvcrt", "winreg")
# What an installation without extras lacks.
EXTRAS = (
    "torch",
    "torchvision",
    "timm",
    "pytorch_metric_learning",
    "safetensors",
    "onnx",
    "onnxscript",
    "matplotlib",
    "psycopg",
)
# Training is an extra, and so is what uses it.
NOT_CORE = ("obelisk.training", "obelisk.experiments", "obelisk.bench.naive", "obelisk.gallery.postgres")


def named(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def stand_twice(found: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    places = defaultdict(list)
    for name, place in found:
        places[name].append(place)
    return {name: there for name, there in places.items() if len(there) > 1}


def test_no_file_name_stands_twice() -> None:
    """A command's file bears the command's name, which a room may bear, too."""
    found = ((path.name, named(path)) for path in FILES if path.parent != PACKAGE / "cli")
    assert stand_twice(pair for pair in found if pair[0] != "__init__.py") == {}


def test_no_function_or_class_name_stands_twice() -> None:
    defined = (
        (node.name, named(path))
        for path, tree in TREES.items()
        for node in tree.body
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and not node.name.startswith("__")
    )
    assert stand_twice(defined) == {}


def test_folders_of_the_training_room_are_small() -> None:
    sizes = Counter(named(path.parent) for path in FILES if named(path).startswith("training/"))
    assert {folder: size for folder, size in sizes.items() if size > 10} == {}


def test_few_functions_are_long() -> None:
    lengths = {
        f"{named(path)}:{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, FUNCTIONS)
    }
    long = {name: length for name, length in lengths.items() if length > 40}
    assert len(long) <= 0.02 * len(lengths), long


def run_python(code: str, *arguments: str) -> object:
    """Run code in a fresh interpreter and return the JSON that it prints last."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# Imports the modules of the first argument, with those of the second out of reach, and reports what fails.
IMPORT_ALL = """
import importlib, json, sys, traceback
modules, blocked = map(json.loads, sys.argv[1:])
for name in blocked:
    sys.modules[name] = None
failed = {}
for name in modules:
    try:
        importlib.import_module(name)
    except Exception:
        failed[name] = traceback.format_exc().splitlines()[-3:]
print(json.dumps(failed))
"""


def test_the_core_imports_on_every_system_and_without_extras() -> None:
    core = [name for name in map(module_of, FILES) if not name.startswith(NOT_CORE) and name != "obelisk.__main__"]
    assert len(core) > 100
    assert run_python(IMPORT_ALL, json.dumps(core), json.dumps([*UNPORTABLE, *EXTRAS])) == {}


# Imports what the package builds on, then every module of the package, and reports what changed in the process.
LOOK_AT_PROCESS = """
import importlib, json, os, signal, sys, threading, warnings
os.environ["PYDANTIC_DISABLE_PLUGINS"] = "1"  # else pydantic reads the entry points of every installed package
import faiss, numpy, onnxruntime, polars, pydantic, rich, typer
import cv2, matplotlib, onnx, psycopg, pytorch_metric_learning, safetensors, sklearn.neighbors, timm, torch
from PIL import Image, ImageFile

def look():
    return {
        "signal handlers": [str(signal.getsignal(number)) for number in signal.valid_signals()],
        "threads": threading.active_count(),
        "native threads": len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 0,
        "threads of OpenCV": cv2.getNumThreads(),
        "threads of torch": [torch.get_num_threads(), torch.get_num_interop_threads()],
        "threads of faiss": faiss.omp_get_max_threads(),
        "determinism": [torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark],
        "gradients": torch.is_grad_enabled(),
        "random numbers": [str(numpy.random.get_state()), int(torch.random.initial_seed())],
        "limits of Pillow": [Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES],
        "warnings": [str(one) for one in warnings.filters],
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "hooks": [str(sys.excepthook), str(threading.excepthook), str(sys.displayhook)],
    }

opened = []
before = look()
sys.addaudithook(lambda event, found: opened.append(str(found[0])) if event == "open" else None)
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
after = look()
changed = {key: [before[key], after[key]] for key in before if before[key] != after[key]}
print(json.dumps([changed, sorted(set(opened) - set(sys.path))]))
"""


def test_importing_a_module_changes_nothing_in_the_process_and_opens_no_file() -> None:
    every = [name for name in map(module_of, FILES) if name != "obelisk.__main__"]
    changed, opened = run_python(LOOK_AT_PROCESS, json.dumps(every))
    assert changed == {}
    assert [path for path in opened if not path.endswith((".py", ".pyc", ".so"))] == []


def test_text_is_read_and_written_as_utf8_on_every_system() -> None:
    """Windows would take its own encoding for it."""
    unnamed = [
        f"{named(path)}:{node.lineno}"
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith((".read_text", ".write_text"))
        if "encoding" not in {word.arg for word in node.keywords} and ast.unparse(node.func) != "installed.read_text"
    ]
    assert unnamed == []


def test_no_test_waits_for_another_process_without_a_limit() -> None:
    """A thread's ``join``, a process's ``wait``: by the name alone. `str.join` and the like take an argument."""
    waits = {"communicate", "wait", "join", "get"}
    endless = [
        f"{path.relative_to(TESTS).as_posix()}:{node.lineno}"
        for path in sorted(TESTS.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if (node.func.attr in waits and not node.args and not node.keywords)
        or (ast.unparse(node.func) == "subprocess.run" and "timeout" not in {word.arg for word in node.keywords})
    ]
    assert endless == []
