"""The pages of an SQLite file, read without SQLite, which may change the file as soon as it opens it.

Only as much of the format as tells whether a database is a gallery (https://www.sqlite.org/fileformat2.html): the
header, and the records of small tables. Numbers are big-endian.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

HEADER_SIZE = 100  # bytes at the start of page 1
MAGIC = b"SQLite format 3\0"
UTF_8 = 1
TABLE_LEAF, TABLE_INTERIOR, INDEX_LEAF = 0x0D, 0x05, 0x0A  # the first byte of a page says what it is
MOST_PAGES = 64  # of a table that is read here; ours have one

Value = int | float | str | bytes | None
ReadPage = Callable[[int], bytes]


@dataclass(frozen=True, kw_only=True)
class FileHeader:
    """What page 1 says about the file; ``pages`` is None where the last writer did not keep it up to date."""

    page_size: int
    pages: int | None
    application_id: int
    user_version: int


def parse_file_header(start: bytes) -> FileHeader | None:
    """Parse the start of a file; None if it is not an SQLite file with texts in UTF-8."""
    if len(start) < HEADER_SIZE or not start.startswith(MAGIC):
        return None
    page_size = number_at(start, 16, 2)
    page_size = 1 << 16 if page_size == 1 else page_size
    if page_size < 512 or page_size & (page_size - 1) or number_at(start, 56) > UTF_8:
        return None
    is_current = number_at(start, 24) == number_at(start, 92)
    return FileHeader(
        page_size=page_size,
        pages=number_at(start, 28) if is_current else None,
        application_id=number_at(start, 68),
        user_version=number_at(start, 60),
    )


def number_at(data: bytes, offset: int, size: int = 4) -> int:
    """Return the unsigned number at an offset; raises ValueError if the data end before it."""
    part = data[offset : offset + size]
    if len(part) < size:
        raise ValueError("a page ends too early")
    return int.from_bytes(part, "big")


def read_rows(read_page: ReadPage, root: int) -> Iterator[list[Value]]:
    """Yield the records of a small table or index.

    Raises ValueError for damaged pages, more than :data:`MOST_PAGES` of them, and records that do not fit on theirs.
    """
    waiting, seen = [root], 0
    while waiting:
        number, seen = waiting.pop(0), seen + 1
        if seen > MOST_PAGES:
            raise ValueError("a table has too many pages")
        page = read_page(number)
        start = HEADER_SIZE if number == 1 else 0
        kind, count = number_at(page, start, 1), number_at(page, start + 3, 2)
        pointers = start + (12 if kind == TABLE_INTERIOR else 8)
        cells = [number_at(page, pointers + 2 * cell, 2) for cell in range(count)]
        if kind == TABLE_INTERIOR:
            waiting += [*(number_at(page, cell) for cell in cells), number_at(page, start + 8)]
        elif kind in (TABLE_LEAF, INDEX_LEAF):
            yield from (parse_cell(page, cell, has_row=kind == TABLE_LEAF) for cell in cells)
        else:
            raise ValueError(f"a page of a table is of kind {kind}")


def parse_cell(page: bytes, offset: int, *, has_row: bool) -> list[Value]:
    """Return the values of a cell's record; its row number is not among them."""
    size, offset = parse_varint(page, offset)
    if has_row:
        _, offset = parse_varint(page, offset)
    if offset + size > len(page):
        raise ValueError("a record does not fit on its page")
    start = offset
    header_end, offset = parse_varint(page, offset)
    header_end, values = start + header_end, header_end + start
    found: list[Value] = []
    while offset < header_end:
        kind, offset = parse_varint(page, offset)
        value, width = parse_value(page, values, kind)
        found.append(value)
        values += width
    if values != start + size:
        raise ValueError("a record is longer or shorter than it says")
    return found


def parse_value(page: bytes, offset: int, kind: int) -> tuple[Value, int]:
    """Return a value of a record and its width; ``kind`` is its serial type."""
    if kind in (0, 8, 9):
        return (None if kind == 0 else kind - 8), 0
    if kind >= 12:
        width = (kind - 12) // 2
        data = page[offset : offset + width]
        return (data.decode("utf-8") if kind % 2 else data), width
    width = (1, 2, 3, 4, 6, 8, 8)[kind - 1] if kind <= 7 else 0
    if not width:
        raise ValueError(f"a value of unknown type {kind}")
    # No table that is read here has a fraction.
    return int.from_bytes(page[offset : offset + width], "big", signed=True), width


def parse_varint(page: bytes, offset: int) -> tuple[int, int]:
    """Return a number of one to nine bytes, and the offset behind it."""
    value = 0
    for position in range(8):
        byte = number_at(page, offset + position, 1)
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, offset + position + 1
    return value << 8 | number_at(page, offset + 8, 1), offset + 9
