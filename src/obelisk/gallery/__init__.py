"""Galleries: durable sets of reference photos with their embeddings, and search over them.

:class:`Gallery` opens, changes and searches one; :func:`build_gallery` makes one from a dataset. The format on disk is
described in docs/gallery-format.md.
"""

from __future__ import annotations

from obelisk.gallery.add import Addition, add_photos, add_uploaded, target_landmark
from obelisk.gallery.address import is_address
from obelisk.gallery.build_gallery import build_gallery
from obelisk.gallery.exact import ExactSearch, SearchEngine, as_stored, nearest_rows
from obelisk.gallery.follow_plan import BuildReport
from obelisk.gallery.gallery import Gallery
from obelisk.gallery.gallery_check import check_gallery, check_index, check_labels
from obelisk.gallery.handover import Handover, export_gallery, import_gallery
from obelisk.gallery.index_gallery import IndexReport, index_gallery
from obelisk.gallery.info import (
    GalleryFacts,
    describe_photos,
    gather_facts,
    landmark_counts,
    landmark_names,
    list_photos,
)
from obelisk.gallery.joined import JoinedGallery, open_galleries
from obelisk.gallery.kept_values import KeptValues
from obelisk.gallery.landmarks import Landmark, find_landmark, matches_name
from obelisk.gallery.models import load_model, refuse_directionless
from obelisk.gallery.photo_labels import HeldLabels, Labels, as_labels
from obelisk.gallery.places import open_truth
from obelisk.gallery.push import PushReport, push_gallery
from obelisk.gallery.reference_files import ReferenceFiles
from obelisk.gallery.schema import DATABASE, ReferencePhoto, rebuild_advice
from obelisk.gallery.snapshot import References
from obelisk.gallery.truth import Truth

__all__ = [
    "DATABASE",
    "Addition",
    "BuildReport",
    "ExactSearch",
    "Gallery",
    "GalleryFacts",
    "Handover",
    "HeldLabels",
    "IndexReport",
    "JoinedGallery",
    "KeptValues",
    "Labels",
    "Landmark",
    "PushReport",
    "ReferenceFiles",
    "ReferencePhoto",
    "References",
    "SearchEngine",
    "Truth",
    "add_photos",
    "add_uploaded",
    "as_labels",
    "as_stored",
    "build_gallery",
    "check_gallery",
    "check_index",
    "check_labels",
    "describe_photos",
    "export_gallery",
    "find_landmark",
    "gather_facts",
    "import_gallery",
    "index_gallery",
    "is_address",
    "landmark_counts",
    "landmark_names",
    "list_photos",
    "load_model",
    "matches_name",
    "nearest_rows",
    "open_galleries",
    "open_truth",
    "push_gallery",
    "rebuild_advice",
    "refuse_directionless",
    "target_landmark",
]
