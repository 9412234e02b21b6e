"""A deployment on this machine: a real database server, the real API and real workers, each in a process of its own."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import urllib3

from shared.store.hrana import Hrana
from shared.store.local import LocalJobStore
from shared.store.sql import Statement
from shared.store.turso import TursoJobStore
from tests.real.sqld import Sqld

ROOT = Path(__file__).parents[2]
#: How long a test waits for what must happen before it calls it a failure.
PATIENCE_S = 60.0
WENT, CAME = "the database does not answer", "the database answers again"
#: An ffmpeg that stops before it touches a recording, while the gate is shut, until somebody lets it continue.
PATIENT_FFMPEG = """#!/bin/sh
case "$*" in *sine=*|-version|-encoders|-filters) ;; *) if [ -e {shut} ]; then kill -STOP $$; fi ;; esac
exec {ffmpeg} "$@"
"""


def until(condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    """Return once the condition holds; fail the test when it has not by the deadline."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"within {patience_s:.0f} s: {what} did not happen"
        time.sleep(0.05)  # each look reads a log or asks the database, next to what is tested


@dataclass
class Part:
    """One of Spool's processes, and the log that it writes; `harmed` says that a test did something to it."""

    name: str
    process: subprocess.Popen[str]
    log: Path
    harmed: bool = False

    def lines(self) -> list[dict[str, Any]]:
        """What it has said so far; a line that is no JSON fails the test, except where the process was harmed."""
        said = []
        whole, _, _begun = self.log.read_text(errors="replace").rpartition("\n")  # it may be at a line just now
        for line in whole.splitlines():
            try:
                said.append(json.loads(line))
            except ValueError:
                assert self.harmed, line
        return said

    def said(self, event: str) -> list[dict[str, Any]]:
        """The lines of one kind."""
        return [line for line in self.lines() if line["event"] == event]

    def complaints(self) -> list[str]:
        """The warnings and errors."""
        return [line["event"] for line in self.lines() if line["level"] not in {"debug", "info"}]


class Gate:
    """Holds ffmpeg back, so that a job runs for as long as a test wants at no cost."""

    def __init__(self, folder: Path, ffmpeg: Path) -> None:
        self._shut, self.ffmpeg = folder / "shut", folder / "ffmpeg"
        paths = {"shut": shlex.quote(str(self._shut)), "ffmpeg": shlex.quote(str(ffmpeg))}
        self.ffmpeg.write_text(PATIENT_FFMPEG.format(**paths))
        self.ffmpeg.chmod(0o700)

    def shut(self) -> None:
        """From now on whoever begins with a recording waits."""
        self._shut.touch()

    def open(self) -> None:
        """From now on nobody begins to wait; those who do go on waiting."""
        self._shut.unlink()

    def waiting(self) -> dict[str, list[int]]:
        """Process ids of those who wait, by the job they wait for."""
        found: dict[str, list[int]] = {}
        for pid, environment in _environments():
            ours = _read(pid, "cmdline").split(b"\0")[:2] == [b"/bin/sh", str(self.ffmpeg).encode()]
            if ours and _read(pid, "stat").rpartition(b")")[2].split()[:1] == [b"T"]:
                found.setdefault(_home(environment).parts[-2], []).append(pid)
        return found

    def let_go(self, jobs: int) -> None:
        """What so many jobs wait for goes on."""
        for pids in list(self.waiting().values())[:jobs]:
            for pid in pids:
                with suppress(ProcessLookupError):  # its worker may have been killed
                    os.kill(pid, signal.SIGCONT)


class Program(NamedTuple):
    """A process that a worker has started, told from a later one with the same id by when it was started."""

    pid: int
    started: bytes
    worker: str
    job: str
    attempt: int


