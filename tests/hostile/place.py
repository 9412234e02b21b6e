"""Where hostile files are sent: a real API and a real worker in processes of their own, and the baits beside them."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.network.deployment import PATIENCE_S, ROOT, Client, Part, until

#: What a worker reports of itself, and how many bytes its largest process may ever need: the prober's limit.
MOST_MEMORY_BYTES = 1 << 30
_IN_ACCESS, _IN_OPEN = 0x1, 0x20


class Watched:
    """Notices whoever opens or reads a file of this folder, by the kernel's own word."""

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self._fd >= 0
        assert libc.inotify_add_watch(self._fd, os.fsencode(folder), _IN_ACCESS | _IN_OPEN) >= 0

    def touched(self) -> list[str]:
        """Names of the files that were opened or read since the last call, each as often as it was."""
        try:
            data = os.read(self._fd, 1 << 16)
        except BlockingIOError:
            return []
        names, at = [], 0
        while at < len(data):
            length = struct.unpack_from("iIII", data, at)[3]
            names.append(data[at + 16 : at + 16 + length].rstrip(b"\0").decode())
            at += 16 + length
        return [name for name in names if name]

    def close(self) -> None:
        """Look no more."""
        os.close(self._fd)


@contextmanager
def tapped() -> Iterator[tuple[str, list[str]]]:
    """The address of a web server on this machine, and what it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Place:
    """An API and a worker on a database file and a folder."""

    folder: Path
    settings: Mapping[str, object] = field(default_factory=dict)
    parts: list[Part] = field(default_factory=list)
    url: str = ""
    wrapped: bool = False

    def start(self, *wrapper: str) -> None:
        """Start both and wait until they are ready; `wrapper` is a command that the worker runs under."""
        self.start_api()
        self.wrapped = bool(wrapper)
        worker = self._run([*wrapper, sys.executable, "-m", "worker"], name="worker")
        until(lambda: bool(worker.said("worker ready")), "the worker being ready")
        self.client = Client(self.url, read_s=PATIENCE_S)

    def start_api(self) -> None:
        """Start the API on an empty database and wait until it listens."""
        self._run([*self._spool, "migrate"])
        api = self._run([*self._spool, "api", "--port", "0"], name="api")
        assert api.process.stdout is not None
        self.url = api.process.stdout.readline().split("dashboard: ")[1].split("/ ")[0]

    @property
    def worker(self) -> Part:
        """The worker."""
        return self.parts[-1]

    def submit(self, content: bytes, name: str, **params: Any) -> str:
        """A job on a file of this content, which the API is told is a WAV file; one failure ends it."""
        about = {"filename": name, "content_type": "audio/wav", "size_bytes": len(content)}
        status, _, begun = self.client.ask("POST", "/api/uploads", about)
        assert status == 201, begun
        status, _, told = self.client.ask("PUT", begun["upload"]["url"], content, **begun["upload"]["headers"])
        assert status == 201, told
        job = {"type": "ingest", "params": {"source": begun["asset"]} | params, "max_failures": 1, "timeout_s": 1200}
        status, _, made = self.client.ask("POST", "/api/jobs", job)
        assert status == 201, made
        return str(made["id"])

    def end_of(self, job: str) -> dict[str, Any]:
        """The job, once it has ended."""
        while True:
            status, _, found = self.client.ask("GET", f"/api/jobs/{job}?wait=20")
            assert status == 200, found
            if found["completed_at"] is not None:
                return dict(found)

    def history(self, job: str) -> str:
        """Everything that its history holds, as text."""
        status, _, found = self.client.ask("GET", f"/api/jobs/{job}/events?limit=1000")
        assert status == 200, found
        return str(found)

    def output(self, job: str, name: str) -> bytes:
        """A finished file."""
        status, headers, _ = self.client.ask("GET", f"/api/jobs/{job}/outputs/{name}")
        assert status == 302
        answer = self.client._pool.request("GET", f"{self.url}{headers['location'].removeprefix(self.url)}")
        assert answer.status == 200, answer.data
        return bytes(answer.data)

    def end(self) -> int:
        """End both in peace; returns the most memory that any one process of the worker ever had, in bytes."""
        api, worker = self.parts[-2:]
        told = Path(f"/proc/{self.worker_pid}/status").read_text()
        own_kb = int(told.partition("VmHWM:")[2].split()[0])
        os.kill(self.worker_pid, signal.SIGTERM)
        _, status, used = os.wait4(worker.process.pid, 0)
        worker.process.returncode = os.waitstatus_to_exitcode(status)
        assert worker.process.returncode == 0
        assert worker.complaints() == []
        assert list((self.folder / "work").iterdir()) == []
        assert api.process.poll() is None
        assert "request failed" not in api.log.read_text()
        # The kernel's count begins with what the process that forked the worker, this one, ever had.
        inherited = used.ru_maxrss <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return (own_kb if inherited else used.ru_maxrss) * 1024

    def close(self) -> None:
        """End what is left."""
        for part in self.parts:
            if part.process.poll() is None:
                os.kill(self.worker_pid if part.name == "worker" else part.process.pid, signal.SIGTERM)
            part.process.communicate()

    @property
    def worker_pid(self) -> int:
        """The worker's own process, below what it runs under."""
        pid = self.worker.process.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]) if self.wrapped else pid

    @property
    def _spool(self) -> Sequence[str]:
        return [sys.executable, "-c", "from cli.main import app; app()"]  # of this tree, not of the installed one

    def _run(self, command: Sequence[str], name: str = "") -> Part:
        settings = {
            "DATABASE_URL": f"sqlite:///{self.folder}/spool.db",
            "STORAGE_URL": f"file:{self.folder}/storage",
            "WORK_DIR": self.folder / "work",
            "SECRET": "0123456789abcdef" * 4,
            "LOG_FORMAT": "json",
            "RATE_LIMIT": 100_000,
            "SLOTS": 2,
        } | {key.upper(): value for key, value in self.settings.items()}
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SPOOL_", "TURSO_"))}
        if self.wrapped:
            kept["TMPDIR"] = str(self.folder)  # where Python tries whether it can write, and ffmpeg's check is kept
        environment = kept | {f"SPOOL_{key}": str(value) for key, value in settings.items()}
        if not name:
            subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
            return Part("", None, Path())  # type: ignore[arg-type]  # it has ended
        log = self.folder / f"{name}.log"
        with log.open("w") as stderr:
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr,
                text=True,
            )  # fmt: skip
        self.parts.append(Part(name, process, log))
        return self.parts[-1]


@contextmanager
def place(folder: Path, *wrapper: str, **settings: object) -> Iterator[Place]:
    """An API and a worker, started and, whatever happens, ended."""
    folder.mkdir(parents=True, exist_ok=True)
    here = Place(folder, settings)
    try:
        here.start(*wrapper)
        yield here
    finally:
        here.close()
