"""What clients ask of a deployment in chaos: jobs of all kinds without end, cancels, retries."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import urllib3

from shared.job import new_id
from tests.network.deployment import Client

#: A link to where no worker may go, which ends its job at once.
BAD_LINK = {"source": "http://192.168.0.1/talk.mp3"}
#: Of every hundred wishes so many are of a kind.
MIX = {"link": 70, "tone": 20, "talk": 3, "family": 5, "deep": 2}
#: A hanging program is ended after so long; see tests/chaos/witness.py.
TIMEOUT_S = 8.0
#: No more jobs are asked for while so many wait or run.
MOST_UNFINISHED = 60
CREATORS = 4
#: How long a client insists: a busy machine may take a while to start an API that was killed.
_PATIENCE_S = 240.0


@dataclass
class Sources:
    """Uploads that jobs name."""

    tone: str
    talk: str


@dataclass
class Load:
    """Clients that go on until they are told to stop. Everything they were promised is kept here."""

    address: Callable[[], str]
    unfinished: Callable[[], int]
    last_event: Callable[[], int]
    sources: Sources
    seed: int
    acknowledged: dict[str, str] = field(default_factory=dict)
    #: Jobs whose cancel was answered, with the number of an event that was there by then.
    cancelled: dict[str, int] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(CREATORS + 2))

    def start(self) -> None:
        """Most clients create, one cancels, one runs again what ended badly."""
        clients = [(self._create, 0.1)] * CREATORS + [(self._cancel, 0.1), (self._retry, 0.2)]
        self._running = [
            self._threads.submit(self._repeat, work, pause_s, random.Random(f"{self.seed} {number}"))
            for number, (work, pause_s) in enumerate(clients)
        ]

    def stop(self, meanwhile: Callable[[], None]) -> None:
        """Return when the last answer came; raises what a client had to complain about."""
        self._over.set()
        while not all(client.done() for client in self._running):
            meanwhile()
            time.sleep(0.1)
        self._threads.shutdown()
        for client in self._running:
            client.result()

    def _repeat(self, work: Callable[[Client, random.Random], None], pause_s: float, chance: random.Random) -> None:
        while not self._over.wait(pause_s * chance.uniform(0.5, 1.5)):
            client = Client(self.address(), patience_s=_PATIENCE_S, read_s=20.0)
            work(client, chance)
            client.close()

    def _create(self, client: Client, chance: random.Random) -> None:
        if self.unfinished() < MOST_UNFINISHED:
            (kind,) = chance.choices(list(MIX), list(MIX.values()))
            key = new_id()
            job = client.create(key, **self._wish(kind, chance))
            self.acknowledged[str(job["id"])] = key
            self.asked[kind] += 1

    def _wish(self, kind: str, chance: random.Random) -> dict[str, Any]:
        link: dict[str, Any] = {"type": "ingest", "params": BAD_LINK}
        patience: dict[str, Any] = {"timeout_s": TIMEOUT_S, "max_failures": chance.choice((2, 5))}
        tone = {"type": "ingest", "params": {"source": self.sources.tone}} | patience
        if kind == "link":
            return link | {"priority": chance.choice((0, 0, 0, 1))}
        if kind == "tone":
            return tone
        if kind == "talk":
            formats = [{"format": "mp3"}, {"format": "flac"}]
            return (
                {"type": "ingest", "params": {"source": self.sources.talk, "outputs": formats}}
                | patience
                | {"timeout_s": 2 * TIMEOUT_S}
            )
        family = {"type": "flow", "on_child_failure": chance.choice(("continue", "fail"))}
        children = [tone | {"phase": "pre"}, link, tone, tone | {"phase": "post"}]
        if kind == "deep":
            children[1] = family | {"children": [dict(link), dict(tone)]}
        return family | {"children": children}

    def _cancel(self, client: Client, chance: random.Random) -> None:
        if victim := self._any(chance):
            with suppress(urllib3.exceptions.HTTPError, ValueError):
                status, _, _ = client.ask("POST", f"/api/jobs/{victim}/cancel")
                assert status in {200, 202, 409, 503}, status
                if status in {200, 202}:
                    self.cancelled.setdefault(victim, self.last_event())
                self.asked["cancels"] += 1

    def _retry(self, client: Client, chance: random.Random) -> None:
        if self.unfinished() < MOST_UNFINISHED and (victim := self._any(chance)):
            with suppress(urllib3.exceptions.HTTPError, ValueError):
                status, _, job = client.ask("POST", f"/api/jobs/{victim}/retry")
                assert status in {201, 409, 503}, (status, job)
                if status == 201:
                    self.acknowledged[str(job["id"])] = ""
                    self.asked["retries"] += 1

    def _any(self, chance: random.Random) -> str | None:
        """One of the newest jobs."""
        known = list(self.acknowledged)[-60:]
        return chance.choice(known) if known else None
