"""The worker, start reading here: every slot claims a job, runs its stages, finishes it, and claims the next."""

from __future__ import annotations

import math
import queue
import random
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random_exponential

from shared.errors import ClaimLost, Unavailable
from shared.job import Failure, Job, Outcome
from shared.store.values import ClaimRequest, Finished
from shared.store.values import Worker as Identity
from shared.types import JOB_TYPES, JobType
from worker.attempt import Attempt
from worker.errands import Errands
from worker.folders import WorkFolders
from worker.given_up import GivenUp
from worker.heartbeat import Heartbeat
from worker.janitor import Janitor
from worker.measures import Measures
from worker.pool import Pools
from worker.process import clock as machine_clock
from worker.stop import Reason
from worker.tracing import Tracing
from worker.webhooks import Courier

if TYPE_CHECKING:
    from shared.settings import Settings
    from shared.spans import Spans
    from shared.storage.protocol import StorageAdapter
    from shared.store.protocol import JobStore
    from worker.fetch import Network
    from worker.ffmpeg import Engine
    from worker.pool import Instance
    from worker.run import Pipeline

Answer = TypeVar("Answer")
#: An idle slot looks by itself so often: soon after work, then ever more seldom.
_IDLE_MIN_S, _IDLE_MAX_S = 0.25, 2.0
_TICK_S = 0.1
#: What a drain may take beyond its time and the cancel grace, for the proof and the release.
_RELEASE_S = 5.0


