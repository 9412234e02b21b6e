"""The attempts of a worker as spans, where somebody collects them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from shared.job import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.job import Failure, Job
    from shared.spans import Spans
    from worker.attempt import Attempt


class Tracing:
    """Tells of attempts when they have ended; does nothing where there is no collector."""

    def __init__(self, spans: Spans | None, clock: Callable[[], float]) -> None:
        self._spans, self._clock = spans, clock

    def attempt(self, attempt: Attempt, word: str, failure: Failure | None = None, left: Job | None = None) -> None:
        """It has ended as `word` says, and left the job so; None where nothing was written about it."""
        if self._spans is None:
            return
        try:
            self._tell(self._spans, attempt, word, failure, left)
        except Exception:  # a job, and the one that came with its end, outlive whatever the telling of it died of
            attempt.log.exception("the attempt could not be traced")

    def _tell(self, spans: Spans, attempt: Attempt, word: str, failure: Failure | None, left: Job | None) -> None:
        now_ns, now = time.time_ns(), self._clock()

        def at_ns(moment: float) -> int:
            return now_ns - round((now - moment) * 1e9)

        stages = [(name, (at_ns(began_at), at_ns(ended_at))) for name, began_at, ended_at in attempt.stages]
        spans.attempt(attempt.job, word, failure, (at_ns(attempt.started_at), now_ns), stages)
        if left is not None and (left.terminal or left.status is Status.WAITING_CHILDREN):
            spans.job(left, (left.created_at * 1_000_000, now_ns))

    def close(self) -> None:
        """The worker ends."""
        if self._spans is not None:
            self._spans.close()
