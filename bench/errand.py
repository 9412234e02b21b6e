"""One process of the comparison over a network: `python -m bench.errand CLIENT URL COUNT`.

Each client sees jobs through their whole life, one after the other, as a worker does that is never idle: create, finish
the one before and claim the next, report progress once, look for a cancel once. Spool's client does so with Spool's
statements and all that they keep; the others with the five statements that a queue by hand would have, each fenced, on
a table of their own, and with the best that they offer for a finish that is also a claim:

- Spool sends both in one batch, which is one transaction and one request;
- libsql-client does the same with its own batches;
- sqlalchemy-libsql takes a transaction for each step, as its users do, and one for finish and claim together;
- sqlalchemy-libsql, autocommit, lets each statement commit by itself. SQLAlchemy's own way to say so fails with this
  driver; it is told to the driver when it connects. Finish and claim are then two transactions.

Prints the seconds as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable

TABLE = (
    "CREATE TABLE IF NOT EXISTS handmade (seq INTEGER PRIMARY KEY AUTOINCREMENT, status TEXT NOT NULL,"
    " attempt INTEGER NOT NULL, worker TEXT, progress REAL, cancel INTEGER NOT NULL DEFAULT 0)"
)
INDEX = "CREATE INDEX IF NOT EXISTS handmade_waiting ON handmade (seq) WHERE status = 'pending'"
CREATE = "INSERT INTO handmade (status, attempt) VALUES ('pending', 0)"
CLAIM = (
    "UPDATE handmade SET status = 'running', worker = 'bench', attempt = attempt + 1 WHERE seq ="
    " (SELECT seq FROM handmade WHERE status = 'pending' ORDER BY seq LIMIT 1) RETURNING seq, attempt"
)
_MINE = "seq = ? AND attempt = ? AND worker = 'bench' AND status = 'running'"
PROGRESS = f"UPDATE handmade SET progress = 50 WHERE {_MINE}"  # noqa: S608 - a constant
CONTROL = f"SELECT cancel FROM handmade WHERE {_MINE}"  # noqa: S608 - a constant
FINISH = f"UPDATE handmade SET status = 'completed', progress = 100 WHERE {_MINE}"  # noqa: S608 - a constant


#: Statements with their parameters, which belong together; returns the rows of each.
Run = Callable[[list[tuple[str, tuple[int, ...]]]], list[list[tuple[int, ...]]]]


def _by_hand(run: Run) -> Callable[[], None]:
    held: list[tuple[int, ...]] = []

    def live() -> None:
        run([(CREATE, ())])
        finished = [(FINISH, held.pop())] if held else []
        held.append(run([*finished, (CLAIM, ())])[-1][0])
        run([(PROGRESS, held[0])])
        run([(CONTROL, held[0])])

    run([(TABLE, ())])
    run([(INDEX, ())])
    return live


def _spool(url: str) -> Callable[[], None]:
    from shared.job import Job, NewJob, Outcome, new_id  # noqa: PLC0415 - not in the peers' environment
    from shared.store.hrana import Hrana  # noqa: PLC0415 - not in the peers' environment
    from shared.store.turso import TursoJobStore  # noqa: PLC0415 - not in the peers' environment
    from shared.store.values import Beat, ClaimRequest, Worker  # noqa: PLC0415 - not in the peers' environment

    store = TursoJobStore(Hrana(url))
    worker = Worker(new_id(), "bench", "0", ("ingest",), 1)

    held: list[Job] = []

    def live() -> None:
        store.create([NewJob(id=new_id(), type="ingest", params={"source": new_id()})])
        request = ClaimRequest(worker, new_id(), 90)
        done = Outcome("completed", result={})
        job = store.finish(held.pop().claim, done, next=request).next if held else store.claim(request)
        assert job is not None
        held.append(job)
        store.heartbeat(worker, [Beat(job.claim)], lease_s=90)
        store.control(worker.id)

    return live


def _libsql_client(url: str) -> Callable[[], None]:
    from libsql_client import create_client_sync  # noqa: PLC0415 - only in the peers' environment

    client = create_client_sync(url)

    def run(statements: list[tuple[str, tuple[int, ...]]]) -> list[list[tuple[int, ...]]]:
        answers = client.batch(statements) if len(statements) > 1 else [client.execute(*statements[0])]
        return [[tuple(row) for row in answer.rows] for answer in answers]

    return _by_hand(run)


def _sqlalchemy_libsql(url: str, **connecting: object) -> Callable[[], None]:
    from sqlalchemy import create_engine  # noqa: PLC0415 - only in the peers' environment

    engine = create_engine(f"sqlite+libsql://{url.removeprefix('http://')}?secure=false", connect_args=connecting)

    def run(statements: list[tuple[str, tuple[int, ...]]]) -> list[list[tuple[int, ...]]]:
        rows = []
        with engine.begin() as connection:
            for text, params in statements:
                answer = connection.exec_driver_sql(text, params)
                asks = text.startswith("SELECT") or "RETURNING" in text  # of others this driver has no rows at all
                rows.append([tuple(row) for row in answer.fetchall()] if asks else [])
        return rows

    return _by_hand(run)


def _sqlalchemy_autocommit(url: str) -> Callable[[], None]:
    return _sqlalchemy_libsql(url, isolation_level=None)


CLIENTS = {
    "Spool": _spool,
    "libsql-client": _libsql_client,
    "sqlalchemy-libsql": _sqlalchemy_libsql,
    "sqlalchemy-libsql, autocommit": _sqlalchemy_autocommit,
}


def main() -> None:
    """Live through so many lives; the first, which opens connections, is not timed."""
    name, url, count = sys.argv[1:]
    live = CLIENTS[name](url)
    live()
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.monotonic()
    for _ in range(int(count)):
        live()
    print(json.dumps({"seconds": time.monotonic() - began}), flush=True)
    sys.stdin.readline()
    os._exit(0)  # one of the clients has a thread that would not end


if __name__ == "__main__":
    main()
