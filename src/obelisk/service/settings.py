"""What ``obelisk serve`` was asked for, and the limits of the service."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass

from obelisk.defaults import PRECISION

VARIABLE = "OBELISK_SERVICE"
"""environment variable that brings the settings to the worker processes, as JSON"""

MOST_PHOTOS = 32
"""of a request"""
MOST_BYTES = 64 * 10**6
"""of a request's body"""
MOST_BYTES_AT_ONCE = 256 * 10**6
"""of the bodies of all requests that are being read or answered"""
LARGEST_DOCUMENT = 10**5
"""bytes of a JSON body"""
READING_SECONDS = 30.0
"""that the body of a request may take to arrive"""
WAITING_SECONDS = 1.0
"""that a photo may be expected to wait for its turn; from there on, requests are refused"""
MOST_WAITING = 512
"""photos that may wait for their turn, however quick they are"""
MOST_CONNECTIONS = 900
"""open at once, of one process; most systems allow it 1,024 open files"""
HEADER_SECONDS = 10.0
"""that the headers of a request may take to arrive"""
TAKING_SECONDS = 30.0
"""that a client may take none of its answer"""
IDLE_SECONDS = 30
"""that a connection stays open between requests"""


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """What a service does; limits are module constants.

    ==================  ==================================================================================
    ``galleries``       folders of the galleries, or ``bundled``; without any, it is the bundled one
    ``precision``       share of the given answers that should be right, unless a request says otherwise
    ``allow_changes``   whether requests with the token may add, rename, merge and remove landmarks
    ``token``           what such requests carry; never logged
    ``hosts``           names by which clients may call the service, besides IP addresses and ``localhost``
    ``origins``         origins of other web pages that may call it
    ==================  ==================================================================================
    """

    galleries: tuple[str, ...] = ()
    precision: float = PRECISION
    allow_changes: bool = False
    token: str = dataclasses.field(default="", repr=False)
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return the settings as JSON, for a worker process."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> ServiceSettings:
        """Read the settings that a parent process left in the environment."""
        fields = json.loads(environment.get(VARIABLE, "{}"))
        for name in ("galleries", "hosts", "origins"):
            fields[name] = tuple(fields.get(name, ()))
        return cls(**fields)
