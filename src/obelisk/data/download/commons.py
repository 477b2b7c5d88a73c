"""What is special about photos at Wikimedia Commons: smaller versions, and who made them."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from obelisk.data.formats.csv import read_table
from obelisk.files import replace_file

UPLOADS = "upload.wikimedia.org/wikipedia/commons"
# The only widths that Wikimedia serves (https://www.mediawiki.org/wiki/Common_thumbnail_sizes, 2026-11-30).
WIDTHS = (20, 40, 60, 120, 250, 330, 500, 960, 1280, 1920, 3840)
LONGEST_NAME = 150  # the versions of files with longer names are called otherwise
COLUMNS = ("url", "author", "license", "title")
ATTRIBUTION = "attribution.csv"
"""The table of authors and licenses that a download of chosen landmarks leaves in its folder."""


def smaller_version(url: str, max_side: int | None) -> str | None:
    """Return the address of the narrowest version of a photo that is at least ``max_side`` pixels wide.

    None if the photo is wanted as it is, isn't at Commons, or has no version that wide.
    """
    width = next((width for width in WIDTHS if max_side is not None and width >= max_side), None)
    scheme, _, rest = url.partition("://")
    found = re.fullmatch(rf"{re.escape(UPLOADS)}/(\w/\w\w/([^/?#]+\.(?:jpe?g|png)))", rest, re.IGNORECASE)
    if width is None or found is None or len(found[2]) > LONGEST_NAME:
        return None
    return f"{scheme}://{UPLOADS}/thumb/{found[1]}/{width}px-{found[2]}"


def write_attribution(directory: Path, photos: pl.DataFrame) -> Path | None:
    """Add author, license, title and page of some photos (image_id, landmark_id) to one table; return its path.

    None if the dataset's own table of them is not there.
    """
    everything, path = directory / "metadata" / "train_attribution.csv", directory / ATTRIBUTION
    if not everything.is_file():
        return None
    known = read_table(everything, required=("id",), optional=COLUMNS).select("id", *COLUMNS).unique("id", keep="first")
    found = photos.select("image_id", pl.col("landmark_id").cast(pl.String))
    found = found.join(known, left_on="image_id", right_on="id", how="left")
    if path.is_file():
        before = read_table(path, required=("image_id",), optional=("landmark_id", *COLUMNS)).select(found.columns)
        found = pl.concat([found, before])
    written = found.unique("image_id", keep="first").sort("image_id")
    return replace_file(path, lambda partial: written.write_csv(partial))
