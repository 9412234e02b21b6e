"""A session of an agent: a conversation whose every turn is a job."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from shared.job import ENDED_BADLY, Status

Role = Literal["user", "assistant", "system"]


class SessionStatus(StrEnum):
    """How a session stands, read off its newest turn: it is kept nowhere, so it cannot be wrong."""

    NOT_STARTED = "not_started"
    PROCESSING = "processing"
    WAITING_FOR_INPUT = "waiting_for_input"
    ERROR = "error"
    COMPLETED = "completed"


@dataclass(frozen=True, slots=True)
class Message:
    """Something said in a session. `id` rises over all events; `at` is in milliseconds UTC.

    `assets` are the uploads that came with it: their ids by file name. `parts` counts the jobs that its turn has added.
    """

    id: int
    job_id: str
    role: Role
    text: str
    at: int
    assets: tuple[dict[str, str], ...] = ()
    parts: int = 0


@dataclass(frozen=True, slots=True)
class Turn:
    """The newest job of a session, as far as the session's state depends on it, and the jobs that it has added."""

    job_id: str
    status: Status
    cancelling: bool
    error: dict[str, Any] | None
    needs_input: bool
    updated_at: int
    parts: int
    parts_done: int
    parts_failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSession:
    """A session as it is asked for."""

    id: str
    program: str
    title: str | None
    params: dict[str, Any]
    caller: str
    idempotency_key: str | None = None
    request_hash: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A conversation. `preview` is the last that the program said, oldest first and shortened."""

    id: str
    place: int
    program: str
    title: str | None
    params: dict[str, Any]
    caller: str
    created_at: int
    updated_at: int
    request_hash: str | None
    turn: Turn | None
    preview: tuple[Message, ...]

    @property
    def status(self) -> SessionStatus:
        """How it stands. After a cancel it is the person's turn again."""
        if self.turn is None:
            return SessionStatus.NOT_STARTED
        if self.turn.status is Status.CANCELLED or (self.turn.status is Status.COMPLETED and self.turn.needs_input):
            return SessionStatus.WAITING_FOR_INPUT
        if self.turn.status is Status.COMPLETED:
            return SessionStatus.COMPLETED
        return SessionStatus.ERROR if self.turn.status in ENDED_BADLY else SessionStatus.PROCESSING
