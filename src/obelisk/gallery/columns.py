"""The tables of ``gallery.sqlite``, column by column: what makes them, migrates them, reads and checks them.

A new column is an entry of :data:`TABLES`, with the format that has it first; a format's statements follow from there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

FORMAT = 4
APPLICATION_ID = 0x4F42454C  # "OBEL": tells the file from other SQLite files
LONGEST_TEXT = 1 << 16  # bytes
LONGEST_DOCUMENT = 1 << 20  # bytes of a text that is a whole file
MAX_DIMENSIONS = 1 << 16
MAX_ID = 2**53 - 1  # the largest integer that every JSON reader holds exactly

IS_ROW = "typeof({0}) = 'integer' AND {0} > 0"
IS_TEXT = f"typeof({{0}}) = 'text' AND length(CAST({{0}} AS BLOB)) <= {LONGEST_TEXT}"


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column: its SQL definition, the condition that a sound value meets, and the first format that has it.

    ``missing`` is the value, in SQL, that rows of older formats are read as having.
    """

    definition: str
    sound: str
    since: int = 1
    missing: str = "NULL"

    @property
    def is_text(self) -> bool:
        """Whether the column holds texts."""
        return self.definition.startswith("TEXT")


TEXT = Column(definition="TEXT NOT NULL", sound=IS_TEXT)
TEXTS = Column(
    definition="TEXT NOT NULL DEFAULT '[]'",
    sound=IS_TEXT,
    since=3,
    missing="'[]'",
)


CREDIT = Column(definition="TEXT NOT NULL DEFAULT ''", sound=IS_TEXT, since=4, missing="''")


def coordinate_column(most: int) -> Column:
    """Return a column of coordinates."""
    return Column(definition="REAL", sound=f"{{0}} IS NULL OR typeof({{0}}) = 'real' AND abs({{0}}) <= {most}")


TABLES: dict[str, dict[str, Column]] = {
    "about": {"key": Column(definition="TEXT PRIMARY KEY", sound=IS_TEXT), "value": TEXT},
    "landmarks": {
        "id": Column(definition="INTEGER PRIMARY KEY", sound=f"{{0}} BETWEEN 0 AND {MAX_ID}"),
        "name": Column(definition="TEXT NOT NULL", sound=f"{IS_TEXT} AND {{0}} != ''"),
        "latitude": coordinate_column(90),
        "longitude": coordinate_column(180),
        "links": TEXTS,
        "origins": TEXTS,
    },
    "photos": {
        "row": Column(definition="INTEGER PRIMARY KEY AUTOINCREMENT", sound=IS_ROW),
        "id": Column(definition="TEXT NOT NULL UNIQUE", sound=IS_TEXT),
        "landmark_id": Column(
            definition="INTEGER NOT NULL REFERENCES landmarks (id)",
            sound=f"typeof({{0}}) = 'integer' AND {{0}} BETWEEN 0 AND {MAX_ID}",
        ),
        "content_hash": TEXT,
        "source": TEXT,
        "path": Column(definition="TEXT NOT NULL DEFAULT ''", sound=IS_TEXT, since=2, missing="''"),
        "folder_id": Column(definition="INTEGER REFERENCES folders (id)", sound=f"{{0}} IS NULL OR {IS_ROW}", since=3),
        "author": CREDIT,
        "licence": CREDIT,
    },
    "embeddings": {
        "row": Column(definition="INTEGER PRIMARY KEY REFERENCES photos (row) ON DELETE CASCADE", sound=IS_ROW),
        "vector": Column(definition="BLOB NOT NULL", sound="typeof({0}) = 'blob'"),
    },
    "folders": {
        "id": Column(definition="INTEGER PRIMARY KEY", sound=IS_ROW, since=3),
        "path": Column(definition="TEXT NOT NULL", sound=IS_TEXT, since=3),
        "beside": Column(definition="TEXT NOT NULL", sound=IS_TEXT, since=3),
    },
    "calibration": {
        "revision": Column(definition="INTEGER PRIMARY KEY", sound=IS_ROW, since=3),
        "content": Column(
            definition="TEXT NOT NULL",
            sound=f"typeof({{0}}) = 'text' AND length(CAST({{0}} AS BLOB)) <= {LONGEST_DOCUMENT}",
            since=3,
        ),
    },
}
WITHOUT_ROWID = "about"
INDEXES = {
    "landmarks_by_name": ("landmarks", "name", 1),
    "photos_by_landmark": ("photos", "landmark_id", 1),
    "photos_by_content": ("photos", "content_hash", 2),
    "photos_by_folder": ("photos", "folder_id", 3),
}
"""index → its table, its column, the first format that has it"""
OF_SQLITE = {  # tables that SQLite makes by itself, or for ANALYZE
    "sqlite_sequence": "CREATE TABLE sqlite_sequence(name,seq)",
    "sqlite_stat1": "CREATE TABLE sqlite_stat1(tbl,idx,stat)",
    "sqlite_stat4": "CREATE TABLE sqlite_stat4(tbl,idx,neq,nlt,ndlt,sample)",
}
OWN_INDEX = re.compile(r"create index [\w.-]+ on (\w+) \( ([\w ,]+) \)")
PHOTO_COLUMNS = tuple(TABLES["photos"])[1:]  # the database gives the first, ``row``
INSERT_PHOTO = f"INSERT INTO photos ({', '.join(PHOTO_COLUMNS)}) VALUES ({', '.join('?' * len(PHOTO_COLUMNS))})"
FILLED = {3: ("INSERT INTO about VALUES ('identity', lower(hex(randomblob(16))))",)}
"""format → the statements that fill in what it has first"""


