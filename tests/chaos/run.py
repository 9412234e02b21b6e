"""One run of chaos: harm, calm, audit; what was done, what was found, and the story of whatever went wrong."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import urllib3

from shared.errors import Unavailable
from shared.store.sql import SqlJobStore, Statement
from tests.chaos import audit
from tests.chaos.faults import Chaos
from tests.chaos.load import MOST_UNFINISHED, Load, Sources
from tests.chaos.place import Place
from tests.chaos.witness import Witness
from tests.media import signals
from tests.network.deployment import Client
from tests.real.proxy import Faults

#: How long jobs may take to end once everything works again.
CALM_S = 240.0
#: Of all exchanges with the database server so many are spoiled.
SPOILED = 0.1
#: How many histories a failure prints, and how many findings of a kind.
_STORIES, _FINDINGS = 3, 10
_LONG_AGO = "2000-01-01T00:00:00Z"


@dataclass
class Run:
    """What was done (`counts`, `told`) and what was found; all `found` must be empty."""

    seed: int
    counts: Counter[str] = field(default_factory=Counter)
    told: list[str] = field(default_factory=list)
    found: dict[str, list[str]] = field(default_factory=dict)
    evidence: audit.Evidence | None = None

    def do(self, place: Place, seconds: float, ffmpeg: Path) -> None:
        """Harm a place for so long, or until something is seen to be wrong; mend it, let everything end, and look."""
        began = time.monotonic()

        def tell(what: str) -> None:
            self.told.append(f"{time.monotonic() - began:6.1f} s: {what}")

        counting, watching = place.second_store(), place.second_store()
        load = Load(
            place.address, lambda: _unfinished(counting), lambda: _last_event(counting), _uploads(place), self.seed
        )
        chaos = Chaos(place, self.seed, tell=tell)
        if place.proxy is not None:
            place.proxy.fault = Faults(SPOILED, seed=self.seed)
        with Witness(place.deployment, watching, place.ended_at) as witness:
            chaos.on_jump = witness.clock_jumps
            load.start()
            try:
                chaos.run(seconds, enough=lambda: bool(witness.orphans or place.book.two_owners()))
            finally:
                load.stop(place.host)
            if place.proxy is not None:
                place.proxy.fault = lambda: None
            tell("calm")
            self.counts["harmed for"] = round(time.monotonic() - began)
            _calm(place)
            tell("told to end")
            stuck = [*chaos.stuck, *place.drain(), *place.fallen]
        counting.close()
        orphans = [
            *witness.orphans.values(),
            *(f"{left.job}: {left} at the end" for left in place.deployment.programs()),
        ]
        self._look(place, load, stuck, orphans, ffmpeg)
        self.counts.update(chaos.counts + load.asked)
        self.counts["looks at programs"] = witness.looks

    def _look(self, place: Place, load: Load, stuck: list[str], orphans: list[str], ffmpeg: Path) -> None:
        deployment = place.deployment
        self.evidence = evidence = audit.Evidence(deployment)
        self.found = {
            "lost": audit.lost(evidence, load.acknowledged),
            "doubled": audit.doubled(evidence, load.acknowledged),
            "two owners": place.book.two_owners() + audit.begun_twice(evidence.workers),
            "orphans": orphans,
            "wrong outputs": audit.wrong_outputs(evidence, deployment.folder / "copy", ffmpeg),
            "wrong ends": audit.wrong_ends(evidence),
            "overtaken": audit.overtaken(evidence),
            "late writes": audit.late_writes(evidence),
            "cancels undone": audit.undone_cancels(evidence, load.cancelled),
            "stuck": [f"-: {sentence}" for sentence in stuck],
            "files left": [f"-: {path}" for path in deployment.work.rglob("*") if not path.is_dir()],
        }
        self.counts["jobs"] = len(evidence.jobs)
        self.counts["workers"] = len(evidence.workers)
        self.counts["second attempts"] = sum(max(0, row["attempt"] - 1) for row in evidence.jobs.values())
        self.counts.update(f"ended {row['status']}" for row in evidence.jobs.values())
        errors = [
            json.loads(event["data"] or "{}").get("error") for event in evidence.events if event["kind"] == "state"
        ]
        self.counts.update(f"error {error['code']}" for error in errors if error)
        if place.proxy is not None:
            self.counts["exchanges spoiled"] = place.proxy.faults.total()

    def report(self) -> str:
        """What was found, what had been done before, and how it came to some of it."""
        lines = [f"CHAOS_SEED={self.seed}", figures(self.counts)]
        stories = []
        for name, findings in self.found.items():
            if findings:
                lines += [f"{name}: {len(findings)}", *(f"  {sentence}" for sentence in findings[:_FINDINGS])]
                stories += [sentence.partition(":")[0] for sentence in findings[:1]]
        assert self.evidence is not None
        for job in [job for job in dict.fromkeys(stories) if job in self.evidence.jobs][:_STORIES]:
            lines += ["", f"the history of {job}:", *self.evidence.history(job)]
        return "\n".join([*lines, "", "what was done:", *self.told])


def figures(counts: Counter[str] | dict[str, int]) -> str:
    """Counts in one line."""
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _unfinished(store: SqlJobStore) -> int:
    try:
        rows = store._read([Statement("SELECT COUNT(*) AS n FROM job WHERE completed_at IS NULL")])[0]
    except Unavailable:  # part of the chaos: nothing more is asked for meanwhile
        return MOST_UNFINISHED
    return int(rows[0]["n"])


def _last_event(store: SqlJobStore) -> int:
    try:
        return store.last_event_id()
    except Unavailable:  # later than any: this cancel proves nothing
        return sys.maxsize


def _uploads(place: Place) -> Sources:
    folder, client = place.deployment.folder, Client(place.address())
    made = {
        "tone": signals.write(folder / "tone.wav", signals.tone(1, -20, -20)),
        "talk": signals.write(folder / "talk.wav", signals.podcast(30)),
    }
    sources = Sources(**{name: client.upload(path) for name, path in made.items()})
    client.close()
    return sources


def _calm(place: Place) -> None:
    """Return when every job has ended, or should have. Whoever waits for a next try is told to try now."""
    client, deployment = Client(place.address()), place.deployment
    until = time.monotonic() + CALM_S
    while deployment.unfinished() and time.monotonic() < until:
        place.host()
        for row in deployment.rows("SELECT id FROM job WHERE status = 'retrying'"):
            with suppress(urllib3.exceptions.HTTPError):
                client.ask("PATCH", f"/api/jobs/{row['id']}", {"run_at": _LONG_AGO})
        time.sleep(0.5)
    client.close()
