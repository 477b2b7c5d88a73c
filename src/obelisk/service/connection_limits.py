"""Connections that cannot be held: how long requests may take to arrive, and answers to be taken."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from obelisk.service.problems import ProblemError
from obelisk.service.settings import HEADER_SECONDS, IDLE_SECONDS, MOST_CONNECTIONS, TAKING_SECONDS


def server_options() -> dict[str, Any]:
    """Return what uvicorn is told of connections and of what it logs: no client can fill the log."""
    return {
        "http": BoundedConnection,
        "ws": "none",
        "timeout_keep_alive": IDLE_SECONDS,
        "server_header": False,
        "log_level": "error",
    }


class BoundedConnection(H11Protocol):
    """A connection that is cut if the headers of a request do not arrive, or an answer is not taken, in time.

    If there are too many, the one that has waited longest for a request makes room: a client that opens them to keep
    others out loses its own.
    """

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for a request."""
        super().connection_made(transport)
        self._set_deadline(HEADER_SECONDS)
        if len(self.connections) > MOST_CONNECTIONS:
            waiting = [one for one in self.connections if isinstance(one, BoundedConnection) and one._waits()]
            min(waiting, key=lambda one: one._since).transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request; time runs until its headers are complete."""
        super().data_received(data)
        if self._answers():
            if not self.flow.write_paused:
                self._clear_deadline()
        elif self._deadline is None:
            self._set_deadline(HEADER_SECONDS)

    def on_response_complete(self) -> None:
        """Start to wait for the next request."""
        self._since = self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Give the client time to take what was sent."""
        super().pause_writing()
        self._set_deadline(TAKING_SECONDS)

    def resume_writing(self) -> None:
        """Go on sending."""
        super().resume_writing()
        self._clear_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._clear_deadline()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP by a problem document, unless another answer was begun."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()
            return
        refused = ProblemError(HTTPStatus.BAD_REQUEST, "the request is not valid HTTP").response()
        headers = [*refused.raw_headers, (b"connection", b"close")]
        for event in (
            h11.Response(status_code=refused.status_code, headers=headers, reason=b"Bad Request"),
            h11.Data(data=bytes(refused.body)),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _answers(self) -> bool:
        """Return whether a request has arrived that is not answered yet."""
        return self.cycle is not None and not self.cycle.response_complete

    def _waits(self) -> bool:
        """Return whether nothing would be lost with the connection, save what its client has not sent yet."""
        return not self._answers() and not self.transport.is_closing()

    def _set_deadline(self, seconds: float) -> None:
        self._clear_deadline()
        self._since = self.loop.time()
        self._deadline = self.loop.call_later(seconds, self.transport.abort)

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
