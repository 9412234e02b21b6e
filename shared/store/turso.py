"""The queue in a libSQL database (Turso): the same statements, one HTTP request per batch."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random_exponential

from shared.errors import Busy, Refused
from shared.store.contact import Contact
from shared.store.hrana import Hrana, Overloaded, Result, Unreachable
from shared.store.migrations import migrations
from shared.store.rows import Row
from shared.store.sql import SqlJobStore, Statement
from shared.store.statements.migrations import MIGRATED, MIGRATION_TABLE, MIGRATIONS
from shared.store.usage import Usage

#: Every batch of the store may be sent twice (tests/contract/test_repeats.py), so a lost answer is asked for again.
_REPEATABLE = (Busy, Overloaded, Unreachable)
_PATIENCE_S = 20.0
_POLL_S = (0.25, 2.0)
_SPREAD = (0.8, 1.2)


class TursoJobStore(SqlJobStore):
    """A job store on a libSQL server: busy, overloaded and broken connections are tried again for `patience_s`.

    Not while the server is away altogether: then a call fails at once, and whoever asked decides when to ask again.

    `on_result` sees every result, for counting rows read and written.
    """

    def __init__(
        self,
        client: Hrana,
        *,
        on_result: Callable[[Result], None] | None = None,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self._client = client
        self._on_result = on_result
        self._patience_s = patience_s
        self._contact = Contact()
        self.usage = Usage()
        # The server has one writer. Let several of a process crowd before it, and sqld 0.24 can stop for good.
        self._turn = threading.Lock()

    def migrate(self) -> Sequence[str]:
        """Apply the migrations that are missing, each in one transaction."""
        applied = []
        for name in self.pending_migrations():
            steps = [Statement(text) for text in migrations()[name]]
            record = Statement(MIGRATED, {"name": name})
            try:
                self._run([*steps, record])
            except Refused:
                if name in self.pending_migrations():
                    raise
            else:
                applied.append(name)
        return applied

    def pending_migrations(self) -> Sequence[str]:
        """The migrations that this database lacks."""
        _, rows = self._run([Statement(MIGRATION_TABLE), Statement(MIGRATIONS)])
        applied = {row["name"] for row in rows}
        return [name for name in migrations() if name not in applied]

    def watch(self) -> _PollingWatch:
        """A watch that asks again after a while: a remote database does not tell when it changes."""
        return _PollingWatch()

    def copy_to(self, path: Path) -> None:
        """Write the queue, as it is at one moment, to a new SQLite file: a transaction of the server keeps it."""
        from shared.store.backup import copy_from  # noqa: PLC0415 - functions never copy, and start faster without it

        with self._client.stream() as stream:
            copy_from(stream, path)

    def close(self) -> None:
        """Let go of all connections."""
        self._client.close()

    def _run(self, batch: Sequence[Statement]) -> list[list[Row]]:
        return self._send(batch, "IMMEDIATE")

    def _read(self, batch: Sequence[Statement]) -> list[list[Row]]:
        return self._send(batch, "DEFERRED" if len(batch) > 1 else None)

    def _send(self, batch: Sequence[Statement], mode: str | None) -> list[list[Row]]:
        statements = [(statement.text, statement.params) for statement in batch]
        only_if = [statement.only_if for statement in batch]
        for attempt in Retrying(
            retry=retry_if_exception_type(_REPEATABLE),
            wait=wait_random_exponential(multiplier=0.05, max=2.0),
            stop=self._enough,
            reraise=True,
        ):
            with attempt, self._contact.watched(), self._turn if mode == "IMMEDIATE" else nullcontext():
                results = self._client.batch(statements, mode, only_if)
        self.usage.count(sum(one.rows_read for one in results), sum(one.rows_written for one in results))
        if self._on_result:
            for result in results:
                self._on_result(result)
        return [list(result.rows) for result in results]

    def _enough(self, state: RetryCallState) -> bool:
        return self._contact.away or (state.seconds_since_start or 0.0) >= self._patience_s


class _PollingWatch:
    """Answers sooner after a change was found, and ever later, up to two seconds, while nothing happens."""

    look_s = _POLL_S[1] * _SPREAD[1]

    def __init__(self) -> None:
        self._pause_s = _POLL_S[0]

    def wait(self, timeout_s: float) -> bool:
        """Sleep a little and return True: something may have changed. False where `timeout_s` is less than a little."""
        pause = self._pause_s * random.uniform(*_SPREAD)  # noqa: S311 - spreads polls, protects nothing
        self._pause_s = min(self._pause_s * 1.5, _POLL_S[1])
        time.sleep(min(pause, timeout_s))
        return pause <= timeout_s

    def found(self) -> None:
        """Something had changed, so more may be on its way: look soon again."""
        self._pause_s = _POLL_S[0]

    def close(self) -> None:
        """Nothing to let go of."""