class Deployment:
    """Everything that runs, and what the database itself says, asked past all that may stand in between.

    Without a server the database is a file in the folder. `extra` goes into the environment of every process.
    """

    def __init__(
        self, folder: Path, server: Sqld | None, extra: Mapping[str, str] | None = None, **settings: object
    ) -> None:
        self.folder, self.server, self._extra = folder, server, dict(extra or {})
        self.work = folder / "work"
        self._settings = {
            "STORAGE_URL": f"file:{folder}/storage",
            "SECRET": "0123456789abcdef" * 4,
            "WORK_DIR": self.work,
            "LOG_FORMAT": "json",
            "RATE_LIMIT": 100_000,
        } | {name.upper(): value for name, value in settings.items()}
        self.parts: list[Part] = []
        self.url = ""
        self.file = folder / "spool.db"
        self.database = f"sqlite:///{self.file}" if server is None else server.url
        self._truth = TursoJobStore(Hrana(server.url)) if server is not None else LocalJobStore(self.file)
        self._truth.migrate()

    def start_api(self, database: str, port: int = 0, *, wait: bool = True) -> Part:
        """The API under uvicorn, as `spool api` starts it; returns when it listens, or without `wait` at once."""
        spool = [sys.executable, "-c", "from cli.main import app; app()"]  # of this tree, not of the installed one
        part = self._start("api", [*spool, "api", "--port", str(port)], database)
        assert part.process.stdout is not None
        if not wait:
            return part
        said = part.process.stdout.readline()
        assert "dashboard: " in said, part.log.read_text()
        self.url = said.split("dashboard: ")[1].split("/ ")[0]
        return part

    def start_worker(self, database: str, command: Sequence[str] = (sys.executable, "-m", "worker")) -> Part:
        """A worker as the documents start it; `await_workers` tells when it is ready."""
        return self._start(f"worker-{len(self.parts)}", [*command], database)

    def await_workers(self) -> None:
        """Return when every worker has said that it is ready."""
        for part in self.parts:
            if part.name != "api":
                until(lambda part=part: bool(part.said("worker ready")), f"{part.name} ready")

    def _start(self, name: str, command: list[str], database: str) -> Part:
        log = self.folder / (f"{name}.log" if name != "api" else f"api-{len(self.parts)}.log")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SPOOL_", "TURSO_"))}
        settings = {f"SPOOL_{key}": str(value) for key, value in self._settings.items()}
        with log.open("w") as stderr:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=kept | self._extra | settings | {"SPOOL_DATABASE_URL": database},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        self.parts.append(Part(name, process, log))
        return self.parts[-1]

    def end(self) -> None:
        """SIGTERM to every process; each must end by itself and with exit code 0."""
        for part in self.parts:
            part.process.send_signal(signal.SIGTERM)
        codes = {}
        for part in self.parts:
            part.process.communicate(timeout=PATIENCE_S)
            codes[part.name] = part.process.returncode
        assert codes == {part.name: -signal.SIGTERM if part.name == "api" else 0 for part in self.parts}

    def close(self) -> None:
        """End whatever a failed test has left behind."""
        for part in self.parts:
            part.process.kill()
            part.process.wait()
            if part.process.stdout is not None:
                part.process.stdout.close()
        self._truth.close()

    def children(self) -> set[int]:
        """Programs, and their launchers, that the workers of this deployment have started and that still live."""
        return {program.pid for program in self.programs()}

    def programs(self) -> set[Program]:
        """The same with what they work for; a zombie is none, since it has no environment."""
        found = set()
        for pid, environment in _environments():
            home = _home(environment)
            if self.work in home.parents:
                worker, job, attempt, *_ = (*home.relative_to(self.work).parts, "", "")
                started = _read(pid, "stat").rpartition(b")")[2].split()[19:20]
                found.add(Program(pid, b"".join(started), worker, job, int(attempt or 0)))
        return found

    def left_on_disk(self, text: str) -> list[tuple[Any, ...]]:
        """What a query finds in the files of a server that is stopped."""
        with closing(sqlite3.connect(self.folder / "sqld" / "data" / "dbs" / "default" / "data")) as database:
            return database.execute(text).fetchall()

    # --- the database itself -------------------------------------------------------------------------------
    def rows(self, text: str) -> list[dict[str, Any]]:
        """What a query finds."""
        return [dict(row) for row in self._truth._read([Statement(text)])[0]]

    def number(self, text: str) -> int:
        """The one number a query finds, 0 for none."""
        return int(next(iter(self.rows(text)[0].values())) or 0)

    def unfinished(self) -> int:
        """Jobs that have not ended."""
        return self.number("SELECT COUNT(*) FROM job WHERE completed_at IS NULL")


