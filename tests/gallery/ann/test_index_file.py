"""The file of the search index: whatever is found in its place, the answers are right."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from obelisk.embedding import Bundle
from obelisk.errors import GalleryError
from obelisk.gallery import Gallery, check_index
from obelisk.gallery.ann import indexed, ivfpq
from obelisk.gallery.ann.index_file import CHECKSUM, INDEX, MAGIC, read_index

D = 24
N = 1200


def draw(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, D))


@pytest.fixture
def gallery(tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Gallery:
    """A gallery that is large enough for an index."""
    monkeypatch.setattr(indexed, "EXACT_UP_TO", 1000)
    monkeypatch.setattr(ivfpq, "LONGEST_TAIL", 50)
    gallery = Gallery.create(tmp_path / "city", bundle)
    gallery.add(draw(N, seed=1), ["Dome"] * N, [f"photo {number}" for number in range(N)])
    return gallery


def rewrite(content: bytes, **changes: object) -> bytes:
    """Change numbers of the header, and sign the file again as a forger would."""
    line, body = content[len(MAGIC) : -CHECKSUM].split(b"\n", 1)
    signed = MAGIC + json.dumps(json.loads(line) | changes).encode() + b"\n" + body
    return signed + zlib.crc32(signed).to_bytes(CHECKSUM, "little")


def forge_rows(content: bytes) -> bytes:
    """Let all rows of the index have one number, and sign it again."""
    line, body = content[len(MAGIC) : -CHECKSUM].split(b"\n", 1)
    rows = np.frombuffer(read_index_bytes(content), np.int64).tobytes()
    assert body.count(rows) == 1
    signed = MAGIC + line + b"\n" + body.replace(rows, np.full(N, 3).tobytes())
    return signed + zlib.crc32(signed).to_bytes(CHECKSUM, "little")


def forge_centroids(content: bytes) -> bytes:
    """Put the first centroid far away, and sign the file again."""
    line, body = content[len(MAGIC) : -CHECKSUM].split(b"\n", 1)
    signed = MAGIC + line + b"\n" + np.full(D, 1e30, np.float32).tobytes() + body[4 * D :]
    return signed + zlib.crc32(signed).to_bytes(CHECKSUM, "little")


def read_index_bytes(content: bytes) -> bytes:
    header = json.loads(content[len(MAGIC) :].split(b"\n", 1)[0])
    start = len(MAGIC) + content[len(MAGIC) :].index(b"\n") + 1
    start += 4 * header["lists"] * header["width"] + 4 * 16 * header["width"] + 8 * header["lists"]
    return content[start : start + 8 * header["rows"]]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "one byte short": lambda content: content[:-1],
    "one byte more": lambda content: content + b"\0",
    "a flipped bit in the codes": lambda content: content[:-5000] + bytes([content[-5000] ^ 1]) + content[-4999:],
    "a flipped bit in the header": lambda content: content.replace(b'"probes": ', b'"probes":1', 1),
    "text": lambda content: b"this is no index\n" * 99,
    "another version": lambda content: content.replace(b"index 2\n", b"index 1\n"),
    "a header that never ends": lambda content: MAGIC + b"[" * 5000,
    "a header that is no object": lambda content: MAGIC + b"[]\n" + content[-CHECKSUM:],
    "a key too few": lambda content: MAGIC + b'{"rows": 3}\n' + content[-CHECKSUM:],
    "more rows than a machine holds": lambda content: rewrite(content, rows=1 << 39),
    "fewer rows than the lists say": lambda content: rewrite(content, rows=N - 8),
    "rows of a fraction": lambda content: rewrite(content, rows=1.5),
    "negative rows": lambda content: rewrite(content, rows=-1),
    "true probes": lambda content: rewrite(content, probes=True),
    "no probes": lambda content: rewrite(content, probes=0),
    "more probes than lists": lambda content: rewrite(content, probes=4000),
    "a depth of a billion": lambda content: rewrite(content, depth=10**9),
    "a margin of no number": lambda content: rewrite(content, margin=float("nan")),
    "a margin beyond all": lambda content: rewrite(content, margin=2.5),
    "a margin in words": lambda content: rewrite(content, margin="wide"),
    "no sub-vectors": lambda content: rewrite(content, subvectors=0),
    "sub-vectors of no whole number": lambda content: rewrite(content, subvectors=10),
    "other dimensions": lambda content: rewrite(content, dimensions=D - 4),
    "a width below the dimensions": lambda content: rewrite(content, width=16),
    "no row": lambda content: rewrite(content, rows=0),
    "no witness": lambda content: rewrite(content, witnesses=0),
    "the same row throughout": forge_rows,
    "a centroid far away": forge_centroids,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_file_that_cannot_be_trusted_is_made_again(gallery: Gallery, damage: Callable[[bytes], bytes]) -> None:
    expected = gallery.search(draw(50, seed=2), 10)
    path = gallery.path / INDEX
    made = path.read_bytes()
    damaged = damage(made)
    assert damaged != made
    path.write_bytes(damaged)
    again = Gallery.open(gallery.path)
    for found, wanted in zip(again.search(draw(50, seed=2), 10), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert path.read_bytes() == made


def test_any_flipped_byte_is_noticed(gallery: Gallery) -> None:
    gallery.references()
    path = gallery.path / INDEX
    made = path.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(made), size=300).tolist():
        path.write_bytes(made[:place] + bytes([made[place] ^ 0x11]) + made[place + 1 :])
        assert read_index(path, dimensions=D, most_rows=2 * N) is None


def test_a_file_that_is_cut_short_while_it_is_used_is_made_again(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = gallery.search(draw(50, seed=2), 10)
    path = gallery.path / INDEX
    made = path.read_bytes()
    read = read_index(path, dimensions=D, most_rows=N)
    assert read is not None
    assert read.codes[5:9].shape == (4, D // 2)

    def cut(*given: object) -> ivfpq.CandidateSearch:
        monkeypatch.undo()
        monkeypatch.setattr(indexed, "EXACT_UP_TO", 1000)
        path.write_bytes(made[: len(made) // 3])
        return ivfpq.CandidateSearch(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(indexed, "CandidateSearch", cut)
    again = Gallery.open(gallery.path).search(draw(50, seed=2), 10)
    for found, wanted in zip(again, expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert path.read_bytes() == made
    with pytest.raises(GalleryError, match=r"cut short while it was read .*search\.index.* try again"):
        read.codes[:]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        pytest.param(lambda path: path.unlink(), "is missing: the next search makes it", id="missing"),
        pytest.param(lambda path: path.write_bytes(b"x"), "is damaged, or of another gallery", id="damaged"),
    ],
)
def test_the_state_of_the_index_is_described(gallery: Gallery, change: Callable[[Path], object], text: str) -> None:
    def describe() -> str | None:
        return check_index(gallery.path)

    gallery.references()
    assert describe() is None
    change(gallery.path / INDEX)
    assert text in (describe() or "")
    Gallery.open(gallery.path).references()
    assert describe() is None
    gallery.add(draw(60, seed=3), ["Gate"] * 60, [f"new {number}" for number in range(60)])
    assert "is out of date" in (describe() or "")
