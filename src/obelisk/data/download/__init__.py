"""Getting Google Landmarks v2: its tables, then its tars or single photos, resumed wherever the last try ended.

``Order`` says what is wanted, ``Download`` finds out what is missing and fetches it.
"""

from __future__ import annotations

from obelisk.data.download.downloader import Download, Failure, Report
from obelisk.data.download.http import Patience
from obelisk.data.download.order import BASE_URL, Order, SplitName, parse_splits, parse_tars
from obelisk.data.download.outlook import Outlook, describe_bytes
from obelisk.data.download.state import DownloadState
from obelisk.data.download.tally import Tally

__all__ = [
    "BASE_URL",
    "Download",
    "DownloadState",
    "Failure",
    "Order",
    "Outlook",
    "Patience",
    "Report",
    "SplitName",
    "Tally",
    "describe_bytes",
    "parse_splits",
    "parse_tars",
]
