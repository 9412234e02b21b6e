"""`spool dev` and its parts: they start, are kept going, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.client import Client
from cli.dev import listener
from tests.cli.conftest import Dev, Spool, alive, environment, start_dev, until
from tests.cli.forge import ROOT

StartDev = Callable[..., Dev]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartDev]:
    """Starts `spool dev` in the test's folder; what is left at the end is killed."""
    started: list[Dev] = []

    def start_one(*options: str, **settings: str) -> Dev:
        started.append(start_dev(tmp_path, *options, **settings))
        return started[-1]

    yield start_one
    for dev in started:
        dev.family()
        dev.process.kill()
        for pid in alive(dev.seen):
            os.kill(pid, signal.SIGKILL)
        dev.process.wait()
        dev.rest()


def test_ctrl_c_ends_every_part(start: StartDev):
    """Exit code 0, and no process is left of API, workers and what they started."""
    dev = start("--workers", "2", SPOOL_SLTS="4")
    family = dev.family()
    assert len(family) >= 3
    Client(dev.url).stats()
    assert dev.end() == 0
    assert alive(family) == set()
    assert dev.said[-1] == "Everything has ended; no process is left."
    assert any("SPOOL_SLTS is no setting; did you mean SPOOL_SLOTS?" in line for line in dev.said)
    assert "/api/stats" not in "".join(dev.said), "a terminal is not for what pages and commands ask"


