"""The format of Revisited Oxford and Paris: ``gnd_roxford5k.pkl`` (or ``.mat``) beside ``jpg/all_souls_000013.jpg``.

The ground truth lists the photos of the database (``imlist``) and the queries (``qimlist``). For each query, ``gnd``
has a box to crop and the numbers of the photos that show the landmark well (``easy``), with difficulty (``hard``) or
hardly at all (``junk``). Radenović, Iscen, Tolias, Avrithis & Chum, *Revisiting Oxford and Paris: Large-Scale Image
Retrieval Benchmarking*, CVPR 2018.

A pickle may run any program when it is read, so only lists, texts, numbers and NumPy arrays are read from it.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from obelisk.arrays import Integers
from obelisk.errors import DataError
from obelisk.files import read_limited
from obelisk.photos import photo_exists

Box = tuple[float, float, float, float]
"""left, top, right, bottom in pixels of the upright photo"""

SIZES: Final = {"roxford5k": (4993, 70), "rparis6k": (6322, 70)}
"""name → photos of the database and queries, as published"""
LABELS: Final = ("easy", "hard", "junk")
LARGEST: Final = 2**26  # bytes; the published files have less than one million
FOLDERS: Final = ("jpg", ".")
# Arrays are pickled as a call of one of these, under its old name or its new one.
SAFE_GLOBALS: Final = frozenset(
    {
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
        ("_codecs", "encode"),
    }
)


@dataclass(frozen=True, kw_only=True, eq=False)
class RevisitedQuery:
    """A query: its photo, the box to crop, and the row numbers (n,) of the database photos that show its landmark."""

    name: str
    path: Path
    box: Box
    easy: Integers
    hard: Integers
    junk: Integers


@dataclass(frozen=True, kw_only=True, eq=False)
class RevisitedDataset:
    """The database of a benchmark, in the order of its numbers, and the queries. ``notes`` say how it is unusual."""

    name: str
    photos: Sequence[Path]
    queries: Sequence[RevisitedQuery]
    notes: tuple[str, ...] = ()


def read_revisited(directory: Path, name: str) -> RevisitedDataset:
    """Read a benchmark, ``roxford5k`` or ``rparis6k``, from its folder.

    Raises DataError if the ground truth is missing or is not one, and if photos are missing: figures of an incomplete
    benchmark can't be compared with any other.
    """
    directory = Path(directory)
    path = find_ground_truth(directory, name)
    fields = read_pickle(path) if path.suffix == ".pkl" else read_matlab(path)
    database, names = (read_photo_names(fields, key, path) for key in ("imlist", "qimlist"))
    truth = fields.get("gnd")
    if not isinstance(truth, list | tuple) or len(truth) != len(names):
        found = len(truth) if isinstance(truth, list | tuple) else "no"
        raise unusable(path, f"{found} entries in `gnd` for {len(names)} queries")
    photos = locate_benchmark_photos(directory, database, names)
    queries = [
        read_query_truth(entry, query, photos[query], len(database), path)
        for query, entry in zip(names, truth, strict=True)
    ]
    notes: tuple[str, ...] = ()
    if (len(database), len(queries)) != SIZES[name]:
        what = f"{len(database):,} photos and {len(queries):,} queries, but {name} has {SIZES[name][0]:,} and"
        notes = (f"{path}: {what} {SIZES[name][1]}: figures can't be compared with published ones",)
    return RevisitedDataset(name=name, photos=[photos[one] for one in database], queries=queries, notes=notes)


def find_ground_truth(directory: Path, name: str) -> Path:
    """Return the path of the ground truth, a pickle or a MATLAB file."""
    for suffix in (".pkl", ".mat"):
        if (path := directory / f"gnd_{name}{suffix}").is_file():
            return path
    others = sorted(other for other in SIZES if other != name and any(directory.glob(f"gnd_{other}.*")))
    if others:
        raise DataError(f"the ground truth of {others[0]}, not {name}", where=directory, fix=f"--protocol {others[0]}")
    fix = f"put gnd_{name}.pkl there, from http://cmp.felk.cvut.cz/revisitop, and the photos into its folder `jpg`"
    raise DataError(f"`gnd_{name}.pkl` is missing", where=directory, fix=fix)


class PlainUnpickler(pickle.Unpickler):
    """Reads lists, dicts, texts, numbers and NumPy arrays, and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what a pickle wants to call, if that only makes an array."""
        if (module, name) not in SAFE_GLOBALS:
            raise pickle.UnpicklingError(f"it wants to call {module}.{name}")
        return super().find_class(module, name)


def read_pickle(path: Path) -> Mapping[str, Any]:
    """Read the ground truth from a pickle."""
    data = io.BytesIO(read_limited(path, LARGEST))
    try:
        found = PlainUnpickler(data, encoding="latin1").load()
    except Exception as error:
        # A damaged pickle raises exceptions of nearly any class.
        raise unusable(path, f"it can't be read: {error}") from error
    if not isinstance(found, dict):
        raise unusable(path, "no dictionary")
    return found


def read_matlab(path: Path) -> Mapping[str, Any]:
    """Read the ground truth from a MATLAB file, which counts photos from 1."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        fix = f"`pip install scipy`, or use gnd_{path.stem[4:]}.pkl"
        raise DataError("a MATLAB file needs SciPy", where=path, fix=fix) from error
    try:
        found = loadmat(io.BytesIO(read_limited(path, LARGEST)), squeeze_me=True)
        truth = np.atleast_1d(found["gnd"])
        return {
            "imlist": np.atleast_1d(found["imlist"]).tolist(),
            "qimlist": np.atleast_1d(found["qimlist"]).tolist(),
            "gnd": [
                {"bbx": entry["bbx"], **{label: np.atleast_1d(entry[label]) - 1 for label in LABELS}} for entry in truth
            ],
        }
    except Exception as error:
        raise unusable(path, f"it can't be read: {error}") from error


