"""Downloading Google Landmarks v2: its tables, then its tars or single photos, resumed after any interruption.

A ``DownloadRequest`` names the wanted part; a ``Downloader`` plans what is missing and fetches it.
"""

from __future__ import annotations

from obelisk.data.download.downloader import Downloader, DownloadReport, FailedFile
from obelisk.data.download.http import RetryPolicy
from obelisk.data.download.plan import (
    BASE_URL,
    DownloadPlan,
    DownloadRequest,
    SplitName,
    parse_splits,
    parse_tars,
)
from obelisk.data.download.state import DownloadState

__all__ = [
    "BASE_URL",
    "DownloadPlan",
    "DownloadReport",
    "DownloadRequest",
    "DownloadState",
    "Downloader",
    "FailedFile",
    "RetryPolicy",
    "SplitName",
    "parse_splits",
    "parse_tars",
]
