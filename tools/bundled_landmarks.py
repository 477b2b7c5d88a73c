"""Complete what the bundled gallery knows of its landmarks: ``python tools/bundled_landmarks.py DATA GALLERY``.

The data gives most landmarks a position and all of them a category at Wikimedia Commons. ``bundled_landmarks.csv``
gives the other positions, to about a hundred meters, and articles of Wikipedia where the title leaves no doubt. The
Great Wall has the position of Mutianyu, amid its most visited stretches.
"""

from __future__ import annotations

import csv
import sqlite3
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from obelisk.data import read_catalog
from obelisk.errors import UsageError
from obelisk.gallery import Gallery, build_gallery
from obelisk.gallery.changes import write_landmarks
from obelisk.gallery.lookup import all_landmarks

FACTS = Path(__file__).with_suffix(".csv")
DECIMALS = 5  # of degrees: a meter


def complete_landmarks(gallery: Gallery) -> None:
    """Give a gallery's landmarks the positions and articles of the table, and round all positions."""
    with FACTS.open(encoding="utf-8", newline="") as file:
        facts = {int(row["landmark_id"]): row for row in csv.DictReader(file)}
    with gallery.changing() as connection:
        for landmark in all_landmarks(connection).values():
            row = facts.get(landmark.id, {})
            latitude, longitude = row.get("latitude") or landmark.latitude, row.get("longitude") or landmark.longitude
            if latitude is not None and longitude is not None:
                latitude, longitude = round(float(latitude), DECIMALS), round(float(longitude), DECIMALS)
                landmark = replace(landmark, latitude=latitude, longitude=longitude)
            if row:
                article = f"https://en.wikipedia.org/wiki/{row['article']}"
                landmark = replace(landmark, links=tuple(dict.fromkeys((*landmark.links, article))))
            write_landmarks(connection, landmark)


def pack(database: Path) -> None:
    """Rewrite the database in large pages: an embedding of 2 KiB leaves half of a 4 KiB page empty."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA page_size = 32768")
        connection.execute("VACUUM")
        connection.execute("PRAGMA journal_mode = WAL")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise UsageError("two folders are needed", fix="python tools/bundled_landmarks.py DATA GALLERY")
    opened = Gallery.open(sys.argv[2])
    build_gallery(opened.path, read_catalog(Path(sys.argv[1])), opened.load_bundle(), keep_paths=False)
    complete_landmarks(opened)
    pack(opened.path / "gallery.sqlite")
