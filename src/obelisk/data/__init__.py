"""Datasets: what they list, whether they are sound, how photos are spread over landmarks, and how to split them."""

from obelisk.data.catalog import LANDMARKS, QUERIES, REFERENCES, Catalog
from obelisk.data.dataset_check import check_dataset
from obelisk.data.duplicates import NearDuplicates, find_near_duplicates
from obelisk.data.findings import Finding
from obelisk.data.folds import assign_folds
from obelisk.data.formats.detect import read_catalog
from obelisk.data.formats.gldv2 import read_photo_urls
from obelisk.data.formats.subset_manifest import read_subset, refuse_filled, refuse_occupied, write_subset
from obelisk.data.splits import split_references
from obelisk.data.stats import (
    MID_PHOTOS,
    TAIL_PHOTOS,
    Statistics,
    count_photos,
    draw_long_tail,
    ks_distance,
    landmark_buckets,
    summarize,
    take_percentiles,
)
from obelisk.data.subset import Subset, sample_subset
from obelisk.data.without import leave_out

__all__ = [
    "LANDMARKS",
    "MID_PHOTOS",
    "QUERIES",
    "REFERENCES",
    "TAIL_PHOTOS",
    "Catalog",
    "Finding",
    "NearDuplicates",
    "Statistics",
    "Subset",
    "assign_folds",
    "check_dataset",
    "count_photos",
    "draw_long_tail",
    "find_near_duplicates",
    "ks_distance",
    "landmark_buckets",
    "leave_out",
    "read_catalog",
    "read_photo_urls",
    "read_subset",
    "refuse_filled",
    "refuse_occupied",
    "sample_subset",
    "split_references",
    "summarize",
    "take_percentiles",
    "write_subset",
]
