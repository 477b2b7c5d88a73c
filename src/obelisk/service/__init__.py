"""The HTTP service: a documented API and a web page over one gallery. Needs the extra ``serve``.

::

    request → guards (host, origin, size, time) → uploads → queue → recognizer → the JSON of the command line

Every request is answered by the one :class:`~obelisk.recognition.Recognizer` of the process, in one thread: photos that
wait are answered together (:mod:`~obelisk.service.request_queue`), on all cores. What exceeds a limit, or would have to
wait for too long, is refused at once, by a problem document (RFC 9457) that says what to do. Photos stay in memory;
nothing is stored, and no name of a photo is logged.
"""

from __future__ import annotations

from obelisk.service.app import create_app
from obelisk.service.settings import ServiceSettings

__all__ = ["ServiceSettings", "create_app"]