def read_photo_names(fields: Mapping[str, Any], key: str, path: Path) -> list[str]:
    """Return the names of photos, which have no suffix."""
    names = fields.get(key)
    if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) for name in names):
        raise unusable(path, f"no list of names in `{key}`")
    if bad := next((name for name in names if not name or Path(name).name != name or "\\" in name), None):
        raise unusable(path, f"`{key}` names {bad!r}, which is no name of a file")
    if len(set(names)) != len(names):
        raise unusable(path, f"a name stands twice in `{key}`")
    return list(names)


def locate_benchmark_photos(directory: Path, database: Sequence[str], queries: Sequence[str]) -> dict[str, Path]:
    """Return the files of all photos, by name."""
    wanted = [*database, *queries]
    for folder in FOLDERS:
        paths = {name: directory / folder / f"{name}.jpg" for name in wanted}
        if photo_exists(paths[wanted[0]]) or folder == FOLDERS[-1]:
            break
    absent = [path for path in paths.values() if not photo_exists(path)]
    if absent:
        what = f"{len(absent):,} of the {len(paths):,} photos that the ground truth lists are not on disk"
        if len(absent) == len(paths):
            absent, what = [directory / "jpg" / absent[0].name], "no photo that the ground truth lists is on disk"
        raise DataError(what, where=absent[0], fix="unpack all of the benchmark's photos there")
    return paths


def read_query_truth(entry: Any, query: str, photo: Path, size: int, path: Path) -> RevisitedQuery:
    """Check and return the ground truth of a query, whose numbers are those of ``size`` photos."""
    if not isinstance(entry, dict):
        raise unusable(path, f"query `{query}`: no dictionary")
    numbers = {}
    for label in LABELS:
        found = np.asarray(entry.get(label, ())).ravel()
        if found.size and (found.dtype.kind not in "iu" and not np.array_equal(found, found.astype(np.int64))):
            raise unusable(path, f"query `{query}`: `{label}` are no numbers of photos")
        numbers[label] = rows = found.astype(np.int64)
        if rows.size and not 0 <= rows.min() <= rows.max() < size:
            wrong = rows.min() if rows.min() < 0 else rows.max()
            raise unusable(path, f"query `{query}`: `{label}` has number {wrong}, but the photos are 0 to {size - 1}")
    joined = np.concatenate(list(numbers.values()))
    if len(np.unique(joined)) != len(joined):
        raise unusable(path, f"query `{query}`: a photo stands twice among its easy, hard and junk ones")
    try:
        left, top, right, bottom = (float(edge) for edge in np.asarray(entry.get("bbx")).ravel())
    except (TypeError, ValueError) as error:
        raise unusable(path, f"query `{query}`: no box of four numbers in `bbx`") from error
    if not (np.isfinite([left, top, right, bottom]).all() and left < right and top < bottom):
        raise unusable(path, f"query `{query}`: its box ({left:g}, {top:g}, {right:g}, {bottom:g}) is empty")
    return RevisitedQuery(name=query, path=photo, box=(left, top, right, bottom), **numbers)


def unusable(path: Path, what: str) -> DataError:
    """Return the error of a file that is no ground truth of this format."""
    fix = "download it again from http://cmp.felk.cvut.cz/revisitop"
    return DataError(f"not a ground truth of Revisited Oxford or Paris: {what}", where=path, fix=fix)
