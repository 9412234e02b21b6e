"""Laws of the queue that hold after every step, read from the database alone: the oracle is not asked."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from shared.job import MOVES, PHASES, TERMINAL, Status
from shared.store.sql import SqlJobStore, Statement
from shared.store.statements.parts import NOW

Row = Mapping[str, Any]

#: Where a job may still go once its cancel was asked for. It completes only when its owner was faster.
_AFTER_A_REQUEST = {Status.WAITING_CHILDREN, Status.COMPLETED, Status.CANCELLED}
_UNFINISHED = set(Status) - TERMINAL
#: What never changes again when a job has ended; counters may, when its children outlive it.
_FINAL = ("status", "attempt", "failures", "result", "outputs", "error", "worker_id", "finish_token", "last_line")
#: The first retry waits for at most two seconds, each further one for twice as long.
_BACKOFF_MS = 2000


@dataclass(frozen=True)
class Snapshot:
    """All rows at one moment of the database's clock; `events` are those written since the snapshot before."""

    now: int
    jobs: dict[str, Row]
    events: list[Row]
    tally: list[Row]
    workers: dict[str, int]

    @classmethod
    def read(cls, store: SqlJobStore, after: int) -> Snapshot:
        """One round trip."""
        clock, jobs, events, tally, workers = store._read(
            [
                Statement(f"SELECT {NOW} AS now"),
                Statement("SELECT * FROM job ORDER BY seq"),
                Statement("SELECT * FROM event WHERE id > :after ORDER BY id", {"after": after}),
                Statement("SELECT type, status, jobs, media_ms, wait_log2, run_log2 FROM tally"),
                Statement("SELECT id, running FROM worker"),
            ]
        )
        return cls(
            clock[0]["now"],
            {row["id"]: row for row in jobs},
            [row for row in events if row["id"] > after],
            list(tally),
            {row["id"]: row["running"] for row in workers},
        )


