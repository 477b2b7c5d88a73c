"""Tables and tars that were made to hurt: each ends in an answer or a clean error, within 5 s and 512 MB."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytestmark = pytest.mark.stress

SECONDS, BYTES = 5.0, 512 * 2**20
PHOTO = "0/0/0/0000000000000000.jpg"
OTHER = "0/0/0/0000000000000001.jpg"

# Reads a dataset and checks it in a process of its own, because the high-water mark of memory never falls.
READ = """
import json, resource, sys
from pathlib import Path
import polars, numpy, PIL.Image
from obelisk.data import find_issues, read_catalog
from obelisk.errors import ObeliskError
from obelisk.photos import read_bytes
def used():
    status = Path("/proc/self/status")
    if status.exists():  # the high-water mark of getrusage counts the process that started this one, too
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
def seconds():
    found = resource.getrusage(resource.RUSAGE_SELF)
    return found.ru_utime + found.ru_stime
before, ended = used(), []
started = seconds()
for read in (
    lambda root: read_catalog(root),
    lambda root: sum(len(issues) for issues in find_issues(root)),
    lambda root: read_bytes(root / "train/images_000.tar/0/0/0/0000000000000000.jpg"),
):
    begun = seconds()
    try:
        read(Path(sys.argv[1]))
        ended.append(["done", "", seconds() - begun])
    except ObeliskError as error:
        ended.append([type(error).__name__, str(error), seconds() - begun])
