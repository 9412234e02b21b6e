"""Graceful shutdown under the start commands of Render and compose: with jobs that run, begin and end at that instant,
with a second SIGTERM, and with generations of workers that follow one another on one database."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.job import Status
from tests.chaos import audit
from tests.chaos.load import BAD_LINK
from tests.chaos.witness import Book
from tests.media import signals
from tests.network.deployment import ROOT, WENT, Client, Deployment, Gate, Part, deployed, until

HOSTS = ("render", "compose")
SLOTS = 3
QUICK: dict[str, object] = {"heartbeat_s": 0.5, "control_s": 0.2, "cancel_grace_s": 0.5, "slots": SLOTS}
#: Each worker runs with the PATH of a host on which this Python is the only one.
PATH = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
LINKS = 80
#: Workers that follow one another, what each must have ended before the next one comes, and how many jobs may wait.
GENERATIONS, SHARE, WAITING = 3, 8, 20


def read(name: str) -> dict[str, Any]:
    """A YAML file of the repository."""
    return yaml.safe_load((ROOT / name).read_text())


def command_of(host: str) -> list[str]:
    """How a host starts the worker: Render through a shell, compose by the list in the container file."""
    if host == "render":
        return ["sh", "-c", read("render.yaml")["services"][0]["startCommand"]]
    assert "command" not in read("infra/docker-compose.yaml")["services"]["worker"]
    lines = (ROOT / "infra/Containerfile").read_text().splitlines()
    return list(json.loads(next(line.removeprefix("CMD ") for line in lines if line.startswith("CMD "))))


def drain_s_of(host: str) -> str:
    """How long that host lets a worker finish."""
    if host == "render":
        variables = read("render.yaml")["services"][0]["envVars"]
        return next(str(item["value"]) for item in variables if item["key"] == "SPOOL_DRAIN_S")
    return str(read("infra/docker-compose.yaml")["services"]["worker"]["environment"]["SPOOL_DRAIN_S"])


def started(deployment: Deployment, host: str) -> Part:
    """A worker as that host starts it, ready."""
    part = deployment.start_worker(deployment.database, command_of(host))
    until(lambda: bool(part.said("worker ready")), f"{part.name} ready")
    return part


def ended_well(part: Part) -> None:
    """It ends by itself, with exit code 0 and no complaint about itself."""
    part.process.communicate(timeout=60)
    assert part.process.returncode == 0, part.log.read_text()[-2000:]
    assert set(part.complaints()) <= {WENT}, part.complaints()  # a busy machine's server may be silent for a while
    begun, over = part.said("attempt begins"), part.said("attempt ended") + part.said("released")
    assert sorted((line["job"], line["attempt"]) for line in begun) == sorted(
        (line["job"], line["attempt"]) for line in over
    )


@contextmanager
def busy(folder: Path, ffmpeg: Path, host: str) -> Iterator[tuple[Deployment, Gate, Part, str]]:
    """A worker in the middle of a hundred quick jobs and of one that waits at a gate; the gate, and that job's id."""
    gate = Gate(folder, ffmpeg)
    with deployed(folder, file=True, extra=PATH, ffmpeg=gate.ffmpeg, drain_s=drain_s_of(host), **QUICK) as deployment:
        deployment.start_api(deployment.database)
        client = Client(deployment.url)
        source = client.upload(signals.write(folder / "tone.wav", signals.tone(1, -20, -20)))
        gate.shut()
        part = started(deployment, host)
        held = str(client.create("held", params={"source": source})["id"])
        until(lambda: gate.waiting().keys() == {held}, "the job at the gate")
        for number in range(LINKS):
            client.create(f"link-{number}", params=BAD_LINK)
            if number == LINKS // 2:
                part.process.send_signal(signal.SIGTERM)
        client.close()
        until(lambda: bool(part.said("draining")), "the drain")
        yield deployment, gate, part, held
        assert deployment.children() == set()


def links(deployment: Deployment, held: str) -> list[dict[str, Any]]:
    """The quick jobs."""
    return [row for row in deployment.rows("SELECT * FROM job ORDER BY seq") if row["id"] != held]


@pytest.mark.media
@pytest.mark.parametrize("host", HOSTS)
def test_jobs_that_run_begin_and_end_when_sigterm_comes_are_finished(host, tmp_path, engine):
    """What was begun ends, once and at no cost; what was not begun waits for the next worker, which goes on there."""
    with busy(tmp_path, engine.ffmpeg, host) as (deployment, gate, part, held):
        gate.open()
        gate.let_go(1)
        ended_well(part)
        rows = links(deployment, held)
        assert {(row["status"], row["attempt"]) for row in rows} == {("failed", 1), ("pending", 0)}
        assert [row["status"] for row in rows] == sorted(row["status"] for row in rows), "those that came first began"
        row = deployment.rows(f"SELECT * FROM job WHERE id = '{held}'")[0]
        assert (row["status"], row["attempt"], row["failures"]) == ("completed", 1, 0)
        following = started(deployment, host)
        until(lambda: deployment.unfinished() == 0, "the end of every job")
        following.process.send_signal(signal.SIGTERM)
        ended_well(following)
        evidence = audit.Evidence(deployment)
        assert {row["attempt"] for row in evidence.jobs.values()} == {1}
        assert (audit.overtaken(evidence), audit.late_writes(evidence)) == ([], [])


