"""Datasets: reading, checking, statistics, near-duplicates, splits and subsets."""

from obelisk.data.attribution import read_credits
from obelisk.data.catalog import LANDMARKS, QUERIES, REFERENCES, Catalog
from obelisk.data.dataset_check import check_dataset, find_issues
from obelisk.data.duplicates import NearDuplicates, find_near_duplicates
from obelisk.data.formats.detect import check_directory, read_catalog
from obelisk.data.formats.gldv2 import read_category_links, read_photo_urls
from obelisk.data.formats.subset_manifest import (
    PHOTOS_VARIABLE,
    read_subset,
    refuse_filled,
    refuse_occupied,
    render_csv,
    write_subset,
)
from obelisk.data.issues import Issue, IssueKind, issues_to_json
from obelisk.data.photo_units import PhotoUnits, list_tar, list_units, locate_root
from obelisk.data.splits import assign_folds, check_folds, split_references
from obelisk.data.stats import (
    MID_PHOTOS,
    TAIL_PHOTOS,
    Statistics,
    compute_statistics,
    draw_long_tail,
    ks_distance,
    landmark_buckets,
    photos_per_landmark,
    take_percentiles,
)
from obelisk.data.subset import Subset, exclude_photos, sample_subset

__all__ = [
    "LANDMARKS",
    "MID_PHOTOS",
    "PHOTOS_VARIABLE",
    "QUERIES",
    "REFERENCES",
    "TAIL_PHOTOS",
    "Catalog",
    "Issue",
    "IssueKind",
    "NearDuplicates",
    "PhotoUnits",
    "Statistics",
    "Subset",
    "assign_folds",
    "check_dataset",
    "check_directory",
    "check_folds",
    "compute_statistics",
    "draw_long_tail",
    "exclude_photos",
    "find_issues",
    "find_near_duplicates",
    "issues_to_json",
    "ks_distance",
    "landmark_buckets",
    "list_tar",
    "list_units",
    "locate_root",
    "photos_per_landmark",
    "read_catalog",
    "read_category_links",
    "read_credits",
    "read_photo_urls",
    "read_subset",
    "refuse_filled",
    "refuse_occupied",
    "render_csv",
    "sample_subset",
    "split_references",
    "take_percentiles",
    "write_subset",
]
