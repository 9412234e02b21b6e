"""One thread that keeps a worker's claims alive, notices cancels, and wakes its slots when the queue changes."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import structlog

from shared.errors import Unavailable

if TYPE_CHECKING:
    from shared.settings import Settings
    from shared.store.protocol import JobStore, Watch
    from shared.store.values import Worker
    from worker.attempt import Attempt
    from worker.given_up import GivenUp
    from worker.janitor import Janitor

_log = structlog.get_logger("spool.worker")
#: How often a worker without jobs says that it is there.
IDLE_S = 30.0
#: The longest wait for a change before the thread looks whether it shall end, and the shortest between two reads.
_LOOK_S, _BREATH_S = 0.25, 0.03

#: How long the end of the worker waits for a call to a queue that does not answer.
_FAREWELL_S = 5.0


class Heartbeat:
    """Speaks to the queue for all attempts of a worker at once. `on_change` is called when the queue changed."""

    def __init__(
        self,
        store: JobStore,
        worker: Worker,
        settings: Settings,
        janitor: Janitor,
        *,
        attempts: Callable[[], Sequence[Attempt]],
        given_up: GivenUp,
        on_change: Callable[[], None],
        metrics: Callable[[], Mapping[str, Any]],
        clock: Callable[[], float],
        chance: random.Random,
    ) -> None:
        self._store, self._worker, self._settings, self._janitor = store, worker, settings, janitor
        self._attempts, self._on_change, self._clock, self._chance = attempts, on_change, clock, chance
        self._metrics, self._given_up = metrics, given_up
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._live, name="heartbeat", daemon=True)
        self._watch: Watch | None = None
        self._beat_at = self._control_at = float("-inf")
        self._retry_at: float | None = None
        self._told_busy = False

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End, once the last turn is over."""
        self._closing.set()
        self._thread.join(_FAREWELL_S)

    def _live(self) -> None:
        while not self._closing.is_set():
            try:
                self._turn()
            except Unavailable:  # the store says so, once for the whole process
                self._failed()
            except Exception as error:  # noqa: BLE001 - without this thread the worker would lose every claim
                _log.error("the heartbeat failed in a way nobody expected", exc_info=error)
                self._failed()
        if self._watch is not None:
            self._watch.close()

    def _turn(self) -> None:
        attempts = self._attempts()
        now = self._clock()
        if now >= self._beat_due(attempts, now):
            self._beat(attempts)
        elif attempts and now >= self._control_at + self._settings.control_s:
            self._control(attempts)
        if self._retry_at is None:
            self._janitor.turn()
        self._wait()

    def _wait(self) -> None:
        if self._watch is None:
            self._watch = self._store.watch()
        attempts = self._attempts()
        due = self._beat_due(attempts, self._clock())
        if attempts:
            due = min(due, self._control_at + self._settings.control_s)
        timeout_s = min(max(0.0, due - self._clock()), _LOOK_S)
        if not self._watch.wait(timeout_s):
            return
        self._on_change()
        if attempts:
            self._control_at = float("-inf")
            self._closing.wait(_BREATH_S)  # a busy queue changes all the time

    def _beat_due(self, attempts: Sequence[Attempt], now: float) -> float:
        if self._retry_at is not None:
            return self._retry_at
        if not attempts:
            return now if self._told_busy or self._given_up.is_news else self._beat_at + IDLE_S
        is_news = self._given_up.is_news or any(attempt.report.is_news for attempt in attempts)
        if is_news and now >= self._beat_at + self._settings.control_s:
            return now
        return max(min(attempt.renewed_at for attempt in attempts), self._beat_at) + self._settings.heartbeat_s

    def _beat(self, attempts: Sequence[Attempt]) -> None:
        beats = [attempt.beat() for attempt in attempts]
        given_up = self._given_up.tokens()
        sent_at = self._clock()
        owned = self._store.heartbeat(
            self._worker, beats, lease_s=self._settings.lease_s, given_up=given_up, metrics=self._metrics()
        )
        self._given_up.told(given_up)
        self._beat_at = self._control_at = sent_at
        self._told_busy = bool(beats)
        self._retry_at = None
        for attempt, beat in zip(attempts, beats, strict=True):
            attempt.answered(beat, sent_at, owned)

    def _control(self, attempts: Sequence[Attempt]) -> None:
        self._control_at = self._clock()
        owned = self._store.control(self._worker.id)
        for attempt in attempts:
            attempt.heard(owned)

    def _failed(self) -> None:
        self._janitor.be_quiet()
        pause_s = min(1.0, self._settings.heartbeat_s / 2) * self._chance.uniform(0.5, 1.0)
        self._retry_at = self._clock() + pause_s
        self._closing.wait(pause_s)
