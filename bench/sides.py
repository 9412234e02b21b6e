"""The queues that are compared: each puts jobs in, and takes them out one after the other until there are none.

A job is *done* when the queue has said so durably. What each side does for that differs, and is told beside its name:
`commits` counts the transactions that taking and finishing one job costs. This module runs in the peers' environment
as well as in Spool's, so it imports a side's package when that side is chosen.
"""

from __future__ import annotations

import json
import sqlite3  # noqa: TID251 - one of the sides is SQLite itself
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bench import peers

PAYLOAD = {"source": "0199a1b2-7c3d-7e4f-8a5b-6c7d8e9f0a1b", "preset": "podcast"}
Synchronous = str  # FULL: on disk before it is acknowledged; NORMAL: a power cut may take the last ones back


class Queue(Protocol):
    """One process's view of a queue in one file."""

    def put(self) -> None:
        """Durably add one job."""

    def drain(self, most: int) -> int:
        """Take and finish jobs until there are none, `most` at the most; returns how many."""


@dataclass(frozen=True)
class Side:
    """A competitor: how to open it, what a job costs it, and what it gives for that."""

    name: str
    open: Callable[[Path, Synchronous], Queue] | None
    package: str
    gives: str
    processes: bool = True
    #: The program of a side that is not Python's.
    script: str = ""
    #: Whether a job that a process has taken is still there when the process is killed.
    keeps: bool = True


class _Ceiling:
    """What SQLite itself allows: one table, one partial index, a claim and a fenced finish, and nothing else."""

    def __init__(self, path: Path, synchronous: Synchronous) -> None:
        self._database = sqlite3.connect(path, timeout=30, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute(f"PRAGMA synchronous = {synchronous}")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS job (seq INTEGER PRIMARY KEY AUTOINCREMENT, params TEXT NOT NULL,"
            " status TEXT NOT NULL DEFAULT 'pending', attempt INTEGER NOT NULL DEFAULT 0)"
        )
        self._database.execute("CREATE INDEX IF NOT EXISTS waiting ON job (seq) WHERE status = 'pending'")

    def put(self) -> None:
        self._database.execute("INSERT INTO job (params) VALUES (?)", (json.dumps(PAYLOAD),))

    def drain(self, most: int) -> int:
        done = 0
        while done < most:
            claimed = self._database.execute(
                "UPDATE job SET status = 'running', attempt = attempt + 1 WHERE seq ="
                " (SELECT seq FROM job WHERE status = 'pending' ORDER BY seq LIMIT 1) RETURNING seq, attempt"
            ).fetchall()
            if not claimed:
                break
            self._database.execute(
                "UPDATE job SET status = 'completed' WHERE seq = ? AND attempt = ? AND status = 'running'", claimed[0]
            )
            done += 1
        return done


class _Spool:
    """Spool's local queue, with all that it keeps of a job: events, statistics, parents, fences, idempotency."""

    def __init__(self, path: Path, synchronous: Synchronous) -> None:
        from shared.job import NewJob, Outcome, new_id  # noqa: PLC0415 - not in the peers' environment
        from shared.store.local import LocalJobStore  # noqa: PLC0415 - not in the peers' environment
        from shared.store.values import ClaimRequest, Worker  # noqa: PLC0415 - not in the peers' environment

        class Relaxed(LocalJobStore):
            def _connect(self) -> sqlite3.Connection:
                connection = super()._connect()
                connection.execute(f"PRAGMA synchronous = {synchronous}")
                return connection

        self._store = Relaxed(path)
        self._store.migrate()
        worker = Worker(new_id(), "bench", "0", ("ingest",), 1)
        self._new = lambda: NewJob(id=new_id(), type="ingest", params=PAYLOAD)
        self._request = lambda: ClaimRequest(worker, new_id(), 90)
        self._done = Outcome("completed", result={})

    def put(self) -> None:
        self._store.create([self._new()])

    def drain(self, most: int) -> int:
        done, job = 0, self._store.claim(self._request())
        while job is not None:
            done += 1
            following = self._request() if done < most else None
            job = self._store.finish(job.claim, self._done, next=following).next
        return done


class _Huey:
    """huey takes a task by deleting it: there is no finish, and a worker that is killed has lost it."""

    def __init__(self, path: Path, synchronous: Synchronous) -> None:
        from huey.storage import SqliteStorage  # noqa: PLC0415 - only in the peers' environment

        self._storage = SqliteStorage("bench", filename=str(path), timeout=30)
        self._storage.conn.execute(f"PRAGMA synchronous = {synchronous}")
        self._payload = json.dumps(PAYLOAD).encode()

    def put(self) -> None:
        self._storage.enqueue(self._payload)

    def drain(self, most: int) -> int:
        done = 0
        while done < most and self._storage.dequeue() is not None:
            done += 1
        return done


class _Litequeue:
    """litequeue takes a message and marks it done."""

    def __init__(self, path: Path, synchronous: Synchronous) -> None:
        from litequeue import LiteQueue  # noqa: PLC0415 - only in the peers' environment

        self._queue = LiteQueue(str(path), timeout=30)
        self._queue.conn.execute(f"PRAGMA synchronous = {synchronous}")
        self._payload = json.dumps(PAYLOAD)

    def put(self) -> None:
        self._queue.put(self._payload)

    def drain(self, most: int) -> int:
        done = 0
        while done < most and (message := self._queue.pop()) is not None:
            self._queue.done(message.message_id)
            done += 1
        return done


class _PersistQueue:
    """persist-queue takes an item and acknowledges it; one process only."""

    def __init__(self, path: Path, synchronous: Synchronous) -> None:
        from persistqueue import Empty, SQLiteAckQueue  # noqa: PLC0415 - only in the peers' environment
        from persistqueue.serializers import json as as_json  # noqa: PLC0415 - only in the peers' environment

        self._empty = Empty
        self._queue: Any = SQLiteAckQueue(str(path), auto_commit=True, multithreading=True, serializer=as_json)
        for connection in {self._queue._conn, self._queue._putter, self._queue._getter}:
            connection.execute(f"PRAGMA synchronous = {synchronous}")

    def put(self) -> None:
        self._queue.put(PAYLOAD)

    def drain(self, most: int) -> int:
        done = 0
        while done < most:
            try:
                item = self._queue.get(block=False)
            except self._empty:
                break
            self._queue.ack(item)
            done += 1
        return done


SIDES = {
    side.name: side
    for side in (
        Side("sqlite3 by hand", _Ceiling, "", "claim and fenced finish; no history"),
        Side("Spool", _Spool, "", "fenced; history, statistics, families"),
        Side("huey", _Huey, peers.HUEY, "taken is deleted; lost when killed", keeps=False),
        Side("litequeue", _Litequeue, peers.LITEQUEUE, "take and done; no fence"),
        Side("persist-queue", _PersistQueue, peers.PERSIST_QUEUE, "take and ack; one process", processes=False),
        Side("plainjob (Node)", None, "", "take and done; no fence", script="plainjob.mjs"),
    )
}