print(json.dumps({"ended": ended, "bytes": used() - before}))
"""


def table(root: Path, content: bytes, name: str = "train.csv") -> None:
    (root / name).write_bytes(content)


def sparse(path: Path, size: int, start: bytes = b"") -> None:
    with path.open("wb") as file:
        file.write(start)
        file.truncate(size)


def repeated(root: Path, line: bytes, count: int, header: bytes = b"id,landmark_id\n", end: bytes = b"") -> None:
    with (root / "train.csv").open("wb") as file:
        file.write(header)
        for _ in range(count // 10_000):
            file.write(line * 10_000)
        file.write(line * (count % 10_000) + end)


HEADER = b"id,landmark_id\n"
SOUND = b"id,url,landmark_id\n0000000000000000,u,1\n"


def many(root: Path, line: Callable[[int], str], *, photo: bool = False) -> None:
    """Write as many rows as a table may have, and the first photo if it is to be on the disk."""
    with (root / "train.csv").open("w") as file:
        file.write("id,landmark_id\n")
        for begin in range(0, 4_790_000, 10_000):
            file.write("".join(map(line, range(begin, begin + 10_000))))
    if photo:
        (root / "train" / PHOTO).parent.mkdir(parents=True)
        (root / "train" / PHOTO).write_bytes(b"no photo")


WRONG = ("{0:016x},{1}", "{0:016x},x{1}", "{0:016x},", "{0:016X}.jpg,7.0", ",{1}", "{0:016x},{1}")


def mixed(number: int) -> str:
    return WRONG[number % len(WRONG)].format(number // 2, number) + "\n"


def at_random(number: int) -> str:
    return f"{number * 0x9E3779B97F4A7C15 % 2**64 % 4_790_000:016x},{number % 200_000}\n"


def clean_beside(root: Path, photos: int) -> None:
    """Write a full train.csv in which every id stands twice, and a train_clean.csv that disagrees with it."""
    many(root, lambda number: f"{number // 2:016x},{number}\n")
    with (root / "train_clean.csv").open("w") as file:
        file.write("landmark_id,images\n")
        for begin in range(0, photos, 100):
            listed = " ".join(f"{number:016x}" for number in range(begin, begin + 100))
            file.write(f"{begin},{listed}\n")


def cells_of_words(root: Path, name: str, header: bytes, rows: int, words: int) -> None:
    table(root, SOUND)
    with (root / name).open("wb") as file:
        file.write(header)
        for row in range(rows):
            file.write(b"%d,%s,\n" % (row, b"1 " * words))


def infinite(root: Path) -> None:
    beside(root, "landmarks.csv", b"landmark_id,name,latitude\n" + b"1,a,inf\n" * 1_000_000)


def wide(root: Path) -> None:
    table(root, b",".join(b"c%d" % number for number in range(200_000)) + b",id,landmark_id\n")


def many_commas(root: Path) -> None:
    table(root, HEADER + b"," * 15_000_000 + b"\n")


def spanning(root: Path) -> None:
    repeated(root, b'a,"\n"\n', 3_000_000)


def many_run_together(root: Path) -> None:
    repeated(root, b'a,"1\nb,2"\n', 3_000_000)


def beside(root: Path, name: str, content: bytes) -> None:
    table(root, SOUND)
    table(root, content, name)


SOLUTION = b"id,landmarks,Usage\n"
NAMES, CLEAN = b"landmark_id,name\n", b"landmark_id,images\n"

TABLES: dict[str, Callable[[Path], object]] = {
    "gzip of line feeds": lambda root: table(root, gzip.compress(bytes([10]) * 300_000_000, 1)),
    "gzip of a table": lambda root: table(root, gzip.compress(SOUND)),
    "zstd": lambda root: table(root, b"\x28\xb5\x2f\xfd" + bytes(100)),
    "zlib": lambda root: table(root, b"\x78\x9c" + bytes(100)),
    "40 MB of line feeds": lambda root: table(root, HEADER + b"\n" * 40_000_000),
    "2 GB of line feeds, as far as they are read": lambda root: repeated(root, b"\n" * 100, 2_000_000),
    "40 MB of carriage returns": lambda root: table(root, HEADER + b"\r" * 40_000_000),
    "Windows line ends": lambda root: table(root, HEADER + b"\r\n" * 20_000_000),
    "40 MB of commas": lambda root: table(root, HEADER + b",\n" * 20_000_000),
    "40 MB of blanks": lambda root: table(root, HEADER + b" \n" * 20_000_000),
    "lines of one comma up to the limit": lambda root: repeated(root, b",\n", 4_700_000),
    "a million rows of one id": lambda root: repeated(root, b"a,1\n", 1_000_000),
    "clean rows up to the limit": lambda root: many(root, "{0:016x},{0}\n".format),
    "rows without a landmark up to the limit": lambda root: many(root, "{0:016x},\n".format),
    "wrong landmarks up to the limit": lambda root: many(root, "{0:016x},x{0}\n".format),
    "rows of one id and many landmarks up to the limit": lambda root: many(root, "a,{0}\n".format),
    "rows of one id up to the limit": lambda root: repeated(root, b"a,1\n", 4_790_000),
    "every id twice up to the limit": lambda root: many(root, lambda n: f"{n // 2:016x},{n}\n"),
    "every id twice, far apart": lambda root: many(root, lambda n: f"{n % 2_395_000:016x},{n}\n"),
    "every id three times": lambda root: many(root, lambda n: f"{n % 1_596_667:016x},{n}\n"),
    "ids at random": lambda root: many(root, at_random),
    "wrong cells of every kind among repeated ids": lambda root: many(root, mixed),
    "every id twice, one photo on the disk": lambda root: many(root, lambda n: f"{n // 2:016x},{n}\n", photo=True),
    "ids at random, one photo on the disk": lambda root: many(root, at_random, photo=True),
    "wrong cells among repeated ids, one photo on the disk": lambda root: many(root, mixed, photo=True),
    "ids in capitals, one photo on the disk": lambda root: many(root, lambda n: f"{n // 2:016X},{n}\n", photo=True),
    "a clean table beside a full one": lambda root: clean_beside(root, 1_200_000),
    "a clean table too large to stand beside a full one": lambda root: clean_beside(root, 4_790_000),
    "rows beyond the limit": lambda root: repeated(root, b"a,1\n", 7_000_000),
    "one line": lambda root: table(root, b"a" * 100_000_000),
    "one long cell": lambda root: table(root, HEADER + b"a" * 10_000_000 + b",1\n"),
    "one long landmark": lambda root: table(root, HEADER + b"a," + b"1" * 10_000_000 + b"\n"),
    "many columns": wide,
    "a row of many cells": many_commas,
    "nothing": lambda root: table(root, b""),
    "a line feed": lambda root: table(root, b"\n"),
    "a quote": lambda root: table(root, b'"'),
    "a header of a quote": lambda root: table(root, b'"id,landmark_id\na,1\n'),
    "a quote that is never closed": lambda root: repeated(root, b"a,1\n", 4_700_000, end=b'b,"1\n'),
    "a quote at the start of 100 MB": lambda root: repeated(root, b"a,1\n", 4_700_000, header=HEADER + b'"'),
    "quotes alone": lambda root: table(root, HEADER + b'"' * 20_000_000),
    "quotes on each line": lambda root: repeated(root, b'"\n', 4_700_000),
    "many cells with line ends": spanning,
    "many rows run together": many_run_together,
    "NUL bytes": lambda root: table(root, bytes(1_000_000)),
    "NUL bytes at the end": lambda root: table(root, SOUND + bytes(20_000_000)),
    "sparse": lambda root: sparse(root / "train.csv", 1_500_000_000, SOUND),
    "sparse beyond the limit": lambda root: sparse(root / "train.csv", 2**36, SOUND),
    "UTF-16": lambda root: table(root, SOUND.decode().encode("utf-16")),
    "random bytes": lambda root: table(root, np.random.default_rng(0).bytes(5_000_000)),
    "random bytes in cells": lambda root: table(root, HEADER + np.random.default_rng(0).bytes(5_000_000)),
    "a pipe": lambda root: os.mkfifo(root / "train.csv"),
    "a device": lambda root: (root / "train.csv").symlink_to("/dev/zero"),
    "a folder": lambda root: (root / "train.csv").mkdir(),
    "a link to itself": lambda root: (root / "train.csv").symlink_to("train.csv"),
    "ids that are paths": lambda root: table(root, HEADER + b"../../../etc/passwd,1\n/etc/passwd,2\n\x1b[2J,3\n"),
    "names of blank lines": lambda root: beside(root, "landmarks.csv", NAMES + b"\n" * 20_000_000),
    "names in gzip": lambda root: beside(root, "landmarks.csv", gzip.compress(NAMES + b"\n" * 10**8)),
    "names without end": lambda root: beside(root, "landmarks.csv", b'landmark_id,name\n1,"' + b"a\n" * 5_000_000),
    "positions without number": infinite,
    "a solution of many ids": lambda root: beside(
        root, "recognition_solution_v2.1.csv", SOLUTION + b"a," + b"1 " * 5_000_000
    ),
    "a solution of as many ids as it may have": lambda root: cells_of_words(
        root, "recognition_solution_v2.1.csv", SOLUTION, 47, 100_000
    ),
    "a solution of 40 million ids": lambda root: cells_of_words(
        root, "recognition_solution_v2.1.csv", SOLUTION, 40, 1_000_000
    ),
    "a clean table of as many ids as it may have": lambda root: cells_of_words(
        root, "train_clean.csv", CLEAN, 1, 4_790_000
    ),
    "a clean table of 40 million ids": lambda root: cells_of_words(root, "train_clean.csv", CLEAN, 40, 1_000_000),
    "a solution in gzip": lambda root: beside(
        root, "recognition_solution_v2.1.csv", gzip.compress(b"\n" * 100_000_000, 1)
    ),
    "a clean table of many ids": lambda root: beside(
        root, "train_clean.csv", CLEAN + b"1," + b"a " * 1_000_000 + b"\n"
    ),
    "categories of percent signs": lambda root: beside(
        root, "train_label_to_category.csv", b"landmark_id,category\n1," + b"%41" * 3_000_000
    ),
}


def manifest(root: Path, fields: bytes, photos: bytes = b"image_id,path,landmark_id,split\n") -> None:
    (root / "manifest.json").write_bytes(fields)
    (root / "photos.csv").write_bytes(photos)
    (root / "landmarks.csv").write_bytes(b"landmark_id,name,supercategory,area_level,latitude,longitude\n")


SUBSET = b'{"format": "obelisk-subset", "version": '

SUBSETS: dict[str, Callable[[Path], object]] = {
    "a manifest of brackets": lambda root: manifest(root, b"[" * 900_000),
    "a large manifest": lambda root: manifest(root, SUBSET + b'1, "x": "' + b"a" * 50_000_000 + b'"}'),
    "a manifest of a large number": lambda root: manifest(
        root, b'{"format": "obelisk-subset", "version": ' + b"9" * 900_000 + b"}"
    ),
    "a table of a subset in gzip": lambda root: manifest(root, SUBSET + b"1}", gzip.compress(b"\n" * 10**8)),
}


def entry(name: str, size: int = 0, **fields: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.size = size
    for key, value in fields.items():
        setattr(made, key, value)
    return made


def pack(*entries: tuple[tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:  # noqa: A002
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def pax(**records: str) -> bytes:
    return pack((entry(PHOTO, 4, pax_headers=records), b"data"))


def header(name: str, kind: bytes, size: int) -> bytes:
    made = entry(name, size, type=kind)
    return made.tobuf(tarfile.GNU_FORMAT)


def tar(content: bytes, *, size: int = 0) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        path = place_of_tar(root)
        path.write_bytes(content)
        if size:
            os.truncate(path, size)

    return make


def place_of_tar(root: Path) -> Path:
    table(root, SOUND)
    (root / "train").mkdir()
    return root / "train" / "images_000.tar"


def many_entries(root: Path) -> None:
    block = header(PHOTO, tarfile.REGTYPE, 0)
    tar(block * 400_000 + bytes(10_240))(root)


SOUND_TAR = pack((entry(PHOTO, 4), b"data"))

TARS: dict[str, Callable[[Path], object]] = {
    "nothing": tar(b""),
    "zeros": tar(bytes(10_240)),
    "a sparse tar of zeros": tar(b"", size=2**34),
    "a sparse end": tar(SOUND_TAR, size=2**34),
    "random bytes": tar(np.random.default_rng(0).bytes(10_000)),
    "gzip": tar(gzip.compress(SOUND_TAR)),
    "cut": tar(SOUND_TAR[:700]),
    "an absolute path": tar(pack((entry("/etc/passwd"), b""))),
    "a path upwards": tar(pack((entry("../../x.jpg"), b""))),
    "a link": tar(pack((entry(PHOTO, type=tarfile.SYMTYPE, linkname="/etc/passwd"), b""))),
    "a hard link": tar(pack((entry(PHOTO, type=tarfile.LNKTYPE, linkname=OTHER), b""))),
    "a device": tar(pack((entry(PHOTO, type=tarfile.CHRTYPE), b""))),
    "a pipe": tar(pack((entry(PHOTO, type=tarfile.FIFOTYPE), b""))),
    "a pax size beyond a file": tar(pax(size=str(10**18))),
    "a pax size beyond 64 bits": tar(pax(size=str(10**30))),
    "a negative pax size": tar(pax(size="-1024")),
    "a pax size that is no number": tar(pax(size="many")),
    "a pax path": tar(pax(path="../../../etc/passwd")),
    "a long pax path": tar(pax(path="0/0/0/000" + "0" * 500_000 + ".jpg")),
    "a pax header of 8 GB": tar(
        header("x", tarfile.XHDTYPE, 2**33 - 1) + b"20 comment=" + bytes(1000), size=2**33 + 2**20
    ),
    "a global header of 8 GB": tar(header("x", tarfile.XGLTYPE, 2**33 - 1), size=2**33 + 2**20),
    "a name of 8 GB": tar(header("././@LongLink", tarfile.GNUTYPE_LONGNAME, 2**33 - 1), size=2**33 + 2**20),
    "a chain of headers": tar(b"".join([header("x", tarfile.XHDTYPE, 0)] * 5_000) + bytes(10_240)),
    "a sparse file": tar(header(PHOTO, tarfile.GNUTYPE_SPARSE, 2**30) + bytes(10_240)),
    "a photo of 1 GB": tar(header(PHOTO, tarfile.REGTYPE, 2**30), size=2**30 + 20_480),
    "many entries": many_entries,
    "a photo twice": tar(pack((entry(PHOTO, 4), b"data"), (entry(PHOTO, 5), b"other"))),
    "a pipe in place of the tar": lambda root: os.mkfifo(place_of_tar(root)),
    "a folder in place of the tar": lambda root: place_of_tar(root).mkdir(),
}


def npy(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def rows(*places: tuple[str | bytes, int, int]) -> bytes:
    return npy(np.array(list(places), dtype=[("path", "S26"), ("offset", np.int64), ("bytes", np.int64)]))


def claim(shape: str) -> bytes:
    columns = "[('path', '|S26'), ('offset', '<i8'), ('bytes', '<i8')]"
    described = f"{{'descr': {columns}, 'fortran_order': False, 'shape': {shape}, }}"
    return b"\x93NUMPY\x01\x00" + len(described).to_bytes(2, "little") + described.encode()


SIDE_TABLES: dict[str, bytes] = {
    "a length of -1": rows((PHOTO, 512, -1)),
    "a length of 2⁶²": rows((PHOTO, 512, 2**62)),
    "a length beyond the tar": rows((PHOTO, 512, 10**6)),
    "an offset beyond the tar": rows((PHOTO, 2**40, 4)),
    "a negative offset": rows((PHOTO, -(2**62), 4)),
    "no dimension": npy(np.array((PHOTO, 512, 4), dtype=[("path", "S26"), ("offset", np.int64), ("bytes", np.int64)])),
    "no row": rows(),
    "a pickle": npy(np.array([{"a": 1}], dtype=object)),
    "a ZIP": b"PK\x03\x04" + bytes(100),
    "a shape of 2⁴⁰": claim("(1099511627776,)"),
    "a shape of 400 digits": claim(f"({'9' * 400},)"),
    "a header without end": b"\x93NUMPY\x01\x00\xff\xff{'descr': ((((",
    "floats": npy(np.zeros(4)),
    "paths that are no text": rows((b"\xff\xfe", 512, 4)),
    "paths out of order": rows((OTHER, 512, 4), (PHOTO, 512, 4)),
}


def side_table(content: bytes) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        tar(SOUND_TAR)(root)
        path = root / "train" / "images_000.tar"
        found = path.stat()
        path.with_name(f".{path.name}.{found.st_size}-{found.st_mtime_ns}.npy").write_bytes(content)

    return make


CASES = {
    **{f"table: {name}": make for name, make in TABLES.items()},
    **{f"subset: {name}": make for name, make in SUBSETS.items()},
    **{f"tar: {name}": make for name, make in TARS.items()},
    **{f"side table: {name}": side_table(content) for name, content in SIDE_TABLES.items()},
}


@pytest.mark.parametrize("make", CASES.values(), ids=CASES)
def test_hostile_data_ends_cleanly_in_time_and_memory(make: Callable[[Path], object], tmp_path: Path) -> None:
    make(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    sys.stderr.write(
        f"\n{found['bytes'] >> 20} MB · {[(name, round(s, 1), text[:150]) for name, text, s in found['ended']]}\n"
    )
    assert max(seconds for _, _, seconds in found["ended"]) < SECONDS
    assert found["bytes"] < BYTES


@pytest.mark.parametrize("content", SIDE_TABLES.values(), ids=SIDE_TABLES)
def test_a_side_table_that_lies_is_made_anew(content: bytes, tmp_path: Path) -> None:
    from obelisk.photos import read_bytes

    side_table(content)(tmp_path)
    assert read_bytes(tmp_path / "train" / "images_000.tar" / PHOTO) == b"data"
