"""What a worker does with the queue: it claims jobs, renews its leases, and ends its attempts."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from shared.job import RETRIED, Claim, Job, Line, NewJob, Outcome, Progress
from shared.store.rows import Row, beat_json, names_json, progress_row
from shared.store.sql.batches import Bound, Statement
from shared.store.sql.creation import CreationVerbs
from shared.store.sql.fences import fence, lost
from shared.store.sql.insertions import insertions
from shared.store.statements import creation, feeds, owners
from shared.store.values import NO_METRICS, Beat, ClaimRequest, Finished, Owned, Visit, Worker


class OwnerVerbs(CreationVerbs):
    """Claims, heartbeats, and the ends of attempts; every write carries its fence."""

    def claim(self, request: ClaimRequest) -> Job | None:
        """Own the next job of the worker's types, or None. Also moves due jobs to pending."""
        rows = self._run(_claim(request))[-1]
        return Job.from_row(rows[0]) if rows else None

    def heartbeat(
        self,
        worker: Worker,
        beats: Sequence[Beat],
        *,
        lease_s: float,
        given_up: Collection[str] = (),
        metrics: Mapping[str, Any] = NO_METRICS,
    ) -> Sequence[Owned]:
        """Renew leases, write progress and lines, for all running jobs at once; what is missing is lost."""
        lease = int(lease_s * 1000)
        about: Bound = {"worker": worker.id, "beats": json.dumps([beat_json(beat) for beat in beats]), "lease": lease}
        seen: Bound = {
            "worker": worker.id,
            "host": worker.host,
            "version": worker.version,
            "types": names_json(worker.types),
            "slots": worker.slots,
            "running": len(beats),
            "metrics": json.dumps(dict(metrics)),
        }
        back: Bound = {"worker": worker.id, "given_up": names_json(given_up)}
        results = self._run(
            [
                Statement(owners.LINES, about),
                Statement(owners.HEARTBEAT, about),
                *([Statement(owners.RELEASE_GIVEN_UP, back)] if given_up else ()),
                Statement(owners.WORKER_SEEN, seen),
            ]
        )
        return _owned(results[1], worker.id)

    def leave(self, worker_id: str) -> None:
        """The worker ends: it is no longer counted among those that work."""
        self._run([Statement(owners.LEAVE, {"worker": worker_id})])

    def control(self, worker_id: str) -> Sequence[Owned]:
        """Which jobs the worker owns and which of them are to be cancelled; writes nothing."""
        return _owned(self._read([Statement(owners.CONTROL, {"worker": worker_id})])[0], worker_id)

    def finish(
        self,
        claim: Claim,
        outcome: Outcome,
        *,
        lines: Sequence[Line] = (),
        progress: Progress = Progress(),  # noqa: B008 - frozen
        next: ClaimRequest | None = None,
    ) -> Finished:
        """End an attempt and, with `next`, claim another job in the same round trip."""
        failure = outcome.failure
        params: Bound = fence(claim) | {
            "word": outcome.word,
            "retry": int(failure is not None and failure.kind in RETRIED),
            "result": None if outcome.result is None else json.dumps(outcome.result),
            "outputs": json.dumps([asdict(output) for output in outcome.outputs]),
            "error": None if failure is None else json.dumps(failure.as_json(claim.attempt)),
            "last_line": max((line.n for line in lines), default=0),
            **progress_row(progress),
        }
        finish = [*_last_lines(claim, lines, outcome.word), Statement(owners.FINISH, params)]
        confirm = Statement(owners.CONFIRM, {"id": claim.job_id, "finish": params["finish"]})
        results = self._run_families(finish, [confirm, *(_claim(next) if next else ())])
        job = _confirmed(claim, results[len(finish)])
        claimed = results[-1] if next else []
        return Finished(job, Job.from_row(claimed[0]) if claimed else None)

    def release(self, claim: Claim, *, lines: Sequence[Line] = ()) -> Job:
        """Give a job back unharmed: it costs no failure."""
        fenced = fence(claim)
        rows = self._run_families(
            [*_last_lines(claim, lines, "released"), Statement(owners.RELEASE, fenced)],
            [Statement(owners.CONFIRM, {"id": claim.job_id, "finish": fenced["finish"]})],
        )[-1]
        return _confirmed(claim, rows)

    def add_children(self, claim: Claim, children: Sequence[NewJob], *, visit: Visit | None = None) -> Sequence[Job]:
        """Children of a running job, once per `child_key`, and with them what a visit to a source found."""
        fenced = fence(claim)
        keys = json.dumps([child.child_key for child in children])
        first = [Statement(owners.OWNER, fenced), *_visited(claim, children, visit)]
        owner, *_, rows = self._run_families(
            [*first, *(insertions(children, owner=claim) if children else ())],
            [Statement(creation.CHILDREN_BY_KEY, {"keys": keys, "parent": claim.job_id})],
        )
        if not owner:
            raise lost(claim)
        there = {row["child_key"] for row in rows}
        if refused := [child for child in children if child.once is None and child.child_key not in there]:
            raise self._refusal(refused[0])
        return [Job.from_row(row) for row in rows]


def _claim(request: ClaimRequest) -> tuple[Statement, Statement]:
    params: Bound = {
        "token": request.token,
        "worker": request.worker.id,
        "types": names_json(request.worker.types),
        "lease": int(request.lease_s * 1000),
    }
    due = {"types": params["types"], "token": request.token}
    return Statement(owners.PROMOTE_NEXT, due), Statement(owners.CLAIM, params)


def _last_lines(claim: Claim, lines: Sequence[Line], word: str) -> list[Statement]:
    if not lines:
        return []
    beats = json.dumps([beat_json(Beat(claim, lines=tuple(lines)))])
    return [Statement(owners.LAST_LINES, {"worker": claim.worker_id, "beats": beats, "word": word})]


def _visited(claim: Claim, children: Sequence[NewJob], visit: Visit | None) -> list[Statement]:
    """A visit is remembered, and its items are taken, before the children that need them are made."""
    if visit is None:
        return []
    about = {**fence(claim), "caller": visit.caller, "url": visit.url, **asdict(visit.feed)}
    items = [*visit.passed_over, *(child.once for child in children if child.once is not None)]
    return [Statement(feeds.VISITED, about), Statement(feeds.TAKE, {**about, "items": json.dumps(items)})]


def _owned(rows: Sequence[Row], worker_id: str) -> list[Owned]:
    return [Owned(Claim(row["id"], row["attempt"], worker_id), bool(row["cancel"])) for row in rows]


def _confirmed(claim: Claim, rows: Sequence[Row]) -> Job:
    if not rows:
        raise lost(claim)
    return Job.from_row(rows[0])
