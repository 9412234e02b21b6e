"""One process of the comparison over a network: `python -m bench.errand CLIENT URL COUNT`.

Each client sees jobs through their whole life, one after the other: create, claim, report progress once, look for a
cancel once, finish. Spool's client does so with Spool's statements and all that they keep; the other two with the
five statements that a queue by hand would have, each fenced, on a table of their own. Prints the seconds as JSON.
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


def _by_hand(run: Callable[[str, tuple[int, ...]], list[tuple[int, ...]]]) -> Callable[[], None]:
    def live() -> None:
        run(CREATE, ())
        claimed = run(CLAIM, ())[0]
        for statement in (PROGRESS, CONTROL, FINISH):
            run(statement, claimed)

    run(TABLE, ())
    run(INDEX, ())
    return live


def _spool(url: str) -> Callable[[], None]:
    from shared.job import NewJob, Outcome, new_id  # noqa: PLC0415 - not in the peers' environment
    from shared.store.hrana import Hrana  # noqa: PLC0415 - not in the peers' environment
    from shared.store.turso import TursoJobStore  # noqa: PLC0415 - not in the peers' environment
    from shared.store.values import Beat, ClaimRequest, Worker  # noqa: PLC0415 - not in the peers' environment

    store = TursoJobStore(Hrana(url))
    worker = Worker(new_id(), "bench", "0", ("ingest",), 1)

    def live() -> None:
        store.create([NewJob(id=new_id(), type="ingest", params={"source": new_id()})])
        job = store.claim(ClaimRequest(worker, new_id(), 90))
        assert job is not None
        store.heartbeat(worker, [Beat(job.claim)], lease_s=90)
        store.control(worker.id)
        store.finish(job.claim, Outcome("completed", result={}))

    return live


def _libsql_client(url: str) -> Callable[[], None]:
    from libsql_client import create_client_sync  # noqa: PLC0415 - only in the peers' environment

    client = create_client_sync(url)
    return _by_hand(lambda text, params: [tuple(row) for row in client.execute(text, list(params)).rows])


def _sqlalchemy_libsql(url: str) -> Callable[[], None]:
    from sqlalchemy import create_engine  # noqa: PLC0415 - only in the peers' environment

    engine = create_engine(f"sqlite+libsql://{url.removeprefix('http://')}?secure=false")

    def run(text: str, params: tuple[int, ...]) -> list[tuple[int, ...]]:
        with engine.begin() as connection:
            answer = connection.exec_driver_sql(text, params)
            asks = text.startswith("SELECT") or "RETURNING" in text  # of others this driver has no rows, not even none
            return [tuple(row) for row in answer.fetchall()] if asks else []

    return _by_hand(run)


CLIENTS = {"Spool": _spool, "libsql-client": _libsql_client, "sqlalchemy-libsql": _sqlalchemy_libsql}


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