@dataclass
class Laws:
    """Compares each snapshot with what was seen before it."""

    before: dict[str, Row] = field(default_factory=dict)
    #: The last rows of deleted jobs: their parents still count them.
    deleted: dict[str, Row] = field(default_factory=dict)
    states: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    owners: dict[tuple[str, int], str] = field(default_factory=dict)
    lines: dict[tuple[str, int], int] = field(default_factory=dict)
    phases: dict[str, int] = field(default_factory=dict)
    ends: Counter[tuple[str, str]] = field(default_factory=Counter)
    last_event: int = 0

    def check(self, seen: Snapshot) -> None:
        """Raise AssertionError, naming the law and the job, when one does not hold."""
        for event in seen.events:
            self._event(event, seen)
        for job_id, row in seen.jobs.items():
            assert self.states[job_id][-1] == row["status"], f"{job_id}: events end in {self.states[job_id]}"
            _is_sound(row)
            if job_id in self.before:
                self._went_on(self.before[job_id], row)
            else:
                assert row["seq"] > max((old["seq"] for old in self.before.values()), default=0), f"{job_id}: its seq"
        self.deleted |= {job_id: row for job_id, row in self.before.items() if job_id not in seen.jobs}
        self._deleted_ended()
        self._families(seen)
        self._order(seen)
        counted = Counter({(row["type"], row["status"]): 0 for row in seen.tally})
        for row in seen.tally:
            counted[row["type"], row["status"]] += row["jobs"]
            for histogram in ("wait_log2", "run_log2"):
                assert sum(json.loads(row[histogram]).values()) == row["jobs"], f"tally: {histogram} of {dict(row)}"
        assert counted == self.ends, "tally: it counts every end once"
        self.before = seen.jobs

    def _event(self, event: Row, seen: Snapshot) -> None:
        job_id, attempt = event["job_id"], event["attempt"]
        assert event["id"] > self.last_event, "event ids rise and never come back"
        self.last_event = event["id"]
        if event["kind"] == "stage" and event["line"] is None:
            phase = PHASES.index(event["message"])
            assert phase > self.phases.get(job_id, -1), f"{job_id}: phase {event['message']} was told out of order"
            self.phases[job_id] = phase
            return
        if event["kind"] != "state":
            assert event["line"] > self.lines.get((job_id, attempt), 0), f"{job_id}: line {event['line']} came twice"
            self.lines[job_id, attempt] = event["line"]
            return
        states, data = self.states[job_id], json.loads(event["data"] or "{}")
        old, new = (Status(states[-1]) if states else None), Status(event["message"])
        assert new in MOVES[old], f"{job_id}: {old} > {new} is no move"
        assert data.get("from") == old, f"{job_id}: the event of {new} says that it came from {data.get('from')}"
        states.append(new)
        before = self.before.get(job_id)
        if before is not None and before["cancel_requested_at"] is not None:
            assert new in _AFTER_A_REQUEST, f"{job_id}: went to {new} although a cancel was asked for"
        if new is Status.RUNNING:
            assert (job_id, attempt) not in self.owners, f"{job_id}: attempt {attempt} has two owners"
            assert attempt == 1 + sum(key[0] == job_id for key in self.owners), f"{job_id}: attempt {attempt} skips"
            self.owners[job_id, attempt] = data["worker"]
        if new in TERMINAL and old is not None:
            row = seen.jobs.get(job_id) or before
            self.ends[row["type"], new] += 1
        if new is Status.RETRYING and before is not None:
            delay = data["run_at"] - event["at"]
            assert 0 <= delay <= _BACKOFF_MS << before["failures"], f"{job_id}: backs off for {delay} ms"

    def _went_on(self, old: Row, new: Row) -> None:
        job_id = new["id"]
        for name in ("seq", "attempt", "failures", "depth", "children_total"):
            assert new[name] >= old[name], f"{job_id}: {name} fell from {old[name]} to {new[name]}"
        assert old["cancel_requested_at"] is None or new["cancel_requested_at"] is not None, (
            f"{job_id}: forgot a cancel"
        )
        if old["attempt"] == new["attempt"]:
            assert old["claim_token"] in {None, new["claim_token"]}, f"{job_id}: the token went without a claim"
            assert new["last_line"] >= old["last_line"], f"{job_id}: last_line fell"
        if old["status"] in TERMINAL:
            changed = {name: (old[name], new[name]) for name in _FINAL if old[name] != new[name]}
            assert not changed, f"{job_id}: had ended and changed {changed}"

    def _deleted_ended(self) -> None:
        for job_id, row in self.deleted.items():
            assert row["status"] in TERMINAL, f"{job_id}: was deleted while {row['status']}"

    def _families(self, seen: Snapshot) -> None:
        children = defaultdict(list)
        for row in (*self.deleted.values(), *seen.jobs.values()):
            children[row["parent_id"]].append(row)
        for job_id, row in seen.jobs.items():
            mine = children[job_id]
            states = Counter(child["status"] for child in mine)
            unfinished = [child for child in mine if child["status"] in _UNFINISHED]
            done = states[Status.COMPLETED]
            wanted = {
                "children_total": len(mine),
                "children_done": done,
                "children_failed": len(mine) - done - len(unfinished),
            } | {f"{phase}_left": sum(child["phase"] == phase for child in unfinished) for phase in PHASES}
            assert wanted == {name: row[name] for name in wanted}, f"{job_id}: its counters"
            assert unfinished or row["status"] != Status.WAITING_CHILDREN, f"{job_id}: waits for nobody"
            assert not unfinished or row["status"] not in {Status.COMPLETED, Status.FAILED}, f"{job_id}: left children"
            begun = [PHASES.index(child["phase"]) for child in unfinished if child["status"] != Status.WAITING]
            first = min((PHASES.index(child["phase"]) for child in unfinished), default=0)
            assert all(phase == first for phase in begun), f"{job_id}: a phase opened before its turn"

    def _order(self, seen: Snapshot) -> None:
        """Whoever started was the first of its type: nobody before it in the queue still waits."""
        for job_id, row in seen.jobs.items():
            old = self.before.get(job_id)
            if row["status"] != Status.RUNNING or old is None or old["attempt"] == row["attempt"]:
                continue
            for other in self.before.values():
                waits = other["status"] == Status.PENDING == seen.jobs.get(other["id"], row)["status"]
                first = (-other["priority"], other["seq"]) < (-old["priority"], old["seq"])
                assert not (waits and first and other["type"] == row["type"]), f"{job_id}: overtook {other['id']}"

    def history(self, store: SqlJobStore) -> None:
        """Every event that was seen and whose job is there is still there, in order."""
        rows = store._read(
            [
                Statement(
                    "SELECT * FROM event WHERE kind = 'state' AND id <= :last ORDER BY id", {"last": self.last_event}
                )
            ]
        )[0]
        kept = defaultdict(list)
        for row in rows:
            kept[row["job_id"]].append(row["message"])
        for job_id in self.before:
            assert kept[job_id] == self.states[job_id], f"{job_id}: its history changed"
            assert all(Status(new) in MOVES[Status(old)] for old, new in pairwise(kept[job_id]))


def _began(row: Row) -> bool:
    """By its first attempt; a parent without work of its own by its first phase."""
    return bool(row["attempt"] > 0 or (not row["own_work"] and row["open_phase"] >= 0))


def _is_sound(row: Row) -> None:
    job_id, status = row["id"], Status(row["status"])
    problems: Iterator[str] = (
        problem
        for wrong, problem in (
            (row["failures"] > row["max_failures"], "more failures than it may have"),
            (status is Status.RUNNING and not (row["worker_id"] and row["claim_token"]), "runs without an owner"),
            (status is Status.RUNNING and row["lease_until"] is None, "runs without a lease"),
            ((status in TERMINAL) != (row["completed_at"] is not None), "completed_at and state differ"),
            (_began(row) != (row["started_at"] is not None), "it has begun or not, and started_at says otherwise"),
            (status is Status.COMPLETED and row["error"] is not None, "completed with an error"),
            (status in TERMINAL - {Status.COMPLETED} and row["error"] is None, "ended badly without a reason"),
            (status in {Status.SCHEDULED, Status.RETRYING} and row["run_at"] is None, "waits for no time"),
        )
        if wrong
    )
    problem = next(problems, None)
    assert problem is None, f"{job_id} ({status}): {problem}"
