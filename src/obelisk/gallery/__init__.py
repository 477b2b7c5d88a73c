"""The durable set of reference photos with their embeddings, and exact search over it."""

from __future__ import annotations

from obelisk.gallery.add import Addition, add_photos, choose_landmark
from obelisk.gallery.build_gallery import BuildReport, build_gallery
from obelisk.gallery.exact import ExactSearch, SearchEngine, as_stored, nearest_rows
from obelisk.gallery.gallery import Gallery
from obelisk.gallery.gallery_check import check_gallery, check_index
from obelisk.gallery.info import GalleryFacts, count_photos, gather_facts, landmark_names
from obelisk.gallery.landmarks import Landmark, find_landmark
from obelisk.gallery.models import load_model, refuse_directionless
from obelisk.gallery.references import ReferencePhoto, References

__all__ = [
    "Addition",
    "BuildReport",
    "ExactSearch",
    "Gallery",
    "GalleryFacts",
    "Landmark",
    "ReferencePhoto",
    "References",
    "SearchEngine",
    "add_photos",
    "as_stored",
    "build_gallery",
    "check_gallery",
    "check_index",
    "choose_landmark",
    "count_photos",
    "find_landmark",
    "gather_facts",
    "landmark_names",
    "load_model",
    "nearest_rows",
    "refuse_directionless",
]
