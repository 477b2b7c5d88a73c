"""What people take home: answers as a table."""

from __future__ import annotations

from obelisk.outputs.table import ANSWER_SCHEMA, to_polars

__all__ = ["ANSWER_SCHEMA", "to_polars"]