@pytest.mark.media
@pytest.mark.parametrize("host", HOSTS)
def test_a_second_sigterm_gives_back_what_runs(host, tmp_path, engine):
    """The job at the gate is pending again at once, at no cost, its program gone; the next worker completes it."""
    with busy(tmp_path, engine.ffmpeg, host) as (deployment, gate, part, held):
        part.process.send_signal(signal.SIGTERM)
        ended_well(part)
        assert deployment.children() == set()
        row = deployment.rows(f"SELECT * FROM job WHERE id = '{held}'")[0]
        assert (row["status"], row["attempt"], row["failures"]) == ("pending", 1, 0)
        assert {row["failures"] for row in links(deployment, held) if row["status"] == Status.PENDING} == {0}
        gate.open()
        following = started(deployment, host)
        until(lambda: deployment.unfinished() == 0, "the end of every job")
        following.process.send_signal(signal.SIGTERM)
        ended_well(following)
        row = deployment.rows(f"SELECT * FROM job WHERE id = '{held}'")[0]
        assert (row["status"], row["attempt"], row["failures"]) == ("completed", 2, 0)
        assert audit.overtaken(audit.Evidence(deployment)) == []


class Orders:
    """A client that goes on creating jobs, most of them quick, as long as few wait. What it was promised is kept."""

    def __init__(self, deployment: Deployment, source: str) -> None:
        self._deployment, self._source, self._chance = deployment, source, random.Random(5)
        self.acknowledged: dict[str, str] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._create)

    def __enter__(self) -> Orders:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _create(self) -> None:
        client = Client(self._deployment.url)
        while not self._over.wait(0.02):
            if self._deployment.unfinished() < WAITING:
                params = {"source": self._source} if self._chance.random() < 0.2 else BAD_LINK
                key = f"job-{len(self.acknowledged)}"
                self.acknowledged[str(client.create(key, params=params)["id"])] = key
        client.close()


@pytest.mark.media
@pytest.mark.parametrize(("database", "patient"), [("sqlite", False), ("libsql", True)], ids=["given back", "drained"])
def test_generations_of_workers_overlap(database, patient, tmp_path, engine, record_property):
    """New workers claim while old ones drain, and jobs come in: no failure, nothing run twice at once, all in order.

    `make chaos` drains workers on either database, with and without time to finish.
    """
    book = Book(tmp_path, engine.ffmpeg, hangs="")
    settings = QUICK | {"ffmpeg": book.ffmpeg, "drain_s": drain_s_of("render") if patient else 0}
    with deployed(tmp_path, file=database == "sqlite", extra=PATH, **settings) as deployment:
        deployment.start_api(deployment.database)
        client = Client(deployment.url)
        source = client.upload(signals.write(tmp_path / "tone.wav", signals.tone(1, -20, -20)))
        client.close()
        old = None
        with Orders(deployment, source) as orders:
            for number in range(GENERATIONS):
                new = started(deployment, HOSTS[number % len(HOSTS)])
                if old is not None:
                    old.process.send_signal(signal.SIGTERM)
                until(lambda new=new: len(new.said("attempt ended")) >= SHARE, f"{new.name} at work")
                if old is not None:
                    ended_well(old)
                old = new
        until(lambda: deployment.unfinished() == 0, "the end of every job")
        new.process.send_signal(signal.SIGTERM)
        ended_well(new)
        evidence = audit.Evidence(deployment)
        left = (deployment.children(), list(deployment.work.iterdir()))
    rows = evidence.jobs.values()
    again = sum(row["attempt"] - 1 for row in rows)
    shares = [len(part.said("attempt ended")) for part in evidence.workers]
    how = "drained" if patient else f"gave back {again}"
    record_property("figure", f"{database}: {len(rows)} jobs, generations that {how}; ended by each {shares}")
    assert {row["failures"] for row in rows if row["status"] != Status.FAILED} == {0}
    assert not (patient and again), "a drain that is long enough gives nothing back"
    for judge in (audit.wrong_ends, audit.overtaken, audit.late_writes):
        assert judge(evidence) == []
    assert audit.lost(evidence, orders.acknowledged) == []
    assert audit.doubled(evidence, orders.acknowledged) == []
    assert book.two_owners() + audit.begun_twice(evidence.workers) == []
    assert left == (set(), [])