def test_a_second_ctrl_c_gives_a_running_job_back_unharmed(start: StartDev, tmp_path: Path):
    """Nothing of it runs on, it waits for the next start, and it has cost no failure."""
    long = tmp_path / "long.wav"
    with wave.open(str(long), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(8000)
        file.writeframes(bytes([128, 150, 170, 150, 128, 106, 86, 106]) * 1000 * 60 * 60)
    dev = start()
    spool = Spool(tmp_path, {"SPOOL_API_URL": dev.url})
    following = spool.start("submit", "ingest", str(long), "--watch")
    assert following.stdout is not None
    said = next(line for line in following.stdout if "analyzing" in line)
    family = dev.family()
    dev.process.send_signal(signal.SIGINT)
    dev.line("Ending; a running job has 25 s")
    dev.process.send_signal(signal.SIGINT)
    dev.line("Ending at once")
    assert dev.rest() == 0, dev.said
    assert dev.said[-1] == "Everything has ended; no process is left."
    assert alive(family) == set()
    following.send_signal(signal.SIGINT)
    following.communicate(timeout=60)
    again = start("--workers", "0")
    job = Spool(tmp_path, {"SPOOL_API_URL": again.url})("jobs", "--json").json()["items"][0]
    assert (job["status"], job["attempt"], job["failures"]) == ("pending", 1, 0), said
    assert again.end() == 0


def test_the_parts_end_when_their_parent_is_killed(start: StartDev):
    """kill -9 of `spool dev` leaves no API and no worker behind."""
    dev = start()
    family = dev.family()
    dev.process.kill()
    until(lambda: not alive(family), "the end of all parts")


def test_a_test_that_is_killed_leaves_no_dev_behind(tmp_path: Path):
    """Whatever a test has started with `start_dev` ends with the process of the test, to the last part."""
    script = (
        "import os, pathlib\nfrom tests.cli.conftest import start_dev\n"
        f"dev = start_dev(pathlib.Path({str(tmp_path)!r}), '--workers', '0')\n"
        "print(dev.process.pid, *dev.family(), flush=True)\nos.kill(os.getpid(), 9)"
    )
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    family = {int(pid) for pid in ran.stdout.split()}
    assert len(family) >= 2, ran.stderr
    until(lambda: not alive(family), "the end of all parts")


def test_a_crashed_worker_is_started_again_and_that_is_said(start: StartDev):
    """One line says what happened; then a new worker runs."""
    dev = start()
    before = dev.family()
    worker = next(pid for pid in before if _runs(pid, "worker"))
    os.kill(worker, signal.SIGKILL)
    assert "worker ended by itself (killed by SIGKILL); starting it again in 1 s" in dev.line("ended by itself")
    until(lambda: any(_runs(pid, "worker") for pid in dev.family() - before), "the start of a new worker")
    assert dev.end() == 0


def test_a_taken_port_is_a_sentence(start: StartDev, tmp_path: Path):
    """It names the port and another one to try; exit code 2."""
    port = start("--workers", "0").url.rpartition(":")[2]
    ran = Spool(tmp_path, {})("dev", "--port", port)
    assert ran.code == 2
    assert f"Port {port} of 127.0.0.1 is taken" in ran.err


def test_answers_do_not_wait_for_the_network():
    """A connection sends what it has at once; without that every answer takes as long as a delayed acknowledgement."""
    with listener("127.0.0.1", 0) as bound, socket.create_connection(bound.getsockname()):
        accepted, _ = bound.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_jobs_outlive_a_restart_unless_they_are_ephemeral(start: StartDev, tmp_path: Path, tone: Path):
    """Kept as they were; with SPOOL_EPHEMERAL gone, with their uploads."""
    first = start("--workers", "0")
    job_id = Spool(tmp_path, {"SPOOL_API_URL": first.url})("submit", "ingest", str(tone), "--json").json()["id"]
    assert first.end() == 0
    second = start("--workers", "0")
    assert Spool(tmp_path, {"SPOOL_API_URL": second.url})("show", job_id).code == 0
    assert second.end() == 0
    third = start("--workers", "0", SPOOL_EPHEMERAL="1")
    assert Spool(tmp_path, {"SPOOL_API_URL": third.url})("show", job_id).code == 2
    assert third.end() == 0
    assert [path for path in (tmp_path / ".spool" / "storage").rglob("*") if path.is_file()] == []


def test_ephemeral_is_refused_while_a_worker_lives(start: StartDev, tmp_path: Path):
    """A living worker may own one of the jobs."""
    dev = start()
    until(
        lambda: Spool(tmp_path, {"SPOOL_API_URL": dev.url})("stats", "--json").json()["workers"] != [],
        "a worker's first beat",
    )
    ran = Spool(tmp_path, {"SPOOL_EPHEMERAL": "1"})("dev", "--port", "0")
    assert ran.code == 1
    assert "A worker was heard of" in ran.err
    assert dev.end() == 0


def test_the_api_without_tokens_listens_to_this_machine_only(tmp_path: Path):
    """Another host is refused with the way to allow it."""
    ran = Spool(tmp_path, {})("api", "--host", "0.0.0.0")
    assert ran.code == 2
    assert "SPOOL_API_TOKENS" in ran.err


def test_the_api_refuses_a_database_that_is_not_up_to_date_until_it_is_migrated(tmp_path: Path):
    """Only dev, worker and `spool migrate` change a database."""
    spool = Spool(tmp_path, {})
    ran = spool("api", "--port", "0")
    assert ran.code == 1
    assert "spool migrate" in ran.err
    assert spool("migrate", "--json").json()["applied"]
    assert spool("migrate", "--json").json()["applied"] == []
    api = spool.start("api", "--port", "0")
    assert api.stdout is not None
    url = api.stdout.readline().partition("http://")[2].partition("/")[0]
    assert Spool(tmp_path, {"SPOOL_API_URL": f"http://{url}"})("jobs", "--json").json()["items"] == []
    api.send_signal(signal.SIGTERM)
    api.communicate(timeout=60)


def test_a_wrong_setting_stops_the_start_with_a_sentence(tmp_path: Path):
    """Its name, its value, what holds."""
    ran = Spool(tmp_path, {"SPOOL_LEASE_S": "3"})("dev", "--port", "0")
    assert ran.code == 2
    assert "SPOOL_LEASE_S is 3" in ran.err


def _runs(pid: int, word: str) -> bool:
    try:
        return word in Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return False


def test_an_environment_for_a_test_has_no_settings_of_the_person(monkeypatch):
    """What a developer has set must not decide tests."""
    monkeypatch.setenv("SPOOL_DATABASE_URL", "sqlite:///elsewhere.db")
    assert "SPOOL_DATABASE_URL" not in environment()
