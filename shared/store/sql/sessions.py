"""Conversations."""

from __future__ import annotations

import json
from collections.abc import Sequence

from shared.errors import Conflict
from shared.job import NewJob
from shared.session import Message, NewSession, Session
from shared.store.rows import to_message, to_session
from shared.store.sql.batches import NEWEST, Batches, Bound, Statement
from shared.store.sql.insertions import insertions
from shared.store.statements import sessions


class SessionVerbs(Batches):
    """Sessions, and what was said in them."""

    def create_session(self, session: NewSession, turn: NewJob | None = None) -> tuple[Session, bool]:
        """Begin a session, with its first turn when there is one; repeats are safe."""
        about: Bound = {
            "id": session.id,
            "program": session.program,
            "title": session.title,
            "params": json.dumps(session.params),
            "caller": session.caller,
            "key": session.idempotency_key,
            "hash": session.request_hash,
        }
        first = insertions([turn]) if turn is not None else []
        rows = self._run([Statement(sessions.ADD, about), *first, Statement(sessions.BY_ID_OR_KEY, about)])[-1]
        found = to_session(rows[0])
        if found.id != session.id and found.request_hash != session.request_hash:
            raise Conflict(
                f"The Idempotency-Key was used before for another request (session {found.id}). "
                "Use a new key for a new session."
            )
        return found, found.id == session.id

    def session(self, session_id: str) -> Session | None:
        """A session with its newest turn and the last that was said."""
        rows = self._read([Statement(sessions.ONE, {"id": session_id})])[0]
        return to_session(rows[0]) if rows else None

    def sessions(self, *, limit: int, before_place: int | None = None) -> Sequence[Session]:
        """Sessions, the last used first."""
        params = {"before": NEWEST if before_place is None else before_place, "limit": limit}
        return [to_session(row) for row in self._read([Statement(sessions.LIST, params)])[0]]

    def messages(
        self, session_id: str, *, limit: int, after: int | None = None, before: int | None = None
    ) -> Sequence[Message]:
        """What was said, oldest first."""
        about: Bound = {"id": session_id, "limit": limit, "after": after, "before": before or NEWEST}
        if after is not None:
            return [to_message(row) for row in self._read([Statement(sessions.MESSAGES_AFTER, about)])[0]]
        rows = self._read([Statement(sessions.MESSAGES_BEFORE, about)])[0]
        return [to_message(row) for row in reversed(rows)]
