"""Hundreds of jobs through the real API and real workers, over networks that lose, delay, break and repeat."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from shared.job import TERMINAL, new_id
from shared.storage.local import LocalStorage
from tests.chaos.witness import Book
from tests.network.deployment import Client, Deployment, Part, deployed, until
from tests.real.proxy import FAULTS, Faults, Proxy

#: Jobs by kind: recordings that ffmpeg masters, links to where no worker may go, which ends their jobs at once, and
#: families of a parent and two such links. `make outage` takes a thousand.
THOUSAND = "OUTAGE_S" in os.environ
MASTERED, FAMILIES, LINKS = (20, 20, 920) if THOUSAND else (8, 8, 268)
JOBS = MASTERED + 3 * FAMILIES + LINKS
CLIENTS, SLOTS = 4, 3
#: How often most kinds of fault are in a deck, of which there are exchanges enough for two.
OFTEN = 9 if THOUSAND else 5
BAD_LINK = {"source": "http://192.168.0.1/talk.mp3"}


def orders(recording: str) -> list[dict[str, Any]]:
    """What the clients will ask for, in an order of chance."""
    family = {"type": "flow", "params": {}, "on_child_failure": "continue"}
    children = [{"type": "ingest", "params": BAD_LINK, "phase": phase} for phase in ("pre", "core")]
    wanted = [
        *({"params": {"source": recording}} for _ in range(MASTERED)),
        *(family | {"children": children} for _ in range(FAMILIES)),
        *({"params": BAD_LINK} for _ in range(LINKS)),
    ]
    random.Random(7).shuffle(wanted)
    return wanted


class Findings:
    """What came of a run, by the database itself, the storage, and the logs of the workers."""

    def __init__(self, deployment: Deployment, acknowledged: set[str], book: Book) -> None:
        jobs = deployment.rows("SELECT * FROM job")
        states = deployment.rows("SELECT job_id, message FROM event WHERE kind = 'state' ORDER BY id")
        by_id = {job["id"]: job for job in jobs}
        mine = {job["id"] for job in jobs if job["parent_id"] is None}
        self.jobs = Counter((job["type"], job["status"]) for job in jobs)
        self.lost = len(acknowledged - by_id.keys()) + sum(job["completed_at"] is None for job in jobs)
        self.unasked = len(mine - acknowledged)
        ends = Counter(state["job_id"] for state in states if state["message"] in TERMINAL)
        self.ended_twice = sum(count > 1 for count in ends.values())
        self.second_attempts = sum(max(0, job["attempt"] - 1) for job in jobs)
        self.failures = sum(job["failures"] for job in jobs)
        starts = Counter(state["job_id"] for state in states if state["message"] == "running")
        self.starts_uncounted = sum(starts[job["id"]] != job["attempt"] for job in jobs)
        self.two_owners = overlaps(deployment.parts) + len(book.two_owners())
        self.tally = deployment.number("SELECT SUM(jobs) FROM tally")
        self.lines_twice = deployment.number(
            "SELECT COUNT(*) FROM (SELECT 1 FROM event WHERE line IS NOT NULL GROUP BY job_id, attempt, line "
            "HAVING COUNT(*) > 1)"
        )
        self.bad_outputs = _bad_outputs(deployment, jobs)


def overlaps(parts: Sequence[Part]) -> int:
    """Attempts that began while another attempt of their job went on, or that two workers began, by their own logs."""
    spans: dict[str, list[tuple[str, str, int]]] = {}
    begun: Counter[tuple[str, int]] = Counter()
    for part in parts:
        open_at: dict[tuple[str, int], str] = {}
        for line in part.lines():
            attempt = (line.get("job", ""), line.get("attempt", 0))
            if line["event"] == "attempt begins":
                begun[attempt] += 1
                open_at[attempt] = line["timestamp"]
            elif line["event"] in {"attempt ended", "released", "claim lost; nothing was written"}:
                spans.setdefault(attempt[0], []).append((open_at.pop(attempt), line["timestamp"], attempt[1]))
        assert open_at == {}, "an attempt began and never ended"
    overlaps = sum(count - 1 for count in begun.values())
    for attempts in spans.values():
        attempts.sort()
        overlaps += sum(later[0] < former[1] for former, later in itertools.pairwise(attempts))
    return overlaps


def _bad_outputs(deployment: Deployment, jobs: list[dict[str, Any]]) -> list[str]:
    """Files that are missing, altered, or of another attempt than the one that won."""
    storage = LocalStorage(deployment.folder / "storage", b"")
    copy = deployment.folder / "copy"
    kept = {str(path.parent.relative_to(storage.root)) for path in storage.root.glob("outputs/**/.record.json")}
    bad = []
    for job in jobs:
        for output in json.loads(job["outputs"]):
            key = output["key"]
            storage.fetch(key, copy, lambda *_: None)
            of_winner = key.startswith(f"outputs/{job['id']}/{job['attempt']}/")
            if not of_winner or hashlib.sha256(copy.read_bytes()).hexdigest() != output["sha256"]:
                bad.append(key)
            kept.discard(key)
    return bad + sorted(kept)


def test_every_job_survives_a_hostile_network(tmp_path, engine, recordings, record_property):
    """Created with keys by four clients, run by two workers, all of them behind proxies that spoil exchanges."""
    began, book = time.monotonic(), Book(tmp_path / "place", engine.ffmpeg, hangs="")
    with (
        deployed(tmp_path / "place", slots=SLOTS, ffmpeg=book.ffmpeg) as deployment,
        Proxy(deployment.server.url, at_once=3) as database,
    ):
        deployment.start_api(database.url)
        deployment.start_worker(database.url)
        deployment.start_worker(database.url)
        deployment.await_workers()
        honest = Client(deployment.url)
        wanted = orders(honest.upload(recordings.counting))
        with Proxy(deployment.url) as network:
            database.fault, network.fault = Faults(0.12, seed=1, often=OFTEN), Faults(0.08, seed=2, often=OFTEN)
            created, again = _create(network.url, wanted)
            until(lambda: deployment.unfinished() == 0, "the end of every job")
            database.fault = network.fault = lambda: None
        listed = _listed(honest)
        honest.close()
        deployment.end()
        orphans = deployment.children()
        found = Findings(deployment, set(created), book)
        took_s = time.monotonic() - began
        complaints = {part.name: part.complaints() for part in deployment.parts}
        left = list(deployment.work.iterdir())

    spoiled = database.faults + network.faults
    kinds = ", ".join(f"{name} {times}" for name, times in sorted(spoiled.items()))
    record_property(
        "figure",
        f"{found.tally} jobs ({MASTERED} through ffmpeg, {FAMILIES} families), {database.requests} requests to the "
        f"database, {network.requests} to the API, {again} asked again by clients, {took_s:.0f} s",
    )
    record_property("figure", f"spoiled: {kinds}")
    record_property(
        "figure",
        f"lost {found.lost}, doubled {found.unasked}, two owners at once {found.two_owners}, ended twice "
        f"{found.ended_twice}, orphans {len(orphans)}, failures paid {found.failures}, second attempts "
        f"{found.second_attempts}",
    )
    assert set(spoiled) == set(FAULTS), "every kind of fault came up"
    assert len(set(created)) == len(wanted)
    assert found.jobs == {
        ("ingest", "completed"): MASTERED,
        ("ingest", "failed"): LINKS + 2 * FAMILIES,
        ("flow", "completed"): FAMILIES,
    }
    assert (found.lost, found.unasked, found.two_owners, found.ended_twice) == (0, 0, 0, 0)
    assert (found.failures, found.starts_uncounted, found.lines_twice, found.tally) == (0, 0, 0, JOBS)
    assert found.bad_outputs == []
    assert set(created) <= listed, "the API lists every job it has acknowledged"
    assert (orphans, left) == (set(), [])
    assert not any(complaints.values()), complaints


def _create(url: str, wanted: list[dict[str, Any]]) -> tuple[list[str], int]:
    """The ids that were acknowledged, and how often clients had to ask again."""
    clients = [Client(url, read_s=4.0) for _ in range(CLIENTS)]

    def create(number: int) -> list[str]:
        return [str(clients[number].create(new_id(), **job)["id"]) for job in wanted[number::CLIENTS]]

    with ThreadPoolExecutor(CLIENTS) as threads:
        ids = [one for some in threads.map(create, range(CLIENTS)) for one in some]
    for client in clients:
        client.close()
    return ids, sum(client.again for client in clients)


def _listed(client: Client) -> set[str]:
    """Every job that the API lists, page by page."""
    ids: set[str] = set()
    path = "/api/jobs?limit=200"
    while True:
        page = client.insist("GET", path)
        ids |= {item["id"] for item in page["items"]}
        if page["next_cursor"] is None:
            return ids
        path = f"/api/jobs?limit=200&cursor={page['next_cursor']}"
