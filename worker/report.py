"""What an attempt tells about itself, kept in memory until the next heartbeat carries it away."""

from __future__ import annotations

import json
import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from shared.job import EventKind, Level, Line, Progress
from shared.session import Role

#: An attempt's first lines are written as they come; of what follows the last ones are kept and written at its end.
HEAD_LINES, TAIL_LINES = 500, 200
LINES_PER_BEAT, CHARACTERS_PER_BEAT = 200, 250_000
#: So much may wait to be written before a job is asked to say no more for a while.
_BACKLOG_LINES, _BACKLOG_CHARACTERS = 1000, 1_000_000
MESSAGE_LENGTH, SAID_LENGTH, DATA_LENGTH, PART_LENGTH = 2000, 32_000, 8000, 64
#: Below this share of a stage its speed says too little about its end.
_EARLY = 0.03
#: Stages before this one tell how long the rest will take when they were so much of the work, and took so long: a
#: download from the same disk takes no time at all.
_TELLING, _TELLING_S = 0.1, 1.0


class AttemptReport:
    """The `Report` of one attempt: numbered lines, and a percentage that never falls within a stage.

    `stages` are names with weights, in order. May be used from any thread.
    """

    def __init__(self, stages: Sequence[tuple[str, float]], clock: Callable[[], float]) -> None:
        self._stages, self._clock = tuple(stages), clock
        self._lock = threading.Lock()
        self._index: int | None = None
        self._part: str | None = None
        self._began_at = self._stage_began_at = clock()
        self._current: float | None = None
        self._total: float | None = None
        self._share: float | None = None
        self._waiting: deque[tuple[float, Line]] = deque()
        self._tail: deque[tuple[Level, str, dict[str, Any] | None]] = deque(maxlen=TAIL_LINES)
        self._count = self._said = self._left_out = 0
        self._characters = 0
        self.moves = 0
        #: Something that somebody waits for: the next heartbeat need not be waited for.
        self.is_news = False

    @property
    def stage(self) -> str | None:
        """The stage the attempt is in, or the part of it that is named; None before the first."""
        return None if self._index is None else self._part or self._stages[self._index][0]

    def begin_stage(self, index: int) -> None:
        """The attempt enters a stage: its progress starts afresh and the history gets a line."""
        with self._lock:
            self._index, self._part, self._stage_began_at = index, None, self._clock()
            self._current = self._total = self._share = None
            self.moves += 1
            self.is_news = True
            self._add_stage(index)

    def progress(self, current: float, total: float | None) -> None:
        """`current` of `total` in the stage's own unit are really done; what is less than before is not believed."""
        with self._lock:
            if self._current is not None and current <= self._current and total == self._total:
                return
            self.moves += 1
            self._current, self._total = max(current, self._current or 0.0), total
            if total:
                self._share = max(self._share or 0.0, min(1.0, self._current / total))

    def part(self, name: str) -> None:
        """The stage has come to another part of its work, which it is called by, and whose progress starts afresh."""
        with self._lock:
            self._part = name[:PART_LENGTH]
            self._current = self._total = self._share = None
            self.moves += 1
            if self._index is not None and self._count - self._said < HEAD_LINES:
                self.is_news = True
                self._add_stage(self._index)

    def alive(self) -> None:
        """Something moves that has no progress: the attempt does not stand still."""
        self.moves += 1

    def log(self, level: Level, message: str, **data: Any) -> None:  # noqa: ANN401 - any JSON value
        """One line of the job's history; long ones are cut."""
        with self._lock:
            if self._count - self._said < HEAD_LINES:
                self._add(level, "log", message, data or None)
                return
            self._left_out += len(self._tail) == TAIL_LINES
            self._tail.append((level, message, data or None))

    def message(self, role: Role, text: str) -> None:
        """Something said in the job's session: every message is kept, in order."""
        self._tell("message", text, {"role": role})

    def preview(self, text: str, data: object) -> None:
        """A look at what is being made."""
        self._tell("preview", text, {"preview": data})

    @property
    def backlog(self) -> bool:
        """Whether so much waits to be written that whoever says more should wait."""
        return len(self._waiting) >= _BACKLOG_LINES or self._characters >= _BACKLOG_CHARACTERS

    def beat(self) -> tuple[Progress, tuple[Line, ...]]:
        """Where the attempt stands, and the lines that are not written yet, oldest first."""
        with self._lock:
            self.is_news = False
            return self._progress(), self._aged(LINES_PER_BEAT)

    def written(self, last: int) -> None:
        """The lines up to number `last` are stored."""
        with self._lock:
            while self._waiting and self._waiting[0][1].n <= last:
                self._characters -= len(self._waiting.popleft()[1].message)

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
        now, room = self._clock(), math.inf if most is None else CHARACTERS_PER_BEAT
        taken: list[Line] = []
        for at, line in islice(self._waiting, most):
            room -= len(line.message)
            if taken and room < 0:
                break
            taken.append(replace(line, age_ms=max(0, round(1000 * (now - at)))))
        return tuple(taken)

    def _add_stage(self, index: int) -> None:
        name = self._part or self._stages[index][0]
        self._add("info", "stage", name, {"index": index, "count": len(self._stages)})

    def _tell(self, kind: EventKind, text: str, data: dict[str, Any]) -> None:
        with self._lock:
            self._said += 1
            self.moves += 1
            self.is_news = True
            self._add("info", kind, text, data)

    def _add(self, level: Level, kind: EventKind, message: str, data: dict[str, Any] | None) -> None:
        self._count += 1
        longest = SAID_LENGTH if kind == "message" else MESSAGE_LENGTH
        text = message if len(message) <= longest else message[: longest - 1] + "…"
        self._characters += len(text)
        line = Line(n=self._count, level=level, kind=kind, message=text, data=_plain(data))
        self._waiting.append((self._clock(), line))

    def _progress(self) -> Progress:
        if self._index is None:
            return Progress()
        return Progress(
            stage=self._part or self._stages[self._index][0],
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
        done, took_s = sum(weights[:index]), self._stage_began_at - self._began_at
        if done < _TELLING * sum(weights) or took_s < _TELLING_S:
            return None
        return round(took_s / done * (here * (1 - share) + later), 1)


def _plain(data: dict[str, Any] | None) -> dict[str, Any] | None:
    """The data as JSON carries it, or a note that there was too much of it."""
    if data is None:
        return None
    text = json.dumps(data, default=str)
    plain: dict[str, Any] = json.loads(text) if len(text) <= DATA_LENGTH else {"left_out": f"{len(text)} characters"}
    return plain
