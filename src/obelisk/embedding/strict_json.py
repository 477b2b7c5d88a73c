"""Parse JSON that somebody else may have made, within limits: of bundles, galleries and runs."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import from_json

from obelisk.errors import ModelError

# A layer of GLDv2's 203,094 landmarks has 406,188 items.
MOST_ITEMS = 2**20
MOST_KEYS = 100_000  # each unknown one is an error of its own

Parsed = TypeVar("Parsed")


class StrictModel(BaseModel):
    """A frozen pydantic model that refuses unknown keys and non-finite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def parse_json(content: bytes, adapter: TypeAdapter[Parsed], *, where: Path | str, what: str, fix: str) -> Parsed:
    """Return a JSON text as what ``adapter`` describes; raises ModelError, calling it ``what``, if it doesn't fit."""
    return validate_json(load_json(content, where=where, what=what, fix=fix), adapter, where=where, what=what, fix=fix)


def load_json(content: bytes, *, where: Path | str, what: str, fix: str) -> object:
    """Return the value of a JSON text; raises ModelError if it is none, or if it has too many parts."""
    reason = f"it has more than {MOST_ITEMS:,} items"
    if content.count(b",") <= MOST_ITEMS:
        try:
            found: object = from_json(content)
        except ValueError as error:
            reason = f"not JSON: {error}"
        else:
            if not isinstance(found, dict) or len(found) <= MOST_KEYS:
                return found
            reason = f"it has more than {MOST_KEYS:,} keys"
    raise ModelError(f"unreadable {what}: {reason}", where=where, fix=fix)


def validate_json(value: object, adapter: TypeAdapter[Parsed], *, where: Path | str, what: str, fix: str) -> Parsed:
    """Return a JSON value as what ``adapter`` describes; raises ModelError with the first problem if it doesn't fit."""
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
        key = ".".join(str(part) for part in problem["loc"]) or "the whole file"
        reason = problem["msg"].removeprefix("Value error, ")
        raise ModelError(f"unreadable {what}: {key[:200]}: {reason}", where=where, fix=fix) from None
