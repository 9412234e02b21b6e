"""Connections of the API under uvicorn: whoever says nothing, or says it in drops, holds none of them open for long.

Each is a file of this process, and there are only so many. Bodies have their own limit, in functions/call.py.
"""

from __future__ import annotations

import asyncio
import sys
from http import HTTPStatus

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from functions.problems import problem
from shared.errors import HeadersTooLarge, Malformed, SpoolError, TooSlow

#: A browser sends a whole request at once; who needs longer than this will not send it.
HEAD_LIMIT_S = 30.0
HEAD_LIMIT_BYTES = 65_536


class Patient(H11Protocol):
    """Awaits the head of each request for so long and no longer, and refuses what is none with one sentence."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first request."""
        super().connection_made(transport)  # type: ignore[arg-type]  # uvicorn narrows it
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Read on; a byte now and then buys no time."""
        super().data_received(data)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._await_nothing()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be read; uvicorn calls this while it handles the reason."""
        del msg
        if getattr(sys.exception(), "error_status_hint", None) == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
            self._refuse(HeadersTooLarge(f"The headers are larger than {HEAD_LIMIT_BYTES} bytes; send fewer."))
        else:
            self._refuse(Malformed("This is no HTTP/1.1 request, or its headers contradict each other."))

    def _await_head(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._await_nothing()
        elif self._late is None and not self.transport.is_closing():
            self._late = self.loop.call_later(HEAD_LIMIT_S, self._give_up)

    def _await_nothing(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _give_up(self) -> None:
        self._late = None
        if self.conn.our_state is h11.IDLE and self.conn.trailing_data[0]:
            self._refuse(TooSlow(f"The headers took longer than {HEAD_LIMIT_S:g} s; send the whole request again."))
        else:
            self.transport.close()

    def _refuse(self, error: SpoolError) -> None:
        answer = problem(error)
        headers = [*answer.raw_headers, (b"connection", b"close")]
        for event in (
            h11.Response(status_code=answer.status_code, headers=headers, reason=HTTPStatus(error.status).phrase),
            h11.Data(data=bytes(answer.body)),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
