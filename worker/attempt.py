"""One attempt: the stages of a job from its claim to an outcome, and the limits it runs under."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from shared.crash import around
from shared.errors import JobFailure, Unavailable
from shared.job import Failure, Job, Outcome
from shared.store.values import Beat, Owned
from worker.children import Children
from worker.folders import used_bytes
from worker.process import Processes
from worker.report import AttemptReport
from worker.run import Pipeline, Run
from worker.stop import Reason, Stop, Stopped
from worker.upkeep import Upkeep

if TYPE_CHECKING:
    from shared.settings import Settings
    from shared.storage.protocol import StorageAdapter
    from shared.store.protocol import JobStore
    from shared.types import JobType
    from worker.ffmpeg import Engine
    from worker.measures import Measures

#: A process that uses less of a core than this is keeping house, not working.
_IDLE_CPU = 0.01
#: How often the disk that an attempt uses is counted.
_DISK_LOOK_S = 1.0


class Attempt:
    """One claim of one job while this worker holds it. Its limits are checked from outside, by `enforce`.

    `claimed_at` (on `clock`) is when the claim was sent: its lease began later, so counting from it is safe.
    """

    def __init__(
        self,
        job: Job,
        pipeline: Pipeline[Any],
        *,
        kind: JobType,
        claimed_at: float,
        settings: Settings,
        clock: Callable[[], float],
        measures: Measures,
    ) -> None:
        self._measures = measures
        self.job, self.claim, self.stop = job, job.claim, Stop()
        self.settling = False
        self._pipeline, self._settings, self._clock = pipeline, settings, clock
        self.timeout_s = min(settings.timeouts.get(job.type, kind.timeout_s), job.timeout_s)
        self.stall_s = kind.stall_s
        self.report = AttemptReport([(stage.name, stage.weight) for stage in pipeline.stages], clock)
        self.processes = Processes(
            self.stop,
            grace_s=settings.cancel_grace_s,
            slack_s=settings.lease_margin_s / 4,
            deadline=self._last_moment(claimed_at),
        )
        self._lock = threading.Lock()
        self.renewed_at = claimed_at
        self.started_at = self._moved_at = self._looked_at = clock()
        self._moves, self._cpu_s = 0, 0.0
        #: The stages that it went through: names, and moments on its clock.
        self.stages: list[tuple[str, float, float]] = []
        self._work: Path | None = None
        self._disk_looked_at = self.started_at
        self.log = structlog.get_logger("spool.worker").bind(
            job=job.id, attempt=job.attempt, type=job.type, worker=self.claim.worker_id
        )

    # --- the stages ----------------------------------------------------------------------------------------
    def run(self, work: Path, store: JobStore, storage: StorageAdapter, engine: Engine) -> Outcome | None:
        """Make the folder `work` and run the stages; None means that the job goes back unharmed. Never raises."""
        try:
            with around("attempt.folder"):
                work.mkdir(mode=0o700, parents=True)
            self._work = work
            self._drop_losers(storage)
            children = Children(store, self.job, self._settings, self.stop)
            upkeep = Upkeep(store, self._settings)
            run = Run(self.job, work, storage, engine, self.processes, self.report, self.stop, children, upkeep)
            state = self._pipeline.begin(run)
            for index, stage in enumerate(self._pipeline.stages):
                self.stop.check()
                self.report.begin_stage(index)
                began_at = self._clock()
                try:
                    stage.work(run, state)
                finally:
                    ended_at = self._clock()
                    self.stages.append((stage.name, began_at, ended_at))
                duration_s = ended_at - began_at
                self._measures.stage(self.job.type, stage.name, duration_s)
                self.log.info("stage done", stage=stage.name, duration_s=round(duration_s, 3))
            result, outputs = self._pipeline.result(state)
            return Outcome("completed", result=result, outputs=outputs)
        except BaseException as error:  # noqa: BLE001 - whatever a stage raises becomes the attempt's outcome
            return self._explain(error)

    def _drop_losers(self, storage: StorageAdapter) -> None:
        """Delete what earlier attempts have stored: that there is this one proves that they lost.

        Each by its number, never all that is not ours: whoever comes here late may have lost to a later attempt.
        """
        for attempt in range(self.job.attempt - 1, 0, -1):
            storage.delete_prefix(f"outputs/{self.job.id}/{attempt}/")

    def drop_outputs(self, storage: StorageAdapter) -> None:
        """Delete what this attempt has stored, once it is certain that nobody will ever see it."""
        with suppress(Unavailable):  # the next attempt does it, or the janitor together with the job
            storage.delete_prefix(f"outputs/{self.job.id}/{self.job.attempt}/")

    def _explain(self, error: BaseException) -> Outcome | None:
        """What an error means for the job: our own reason first, since a stopped tool fails in many ways."""
        stage = self.report.stage
        reason = error.reason if isinstance(error, Stopped) else self.stop.reason
        if reason is not None:
            return self._stopped(reason, stage)
        if isinstance(error, JobFailure):
            return Outcome("failed", failure=error.as_failure(stage))
        failure = _failure(error, stage)
        if failure.code == "internal":
            self.log.error("a stage raised an error nobody expected", stage=stage, exc_info=error)
        return Outcome("failed", failure=failure)

    def _stopped(self, reason: Reason, stage: str | None) -> Outcome | None:
        if reason is Reason.CANCEL:
            return Outcome("cancelled", failure=Failure("cancelled", "cancelled", "Cancelled on request.", stage))
        if reason is Reason.TIMEOUT:
            sentence = (
                f"The job was stopped after {self.timeout_s:g} s, the longest it may take; "
                "send a shorter recording, or raise timeout_s."
            )
            return Outcome("failed", failure=Failure("timeout", "timeout", sentence, stage))
        if reason is Reason.STALL:
            sentence = (
                f"Nothing moved for {self.stall_s:g} s, so the job was stopped; if it happens again, check the source."
            )
            return Outcome("failed", failure=Failure("stalled", "transient", sentence, stage))
        if reason is Reason.DISK:
            sentence = (
                f"The files of the job need more than {self._settings.work_quota_gb:g} GB of the worker's disk, "
                "all that one job may use; send a shorter recording or ask for fewer files."
            )
            return Outcome("failed", failure=Failure("bad_input.too_large", "permanent", sentence, stage))
        return None

    # --- the lease -----------------------------------------------------------------------------------------
    def beat(self) -> Beat:
        """What the next heartbeat tells about it."""
        return Beat(self.claim, *self.report.beat())

    def answered(self, beat: Beat, sent_at: float, owned: Sequence[Owned]) -> None:
        """The heartbeat sent at `sent_at` with `beat` was answered."""
        if beat.lines:
            self.report.written(beat.lines[-1].n)
        if self.heard(owned):
            with self._lock:
                self.renewed_at = max(self.renewed_at, sent_at)
            self.processes.extend(self._last_moment(sent_at))

    def heard(self, owned: Sequence[Owned]) -> bool:
        """The queue said what this worker owns; returns whether this attempt is among it."""
        mine = next((item for item in owned if item.claim == self.claim), None)
        if self.settling:
            return mine is not None  # its end is on the way: that it is gone from the list is no news
        if mine is None:
            self._request(Reason.LOST)
        elif mine.cancel_requested:
            self._request(Reason.CANCEL)
        return mine is not None

    def enforce(self) -> None:
        """Ask for the end when the lease is about to run out, the time or the room is used up, or nothing moves."""
        now = self._clock()
        if self.stop.reason is not None or self.settling:
            return
        settings = self._settings
        if now >= self.renewed_at + settings.lease_s - settings.cancel_grace_s - settings.lease_margin_s:
            self._request(Reason.LOST)
        elif now >= self.started_at + self.timeout_s:
            self._request(Reason.TIMEOUT)
        elif now >= self._looked_at + self.stall_s / 20:
            self._look(now)
            if now >= self._moved_at + self.stall_s:
                self._request(Reason.STALL)
        if now >= self._disk_looked_at + _DISK_LOOK_S:
            self._disk_looked_at = now
            self._look_at_disk()

    def _look_at_disk(self) -> None:
        quota = int(self._settings.work_quota_gb * 1e9)
        if self._work is not None and used_bytes(self._work, quota) >= quota:
            self._request(Reason.DISK)

    def _look(self, now: float) -> None:
        moves, cpu_s = self.report.moves, self.processes.cpu_s()
        if moves != self._moves or cpu_s - self._cpu_s > _IDLE_CPU * (now - self._looked_at):
            self._moved_at = now
        self._looked_at, self._moves, self._cpu_s = now, moves, cpu_s

    def _last_moment(self, sent_at: float) -> float:
        """When the launchers kill by themselves: after the worker should have, and before the lease ends."""
        return sent_at + self._settings.lease_s - self._settings.lease_margin_s / 2

    def _request(self, reason: Reason) -> None:
        if self.stop.request(reason):
            self.log.info("stopping", reason=reason.value, stage=self.report.stage)


def _failure(error: BaseException, stage: str | None) -> Failure:
    if isinstance(error, MemoryError):
        return Failure(
            "out_of_memory",
            "transient",
            "The worker ran out of memory; it is tried again while it has tries left.",
            stage,
        )
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return Failure(
            "out_of_disk",
            "transient",
            "The worker ran out of disk space; it is tried again while it has tries left.",
            stage,
        )
    if isinstance(error, Unavailable):
        return Failure("unavailable", "transient", error.message, stage)
    sentence = "Something went wrong inside Spool that it did not expect; the worker's log has the details."
    return Failure("internal", "transient", f"{sentence} It is tried again while it has tries left.", stage)