@contextmanager
def deployed(
    folder: Path, *, file: bool = False, extra: Mapping[str, str] | None = None, **settings: object
) -> Iterator[Deployment]:
    """A database (a server, or a `file`) and nothing else yet; what is started on it is ended with it."""
    folder.mkdir(parents=True, exist_ok=True)
    with nullcontext() if file else Sqld(folder / "sqld") as server:
        deployment = Deployment(folder, server, extra, **settings)
        try:
            yield deployment
        finally:
            deployment.close()


class Client:
    """A client of the API as one should be: a key for every creation, and again until there is an answer."""

    def __init__(self, url: str, *, patience_s: float = PATIENCE_S, read_s: float = 10.0) -> None:
        self._url, self._patience_s = url, patience_s
        self._pool = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(connect=2.0, read=read_s))
        self.again = 0

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Mapping[str, Any], Any]:
        """One request: status, headers and the JSON that came. Raises urllib3's errors when there is no answer."""
        answer = self._pool.request(
            method,
            path if path.startswith("http") else f"{self._url}{path}",
            body=body if isinstance(body, bytes) or body is None else json.dumps(body).encode(),
            headers=({} if isinstance(body, bytes) else {"Content-Type": "application/json"}) | headers,
        )
        return answer.status, answer.headers, json.loads(answer.data) if answer.data else None

    def insist(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        """Ask until the answer is a good one, as a client does that means it."""
        deadline = time.monotonic() + self._patience_s
        while True:
            status, told, found = 0, {}, None
            try:
                status, told, found = self.ask(method, path, body, **headers)
            except (urllib3.exceptions.HTTPError, ValueError) as error:
                found = error
            if 200 <= status < 300 and isinstance(found, dict):
                return found
            assert status in {0, 200, 429, 500, 502, 503, 504}, (status, found)
            assert time.monotonic() < deadline, (status, found)
            self.again += 1
            time.sleep(float(told.get("Retry-After", 0.05)))

    def create(self, key: str, **job: Any) -> dict[str, Any]:
        """A job under this key: however often it is asked for, there is one."""
        return dict(self.insist("POST", "/api/jobs", {"type": "ingest"} | job, **{"Idempotency-Key": key}))

    def upload(self, recording: Path) -> str:
        """A finished upload's id."""
        content = recording.read_bytes()
        about = {"filename": recording.name, "content_type": "audio/wav", "size_bytes": len(content)}
        begun = self.insist("POST", "/api/uploads", about)
        answer = self._pool.request("PUT", begun["upload"]["url"], body=content, headers=begun["upload"]["headers"])
        assert answer.status == 201, answer.data
        return str(self.insist("POST", f"/api/uploads/{begun['asset']}/complete")["asset"])

    def close(self) -> None:
        """Let go of all connections."""
        self._pool.clear()


def _environments() -> Iterator[tuple[int, bytes]]:
    for folder in Path("/proc").glob("[0-9]*"):
        if environment := _read(int(folder.name), "environ"):
            yield int(folder.name), b"\0" + environment


def _read(pid: int, name: str) -> bytes:
    """A file about a process; empty when it has gone or is not ours to look at."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _home(environment: bytes) -> Path:
    """The home of a process; a program's is the folder of its attempt."""
    return Path(environment.partition(b"\0HOME=")[2].partition(b"\0")[0].decode(errors="replace"))
