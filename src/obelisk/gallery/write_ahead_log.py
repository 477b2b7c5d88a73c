"""The write-ahead log of an SQLite database, read without SQLite.

SQLite appends the new image of each changed page as a frame; the last frame of a transaction commits it. When it opens
a database it applies all that is whole in the log, whatever database the log was written for. The layout:
https://www.sqlite.org/fileformat2.html#walformat
"""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from obelisk.gallery.pages import number_at

LOG_HEADER = 32  # bytes
FRAME_HEADER = 24  # bytes before the image of a page
MAGIC_NUMBERS = {0x377F0682: "<u4", 0x377F0683: ">u4"}  # → the words that the checksums are made of
FRAMES_AT_ONCE = 256
WRAP = 1 << 32

Commit = dict[int, int]
"""A transaction: page number → offset of its image in the log."""


def read_commits(log: BinaryIO, page_size: int) -> list[Commit]:
    """Return the transactions that SQLite would apply, in order.

    Raises ValueError for a log of pages of another size, and for one whose header is damaged: SQLite would pass over
    all that it holds. A log of which nothing but zeros reached the disk is an empty one.
    """
    header = log.read(LOG_HEADER)
    words = MAGIC_NUMBERS.get(number_at(header, 0)) if len(header) == LOG_HEADER else None
    if words is None:
        if not any(header + log.read(FRAME_HEADER + page_size)):
            return []
        raise ValueError("it has no header")
    checksum = run_checksum(np.frombuffer(header[:24], words)[np.newaxis], (0, 0))[0]
    if checksum != (number_at(header, 24), number_at(header, 28)):
        raise ValueError("its header is damaged")
    if number_at(header, 8) != page_size:
        raise ValueError(f"it has pages of {number_at(header, 8)} bytes, the database {page_size}")
    return read_frames(log, page_size, words, header[16:24], checksum)


def read_frames(log: BinaryIO, page_size: int, words: str, salt: bytes, checksum: tuple[int, int]) -> list[Commit]:
    """Return the transactions from the current position on, up to the first frame that is not whole."""
    frame_size = FRAME_HEADER + page_size
    commits: list[Commit] = []
    pages: Commit = {}
    while True:
        start = log.tell()
        data = log.read(FRAMES_AT_ONCE * frame_size)
        frames = np.frombuffer(data[: len(data) // frame_size * frame_size], np.uint8).reshape(-1, frame_size)
        # The salt and the checksum itself are not summed up.
        summed = np.concatenate([frames[:, :8], frames[:, FRAME_HEADER:]], axis=1).view(words)
        checksums = run_checksum(summed, checksum)
        for index, checksum in enumerate(checksums):
            head = frames[index, :FRAME_HEADER].tobytes()
            if head[8:16] != salt or checksum != (number_at(head, 16), number_at(head, 20)) or not number_at(head, 0):
                return commits
            pages[number_at(head, 0)] = start + index * frame_size + FRAME_HEADER
            if number_at(head, 4):
                commits.append(pages)
                pages = {}
        if len(frames) < FRAMES_AT_ONCE:
            return commits


def run_checksum(rows: NDArray[np.uint32], before: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the checksum after each row of 32-bit words, an even number of them.

    For each pair of words (a, b), modulo 2³²: s₀ += a + s₁, then s₁ += b + s₀. That is linear, and its factors are
    Fibonacci numbers.
    """
    pairs = rows.shape[1] // 2
    fibonacci = [0, 1]
    for _ in range(2 * pairs):
        fibonacci.append((fibonacci[-1] + fibonacci[-2]) % WRAP)
    growing = np.array(fibonacci, dtype=np.uint32)
    last_first = growing[: 2 * pairs][::-1]  # F(2k-1) … F(0)
    rows = rows.astype(np.uint32)
    first = (rows * last_first).sum(axis=1, dtype=np.uint32)
    second = (rows * growing[1 : 2 * pairs + 1][::-1]).sum(axis=1, dtype=np.uint32)
    own, cross, other = (fibonacci[2 * pairs + shift] for shift in (-1, 0, 1))
    sums = []
    s0, s1 = before
    for row_first, row_second in zip(first.tolist(), second.tolist(), strict=True):
        s0, s1 = (own * s0 + cross * s1 + row_first) % WRAP, (cross * s0 + other * s1 + row_second) % WRAP
        sums.append((s0, s1))
    return sums