def columns_of(table: str, format_number: int) -> dict[str, Column]:
    """Return the columns that a table has in a format; none if the format lacks the table."""
    return {name: column for name, column in TABLES[table].items() if column.since <= format_number}


def create_statements(format_number: int) -> dict[str, str]:
    """Return table or index → the statement that makes it in a format."""
    statements = {}
    for table in TABLES:
        columns = columns_of(table, format_number)
        lines = ",\n    ".join(f"{name} {column.definition}" for name, column in columns.items())
        ending = " WITHOUT ROWID" if table == WITHOUT_ROWID else ""
        if columns:
            statements[table] = f"CREATE TABLE {table} (\n    {lines}\n){ending}"
    for index, (table, column, since) in INDEXES.items():
        if since <= format_number:
            statements[index] = f"CREATE INDEX {index} ON {table} ({column})"
    return statements


def migration_statements(before: int) -> list[str]:
    """Return the statements that turn a format into the next one."""
    old, new = create_statements(before), create_statements(before + 1)
    added = [
        f"ALTER TABLE {table} ADD COLUMN {name} {column.definition}"
        for table in TABLES
        for name, column in columns_of(table, before + 1).items()
        if table in old and column.since > before
    ]
    made = [statement for name, statement in new.items() if name not in old]
    return [*added, *made, *FILLED.get(before + 1, ())]


def describe_foreign_schema(found: Iterable[tuple[object, ...]], format_number: int) -> str | None:
    """Say what in a schema is not of a gallery of this format, or is missing from it; None if it is ours.

    ``found`` are type, name, table and statement of each object. Triggers and views run whatever they like, and so do
    other expressions in a schema. Nothing but our own statements is ours, and plain indexes, which somebody may have
    added.
    """
    statements = {name: one_spelling(text) for name, text in {**create_statements(format_number), **OF_SQLITE}.items()}
    lacking = statements.keys() - OF_SQLITE
    for kind, name, table, text in found:
        if not (isinstance(kind, str) and isinstance(name, str) and isinstance(table, str)):
            return "an object without a name"
        if text is None and kind == "index" and table in TABLES:  # of a column that is UNIQUE
            continue
        statement = one_spelling(text) if isinstance(text, str) else ""
        if statement != statements.get(name) and not (kind == "index" and is_plain_index(statement, table)):
            return f"the {kind} `{name[:60]}`, which is not one that Obelisk makes"
        lacking -= {name}
    return f"no `{min(lacking)}`" if lacking else None


def is_plain_index(statement: str, table: str) -> bool:
    """Return whether a statement makes an index of plain columns of one of our tables."""
    match = OWN_INDEX.fullmatch(statement)
    if not match or match[1] != table.lower() or table not in TABLES:
        return False
    return {column.strip() for column in match[2].split(",")} <= TABLES[table].keys()


def one_spelling(statement: str) -> str:
    """Return a statement in one spelling of its blanks and letters."""
    return " ".join(re.sub(r"([(),])", r" \1 ", statement).split()).lower()
