"""What an attempt tells about itself, kept in memory until the next heartbeat carries it away."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from shared.job import EventKind, Level, Line, Progress

#: An attempt's first lines are written as they come; of what follows the last ones are kept and written at its end.
HEAD_LINES, TAIL_LINES = 500, 200
LINES_PER_BEAT = 200
MESSAGE_LENGTH, DATA_LENGTH = 2000, 8000
#: Below this share of a stage its speed says too little about its end.
_EARLY = 0.03


class AttemptReport:
    """The `Report` of one attempt: numbered lines, and a percentage that never falls within a stage.

    `stages` are names with weights, in order. May be used from any thread.
    """

    def __init__(self, stages: Sequence[tuple[str, float]], clock: Callable[[], float]) -> None:
        self._stages, self._clock = tuple(stages), clock
        self._lock = threading.Lock()
        self._index: int | None = None
        self._began_at = self._stage_began_at = clock()
        self._current: float | None = None
        self._total: float | None = None
        self._share: float | None = None
        self._waiting: deque[tuple[float, Line]] = deque()
        self._tail: deque[tuple[Level, str, dict[str, Any] | None]] = deque(maxlen=TAIL_LINES)
        self._count = self._left_out = 0
        self.moves = 0
        self.stage_is_news = False

    @property
    def stage(self) -> str | None:
        """The stage the attempt is in, None before the first."""
        return None if self._index is None else self._stages[self._index][0]

    def begin_stage(self, index: int) -> None:
        """The attempt enters a stage: its progress starts afresh and the history gets a line."""
        with self._lock:
            self._index, self._stage_began_at = index, self._clock()
            self._current = self._total = self._share = None
            self.moves += 1
            self.stage_is_news = True
            name = self._stages[index][0]
            self._add("info", "stage", name, {"index": index, "count": len(self._stages)})

    def progress(self, current: float, total: float | None) -> None:
        """`current` of `total` in the stage's own unit are really done; what is less than before is not believed."""
        with self._lock:
            if self._current is not None and current <= self._current and total == self._total:
                return
            self.moves += 1
            self._current, self._total = max(current, self._current or 0.0), total
            if total:
                self._share = max(self._share or 0.0, min(1.0, self._current / total))

    def log(self, level: Level, message: str, **data: Any) -> None:  # noqa: ANN401 - any JSON value
        """One line of the job's history; long ones are cut."""
        with self._lock:
            if self._count < HEAD_LINES:
                self._add(level, "log", message, data or None)
                return
            self._left_out += len(self._tail) == TAIL_LINES
            self._tail.append((level, message, data or None))

    def beat(self) -> tuple[Progress, tuple[Line, ...]]:
        """Where the attempt stands, and the lines that are not written yet, oldest first."""
        with self._lock:
            self.stage_is_news = False
            return self._progress(), self._aged(LINES_PER_BEAT)

    def written(self, last: int) -> None:
        """The lines up to number `last` are stored."""
        with self._lock:
            while self._waiting and self._waiting[0][1].n <= last:
                self._waiting.popleft()

    def last(self) -> tuple[Progress, tuple[Line, ...]]:
        """Where the attempt stood, and all that is left to write when it ends, the kept tail included."""
        with self._lock:
            if self._left_out:
                self._add("info", "log", f"{self._left_out} lines were left out here.", None)
                self._left_out = 0
            while self._tail:
                level, message, data = self._tail.popleft()
                self._add(level, "log", message, data)
            return self._progress(), self._aged()

    def _aged(self, most: int | None = None) -> tuple[Line, ...]:
        now = self._clock()
        return tuple(replace(line, age_ms=max(0, round(1000 * (now - at)))) for at, line in islice(self._waiting, most))

    def _add(self, level: Level, kind: EventKind, message: str, data: dict[str, Any] | None) -> None:
        self._count += 1
        text = message if len(message) <= MESSAGE_LENGTH else message[: MESSAGE_LENGTH - 1] + "…"
        line = Line(n=self._count, level=level, kind=kind, message=text, data=_plain(data))
        self._waiting.append((self._clock(), line))

    def _progress(self) -> Progress:
        if self._index is None:
            return Progress()
        return Progress(
            stage=self._stages[self._index][0],
            stage_index=self._index,
            stage_count=len(self._stages),
            percent=None if self._share is None else round(100 * self._share, 1),
            current=self._current,
            total=self._total,
            eta_s=self._eta_s(self._index),
            overall=self._overall(self._index),
        )

    def _overall(self, index: int) -> float:
        """The percentage of all stages; of one whose progress is unknown, nothing is counted before its end."""
        weights = [weight for _, weight in self._stages]
        done = sum(weights[:index]) + weights[index] * (self._share or 0.0)
        return round(100 * done / (sum(weights) or 1), 2)

    def _eta_s(self, index: int) -> float | None:
        """Seconds to the attempt's end: by the speed of this stage once that is known, else of those before it."""
        weights = [weight for _, weight in self._stages]
        here, later, share = weights[index], sum(weights[index + 1 :]), self._share or 0.0
        if here and share > _EARLY:
            stage_s = (self._clock() - self._stage_began_at) / share
            return round(stage_s * (1 - share) + stage_s / here * later, 1)
        done = sum(weights[:index])
        if done == 0:
            return None
        return round((self._stage_began_at - self._began_at) / done * (here * (1 - share) + later), 1)


def _plain(data: dict[str, Any] | None) -> dict[str, Any] | None:
    """The data as JSON carries it, or a note that there was too much of it."""
    if data is None:
        return None
    text = json.dumps(data, default=str)
    plain: dict[str, Any] = json.loads(text) if len(text) <= DATA_LENGTH else {"left_out": f"{len(text)} characters"}
    return plain
