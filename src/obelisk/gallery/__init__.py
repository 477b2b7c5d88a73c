"""The durable set of reference photos with their embeddings, and exact search over it."""

from __future__ import annotations

from obelisk.gallery.build import BuildReport, build_gallery
from obelisk.gallery.check import check_gallery
from obelisk.gallery.gallery import Gallery
from obelisk.gallery.landmarks import Landmark
from obelisk.gallery.models import load_model, refuse_directionless
from obelisk.gallery.references import ReferencePhoto, References
from obelisk.gallery.search import ExactSearch, SearchEngine, as_stored, nearest_rows, unit_rows

__all__ = [
    "BuildReport",
    "ExactSearch",
    "Gallery",
    "Landmark",
    "ReferencePhoto",
    "References",
    "SearchEngine",
    "as_stored",
    "build_gallery",
    "check_gallery",
    "load_model",
    "nearest_rows",
    "refuse_directionless",
    "unit_rows",
]
