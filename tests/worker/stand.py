"""A worker on its test stand: the real loop, store and storage, with pipelines that run small Python programs.

`python -m tests.worker.stand SETTINGS_JSON` is that worker as a process of its own.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shared.errors import JobFailure, Unavailable
from shared.job import Job, NewJob, Status, new_id
from shared.log import configure_log
from shared.settings import Settings, load_settings
from shared.storage.local import LocalStorage
from shared.storage.protocol import StorageAdapter
from shared.store.local import LocalJobStore
from shared.store.sql import SqlJobStore
from shared.types import JOB_TYPES
from worker.fetch import Network
from worker.ffmpeg import Engine
from worker.loop import Worker
from worker.run import Pipeline, Run, Stage

ROOT = Path(__file__).parents[2]
ENGINE = Engine(Path("ffmpeg"), None, "none", frozenset(), frozenset())
#: How long a test waits for what must happen before it calls it a failure.
PATIENCE_S = 60.0

ERRORS: dict[str, Callable[[], BaseException]] = {
    "bad input": lambda: JobFailure("bad_input.empty", "The file is empty; upload another one."),
    "transient": lambda: JobFailure("network.dns", "The name is unknown at the moment.", kind="transient"),
    "disk full": lambda: OSError(errno.ENOSPC, "No space left on device"),
    "memory": MemoryError,
    "storage": lambda: Unavailable("The storage does not answer."),
    "bug": lambda: KeyError("a bug"),
    "exit": lambda: SystemExit(0),
}


def _prepare(run: Run, state: dict[str, Any]) -> None:
    if "error" in run.job.params:
        raise ERRORS[run.job.params["error"]]()
    (run.work / "file").write_text("something")
    state["mode"] = run.work.stat().st_mode & 0o777
    run.report.progress(1, 2)
    run.report.log("info", "half of it", pid=os.getpid())


def _execute(run: Run, state: dict[str, Any]) -> None:
    code = run.job.params.get("code")
    if code is not None:
        state["returncode"] = run.processes.run([sys.executable, "-I", "-S", "-c", code], cwd=run.work).returncode


def _result(state: dict[str, Any]) -> tuple[dict[str, Any], tuple[Any, ...]]:
    return ({"not": object()} if state["unwritable"] else state), ()


INGEST: Pipeline[dict[str, Any]] = Pipeline(
    "ingest",
    begin=lambda run: {"unwritable": run.job.params.get("unwritable", False)},
    stages=(Stage("preparing", _prepare), Stage("executing", _execute)),
    result=_result,
)


def settings_for(folder: Path, **changed: object) -> Settings:
    """Quick settings on a database, storage and work folder below `folder`."""
    quick: dict[str, object] = {
        "database_url": f"sqlite:///{folder}/spool.db",
        "storage_url": f"file:{folder}/storage",
        "work_dir": folder / "work",
        "heartbeat_s": 0.2,
        "control_s": 0.1,
        "lease_s": 30.0,
        "cancel_grace_s": 0.3,
        "drain_s": 60.0,
    }
    return load_settings(**quick | changed)


def make_worker(
    store: LocalJobStore,
    settings: Settings,
    *,
    stall_s: float = 600.0,
    network: Network | None = None,
    storage: StorageAdapter | None = None,
) -> Worker:
    """A worker that offers `ingest` by the test pipeline, and a parent type, which nobody may claim."""
    return Worker(
        store,
        storage or LocalStorage(Path(settings.storage_url.removeprefix("file:")), b"secret"),
        ENGINE,
        settings,
        {"ingest": INGEST, "flow": INGEST},
        worker_id=new_id(),
        host=socket.gethostname(),
        version="0",
        new_token=new_id,
        network=network,
        job_types=JOB_TYPES | {"ingest": dataclasses.replace(JOB_TYPES["ingest"], stall_s=stall_s)},
    )


class Stand:
    """A queue with a worker in threads of this process."""

    def __init__(
        self,
        store: LocalJobStore,
        settings: Settings,
        *,
        stall_s: float = 600.0,
        network: Network | None = None,
        storage: StorageAdapter | None = None,
    ) -> None:
        self.store, self.settings = store, settings
        self.worker = make_worker(store, settings, stall_s=stall_s, network=network, storage=storage)
        self.exit_codes: list[int] = []
        self._thread = threading.Thread(target=lambda: self.exit_codes.append(self.worker.run()))

    def start(self) -> None:
        """Let the worker begin."""
        self._thread.start()

    def end(self) -> int:
        """Wait for the worker's end; returns its exit code."""
        self._thread.join(PATIENCE_S)
        assert self.exit_codes, "the worker did not end"
        return self.exit_codes[0]

    def drop(self) -> None:
        """End the worker at once."""
        if self._thread.is_alive():
            self.worker.drain()
            self.worker.drain()
            self.end()


def submit(store: LocalJobStore, **fields: Any) -> Job:
    """A new job with these parameters; `NewJob` fields go by their names."""
    names = {field.name for field in dataclasses.fields(NewJob)}
    params = {name: value for name, value in fields.items() if name not in names}
    rest = {name: value for name, value in fields.items() if name in names}
    return store.create([NewJob(**{"id": new_id(), "type": "ingest", "params": params} | rest)])[0]


def until(
    store: SqlJobStore, job: Job, wanted: Callable[[Job], bool] | Status, *, patience_s: float = PATIENCE_S
) -> Job:
    """Wait, by the store's own watch, until the job is as wanted."""
    give_up = time.monotonic() + patience_s
    watch = store.watch()
    try:
        while True:
            found = store.get(job.id)
            assert found is not None
            if found.status is wanted if isinstance(wanted, Status) else wanted(found):
                return found
            assert time.monotonic() < give_up, f"job is {found}"
            watch.wait(0.5)
    finally:
        watch.close()


class Program:
    """Python code for a job that tells over a named pipe that it runs, and is watched by a descriptor from then on."""

    def __init__(self, folder: Path, then: str = "time.sleep(600)") -> None:
        self._fifo = folder / f"{new_id()}.fifo"
        os.mkfifo(self._fifo)
        self._read = os.open(self._fifo, os.O_RDWR)  # as a writer too: it never ends
        self.code = f"import os, signal, time\nopen({str(self._fifo)!r}, 'w').write(f'{{os.getpid()}}\\n')\n{then}"
        self._fd: int | None = None

    def await_start(self) -> int:
        """Wait until it runs; returns its pid."""
        text = b""
        while not text.endswith(b"\n"):
            assert select.select([self._read], [], [], PATIENCE_S)[0], "the program did not start"
            text += os.read(self._read, 100)
        pid = int(text)
        self._fd = os.pidfd_open(pid)
        return pid

    def dead(self, timeout_s: float = 0.0) -> bool:
        """Whether it has ended, by now or within the time."""
        assert self._fd is not None
        return bool(select.select([self._fd], [], [], timeout_s)[0])


def main() -> int:
    """The worker as a process."""
    settings = load_settings(**json.loads(sys.argv[1]))
    configure_log(settings)
    store = LocalJobStore(Path(settings.database_url.removeprefix("sqlite:///")))
    worker = make_worker(store, settings)
    signal.signal(signal.SIGTERM, lambda *_: worker.drain())
    return worker.run()


if __name__ == "__main__":
    sys.exit(main())