class Worker:
    """N slots, each one job at a time, and one heartbeat for all. `run` returns when it was drained."""

    def __init__(
        self,
        store: JobStore,
        storage: StorageAdapter,
        engine: Engine,
        settings: Settings,
        pipelines: Mapping[str, Pipeline[Any]],
        *,
        worker_id: str,
        host: str,
        version: str,
        new_token: Callable[[], str],
        job_types: Mapping[str, JobType] = JOB_TYPES,
        clock: Callable[[], float] = machine_clock,
        chance: random.Random | None = None,
        network: Network | None = None,
        pools: Pools | None = None,
        spans: Spans | None = None,
    ) -> None:
        self._store, self._storage, self._engine, self._settings = store, storage, engine, settings
        self._job_types, self._clock, self._new_token = job_types, clock, new_token
        self._chance = chance or random.Random()  # noqa: S311 - spreads load, guards nothing
        # Types without stages are parents: nobody claims them.
        self._pipelines = {name: pipeline for name, pipeline in pipelines.items() if job_types[name].stages}
        self._pools = pools or Pools({}, settings, engine)
        self._pools.on_ready = self._wake
        self.identity = Identity(worker_id, host, version, tuple(sorted(self._pipelines)), settings.slots)
        self.courier = Courier(store, settings, self._chance, network=network)
        self._errands = Errands()
        self._given_up = GivenUp(settings.lease_s, clock)
        self._folders = WorkFolders(settings.work_dir, worker_id)
        self.measures = Measures(store.usage, ffmpeg=engine.version, room=self._folders.root, pools=self._pools.states)
        self._tracing = Tracing(spans, clock)
        # At least twice a heartbeat: after an outage janitors leave owners two of them to save their jobs.
        self._pause_s = min(2.0, settings.heartbeat_s / 2)
        self._lock = threading.Condition()
        self._attempts: list[Attempt] = []
        self._news = False
        #: What ends the rest of a worker without attempts; a queue that a signal handler may put into.
        self._calls: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._resting = False
        self._fault: str | None = None
        self._drains_asked = 0
        self._drain_until: float | None = None
        self._log = structlog.get_logger("spool.worker").bind(worker=worker_id)

    def run(self) -> int:
        """Work until drained; returns the exit code, 0 when every job was finished or given back."""
        self._folders.open()
        try:
            self._folders.sweep()
            heartbeat = self._heartbeat()
            slots = [
                threading.Thread(target=self._occupy, name=f"slot-{number}", daemon=True)
                for number in range(self._settings.slots)
            ]
            self._log.info("worker ready", types=self.identity.types, slots=len(slots), host=self.identity.host)
            self._pools.start(self._folders.home / "programs")
            heartbeat.start()
            self.courier.start()
            self._errands.start()
            for slot in slots:
                slot.start()
            drained = self._supervise(slots)
            self._pools.close()
            self.courier.close()
            heartbeat.close()
            self._errands.close()
            self._leave()
            self._tracing.close()
        finally:
            self._folders.close()
        self._log.info("worker ended", drained=drained)
        return 0 if drained else 1

    def drain(self) -> None:
        """Claim no more and end when the running jobs have; asked a second time: stop and release them now.

        Safe to call from a signal handler.
        """
        self._drains_asked += 1
        self._calls.put(None)

    def _leave(self) -> None:
        try:
            self._store.leave(self.identity.id)
        except Unavailable as error:
            self._log.info("the queue was not told of the end; it forgets this worker by itself", reason=error.message)

    # --- a slot --------------------------------------------------------------------------------------------
    def _occupy(self) -> None:
        try:
            self._slot()
        finally:
            self._calls.put(None)

    def _slot(self) -> None:
        """Claim, run, finish, and on with the job that came with the finish."""
        idle_s = _IDLE_MIN_S
        while not self._drains_asked:
            claimed = self._claim()
            if claimed is None:
                self._idle(idle_s * self._chance.uniform(0.75, 1.25))
                idle_s = min(2 * idle_s, _IDLE_MAX_S)
                continue
            self._wake()  # where one job was, there may be another for the next idle slot
            while claimed is not None:
                claimed = self._work(*claimed)
            idle_s = _IDLE_MIN_S

    def _work(self, job: Job, claimed_at: float) -> tuple[Job, float] | None:
        """Run one attempt to its end and write that down; returns the job claimed in the same round trip."""
        attempt = Attempt(
            job,
            self._pipelines[job.type],
            kind=self._job_types[job.type],
            claimed_at=claimed_at,
            settings=self._settings,
            clock=self._clock,
            measures=self.measures,
        )
        attempt.log.info("attempt begins", failures=job.failures)
        with self._lock:
            self._attempts.append(attempt)
        if self._resting:
            self._calls.put(None)
        folder = self._folders.place(job.id, job.attempt)
        following = outcome = None
        try:
            outcome = attempt.run(folder, self._store, self._storage, self._engine)
            self._prove(attempt)
            self._pools.give_back(job)
            self.measures.programs(attempt.processes.use())
            attempt.settling = True
            if attempt.stop.reason is Reason.LOST:
                self.measures.lost()
            if outcome is None:
                self._release(attempt)
            else:
                following = self._finish(attempt, outcome)
        except ClaimLost:
            if attempt.stop.reason is not Reason.LOST:
                self.measures.lost()
            attempt.log.info("claim lost; nothing was written")
            self._tracing.attempt(attempt, "lost")
            if outcome is not None and outcome.outputs:
                attempt.drop_outputs(self._storage)
        except Unavailable as error:
            attempt.log.warning("the end of the attempt could not be written", reason=error.message)
            if job.claim_token is not None:
                self._given_up.add(job.claim_token)
        except Exception:  # a slot outlives whatever its attempt died of
            attempt.log.exception("the attempt could not be ended")
        finally:
            with self._lock:
                self._attempts.remove(attempt)
            self._folders.remove(folder)
        return following

    def _prove(self, attempt: Attempt) -> None:
        """Nothing is written about an end before all processes are proven gone; meanwhile the claim is kept alive."""
        while survivors := attempt.processes.close():
            attempt.log.error("processes of this attempt cannot be killed; trying on", survivors=survivors)
            time.sleep(1.0)

    # --- the queue -----------------------------------------------------------------------------------------
    def _claim(self) -> tuple[Job, float] | None:
        if not self._fit():
            return None
        job, at_once, offered, claimed_at = None, False, self._pools.offer(), self._clock()
        request = self._request(offered)
        try:
            # The lease counts from the first try, so a claim that took long is given up for a fresh one.
            job, at_once = self._until_answered(
                lambda: self._store.claim(request), at_most_s=self._settings.lease_s / 4
            )
        except Unavailable:
            return None
        finally:
            self._claimed(request, offered, job, at_once=at_once)
        return (job, claimed_at) if job is not None else None

    def _finish(self, attempt: Attempt, outcome: Outcome) -> tuple[Job, float] | None:
        job, at_once, offered, claimed_at = None, False, self._pools.offer(), self._clock()
        request = None if self._drains_asked or not self._fit() else self._request(offered)
        try:
            finished, at_once = self._finished(attempt, outcome, request, claimed_at)
            job = finished.next
        finally:
            self._claimed(request, offered, job, at_once=at_once)
        return (job, claimed_at) if job is not None else None

    def _claimed(
        self, request: ClaimRequest | None, offered: Mapping[str, Instance], job: Job | None, *, at_once: bool
    ) -> None:
        """A claim brought `job`, or nothing; unless the first try was answered so, it may have a job all the same."""
        self._pools.settle(offered, job)
        if request is not None and job is None and not at_once:
            self._given_up.add(request.token)

    def _finished(
        self, attempt: Attempt, outcome: Outcome, request: ClaimRequest | None, claimed_at: float
    ) -> tuple[Finished, bool]:
        """Write the end of an attempt, and claim with it what was asked for; and whether the first try was answered."""
        progress, lines = attempt.report.last()

        def finish() -> Finished:
            fresh = self._clock() < claimed_at + self._settings.lease_s / 4
            following = request if fresh else None
            return self._store.finish(attempt.claim, outcome, lines=lines, progress=progress, next=following)

        try:
            finished, at_once = self._until_answered(finish)
        except (TypeError, ValueError):  # a result that is no JSON: the job still needs an end
            attempt.log.exception("the outcome could not be written")
            sentence = "The result of the job could not be stored; this is a fault in Spool, which its log describes."
            outcome = Outcome("failed", failure=Failure("internal", "permanent", sentence))
            finished, at_once = self._until_answered(finish)
        self.measures.ended(finished.job.status, outcome.failure)
        self._tracing.attempt(attempt, outcome.word, outcome.failure, finished.job)
        if finished.job.webhook_url is not None or finished.job.parent_id is not None:
            self.courier.nudge()
        attempt.log.info(
            "attempt ended",
            outcome=outcome.word,
            status=finished.job.status.value,
            stage=attempt.report.stage,
            code=outcome.failure.code if outcome.failure else None,
            duration_s=round(self._clock() - attempt.started_at, 3),
        )
        return finished, at_once

    def _release(self, attempt: Attempt) -> None:
        """Give the job back, even on a lease that ran out, as long as nobody took it: an outage costs no failure."""
        _, lines = attempt.report.last()
        self._until_answered(lambda: self._store.release(attempt.claim, lines=lines))
        attempt.log.info("released", reason=attempt.stop.reason, stage=attempt.report.stage)
        self._tracing.attempt(attempt, "released")

    def _until_answered(self, ask: Callable[[], Answer], *, at_most_s: float = math.inf) -> tuple[Answer, bool]:
        """Repeat until the queue answers: what is asked here is fenced and safe to repeat, so late is not too late.

        Returns the answer, and whether it came at the first try.
        """
        began_at = self._clock()

        def enough(_: RetryCallState) -> bool:
            now, drain_until = self._clock(), self._drain_until
            return now >= began_at + at_most_s or (
                drain_until is not None and now >= drain_until + self._settings.cancel_grace_s
            )

        retrying = Retrying(
            retry=retry_if_exception_type(Unavailable),
            wait=wait_random_exponential(multiplier=0.1, max=self._pause_s),
            stop=enough,
            reraise=True,
        )
        answer = retrying(ask)
        return answer, retrying.statistics["attempt_number"] == 1

    def _fit(self) -> bool:
        """Whether a job could work here: a worker whose disk is full or gone would fail one job of the queue after the
        other, faster than the others finish them, so it takes none until that is mended."""
        fault = self._folders.fault()
        with self._lock:
            before, self._fault = self._fault, fault
        if fault is not None and before is None:
            self._log.error("the work folder cannot be used; no more jobs are taken until it can", reason=fault)
        elif fault is None and before is not None:
            self._log.info("the work folder can be used again")
        return fault is None

    def _request(self, offered: Collection[str]) -> ClaimRequest:
        """A claim of what can be done now: a type of a long-lived program only where one is held for it."""
        types = tuple(name for name in self.identity.types if name not in self._pools.types or name in offered)
        return ClaimRequest(replace(self.identity, types=types), self._new_token(), self._settings.lease_s)

    # --- the threads ---------------------------------------------------------------------------------------
    def _heartbeat(self) -> Heartbeat:
        janitor = Janitor(
            self._store,
            self._storage,
            self._settings,
            self._clock,
            self._chance,
            errand=self._errands.ask,
            reaped=self.measures.reaped,
        )
        return Heartbeat(
            self._store,
            self.identity,
            self._settings,
            janitor,
            attempts=self._running,
            given_up=self._given_up,
            on_change=self._wake,
            metrics=self.measures.snapshot,
            clock=self._clock,
            chance=self._chance,
        )

    def _running(self) -> list[Attempt]:
        with self._lock:
            return list(self._attempts)

    def _idle(self, timeout_s: float) -> None:
        """Sleep until the queue changes, and no longer than that."""
        with self._lock:
            self._lock.wait_for(lambda: self._news or self._drains_asked, timeout_s)
            self._news = False

    def _wake(self) -> None:
        with self._lock:
            self._news = True
            self._lock.notify()

    def _supervise(self, slots: list[threading.Thread]) -> bool:
        """Hold every attempt to its limits; after a drain was asked for, see it through. False when a slot hangs."""
        while any(slot.is_alive() for slot in slots):
            self._rest()
            for attempt in self._running():
                attempt.enforce()
            if self._drains_asked and self._drain(self._clock()):
                self._log.error("a job did not stop; the worker ends without it", jobs=len(self._running()))
                return False
        return True

    def _rest(self) -> None:
        """Wait a moment while there are attempts to hold to limits; else until one begins, or a drain, or an end."""
        self._resting = True  # first, so that whoever begins from now on calls
        busy = self._attempts or self._drains_asked
        with suppress(queue.Empty):
            self._calls.get(timeout=_TICK_S if busy else None)
        self._resting = False

    def _drain(self, now: float) -> bool:
        """Returns True when the time for stopping is over, too."""
        if self._drain_until is None:
            self._drain_until = now + self._settings.drain_s
            self._log.info("draining", running=len(self._running()), at_most_s=self._settings.drain_s)
            with self._lock:
                self._lock.notify_all()
        if self._drains_asked > 1:
            self._drain_until = min(self._drain_until, now)
        if now >= self._drain_until:
            for attempt in self._running():
                attempt.stop.request(Reason.SHUTDOWN)
        return now >= self._drain_until + self._settings.cancel_grace_s + _RELEASE_S
