"""Long-lived programs: started with the worker, watched, started again when they end, and lent to one job at a time.

A program that holds no job lives by a short pulse of this worker; one that holds a job lives by the job's lease, like
any other process of an attempt. Either way its launcher kills it when the worker is gone, or frozen for too long.
"""

from __future__ import annotations

import contextlib
import queue
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from shared.errors import JobFailure
from shared.job import Job, Level
from shared.programs import Program
from worker.dialogue import Dialogue
from worker.failures import last_words
from worker.process import Child, Processes, clock
from worker.programs import start
from worker.stop import Reason, Stop, Stopped

if TYPE_CHECKING:
    from shared.settings import Settings
    from worker.ffmpeg import Engine
    from worker.run import Report, Run

#: How long after its end a program is started again: twice as long after each end without a job done in between.
_BACKOFF_MIN_S, _BACKOFF_MAX_S = 1.0, 60.0
#: Lines that a job has not looked at yet; a program that says more waits.
_UNHEARD = 1000
_TICK_S = 0.25
_log = structlog.get_logger("spool.worker")

Line = dict[str, Any]


def backoff_s(ends_in_a_row: int) -> float:
    """How long a program stays down: also after days of ends, whose power of two is more than a float can hold."""
    return min(_BACKOFF_MAX_S, _BACKOFF_MIN_S * 2.0 ** min(ends_in_a_row - 1, 10))


class Instance:
    """One process of a program at a time, as long as the worker lives. `on_ready` hears when it can take a job."""

    def __init__(
        self, program: Program, number: int, settings: Settings, engine: Engine, on_ready: Callable[[Instance], None]
    ) -> None:
        self.program, self._settings, self._engine, self._on_ready = program, settings, engine, on_ready
        self.name = f"{program.name}-{number}"
        self.pulse_s = min(20.0, settings.lease_s / 2)
        #: It can take a job now, or is at one.
        self.ready = False
        #: It is offered to a claim or lent to a job; this is for whoever lends it.
        self.held = False
        #: Without a job done in between.
        self.ends_in_a_row = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._stop = Stop()
        self._processes: Processes | None = None
        self._child: Child | None = None
        self._dialogue: Dialogue | None = None
        self._began_at, self._got_ready, self._busy = 0.0, False, False
        self._lines: queue.Queue[Line | None] = queue.Queue(_UNHEARD)
        self._report: Report | None = None
        self._log = _log.bind(program=self.name)

    def begin(self, folder: Path) -> None:
        """Start the program, now and whenever it has ended."""
        self._folder = folder / self.name
        self._folder.mkdir(parents=True, exist_ok=True)
        threading.Thread(target=self._live, name=self.name, daemon=True).start()

    def pulse(self) -> None:
        """The worker lives. One that does not get ready in its time is ended, and started again."""
        with self._lock:
            if self._processes is None:
                return
            if not self._busy:
                self._processes.extend(clock() + self.pulse_s)
            late = not self._got_ready and clock() > self._began_at + self.program.start_s
        if late and self._stop.request(Reason.TIMEOUT):
            self._log.error("the program did not get ready in its time", start_s=self.program.start_s)

    def ask_to_end(self) -> None:
        """It is not started again, and shall end now."""
        self._closing.set()
        self._stop.request(Reason.SHUTDOWN)

    def end(self) -> None:
        """Prove that nothing of it is left."""
        while self._processes is not None and (survivors := self._processes.close()):
            self._log.error("processes of a program cannot be killed; trying on", survivors=survivors)
            time.sleep(_TICK_S)

    # --- one job ---------------------------------------------------------------------------------------------
    @contextmanager
    def lent_to(self, run: Run) -> Iterator[None]:
        """For the length of a job the program is one of the attempt's own processes, lease and all.

        When this is left by an error the program stays the attempt's, and dies with it: nobody knows what it is at.
        """
        with self._lock:
            child = self._child
            if child is None or not self.ready:
                raise JobFailure(
                    "program.crashed",
                    f"{self.program.title} has just ended; it is being started again.",
                    kind="transient",
                )
            self._lines, self._report, self._busy = queue.Queue(_UNHEARD), run.report, True
            run.processes.adopt(child)
        try:
            yield
        except BaseException:  # raised again: the attempt ends it, and it is started anew
            self.ready, self._report = False, None
            raise
        with self._lock:
            run.processes.disown(child)
            self._report, self._busy = None, False
            self.ends_in_a_row = 0

    def tell(self, line: Line) -> None:
        """Send it a line."""
        if self._dialogue is not None:
            self._dialogue.tell(line)

    def hear(self, timeout_s: float) -> Line | None:
        """Its next line, None when it has ended. Raises `queue.Empty`."""
        return self._lines.get(timeout=timeout_s)

    def alive(self) -> None:
        """It said something."""
        if (report := self._report) is not None:
            report.alive()

    def log(self, level: Level, message: str, **data: Any) -> None:  # noqa: ANN401 - any JSON value
        """A line for the log of its job, or of the worker when it has none."""
        if (report := self._report) is not None:
            report.log(level, message, **data)
        else:
            self._log.info("the program said", text=message)

    # --- its life --------------------------------------------------------------------------------------------
    def _live(self) -> None:
        while not self._closing.is_set():
            try:
                self._live_once()
            except (JobFailure, OSError, Stopped) as error:
                self._log.error("the program cannot be started", reason=str(error))
            except Exception as error:  # noqa: BLE001 - without this thread the program would never run again
                self._log.error("a program failed in a way nobody expected", exc_info=error)
            if self._closing.is_set():
                return
            self.ends_in_a_row += 1
            self._closing.wait(backoff_s(self.ends_in_a_row) * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, guards nothing

    def _live_once(self) -> None:
        with self._lock:
            self._stop = Stop()
            settings = self._settings
            self._processes = processes = Processes(
                self._stop,
                grace_s=settings.cancel_grace_s,
                slack_s=settings.lease_margin_s / 4,
                deadline=clock() + self.pulse_s,
            )
            self._began_at, self._got_ready, self._busy = clock(), False, False
        if self._closing.is_set():
            return
        try:
            with start(self.program, processes, self._engine, self._folder) as child:
                with self._lock:
                    self._child = child
                self._listen(child)
        finally:
            with self._lock:
                self.ready, self._child = False, None
            self.end()
            self._say_that_it_ended()

    def _listen(self, child: Child) -> None:
        with Dialogue(child, self) as dialogue:
            self._dialogue = dialogue
            for line in dialogue.lines():
                if line["type"] == "ready" and not self._got_ready:
                    self.ready = self._got_ready = True
                    self._on_ready(self)
                elif self._report is not None:
                    self._hand_on(line)
            self.ready = False
        with contextlib.suppress(Stopped, RuntimeError):  # it was ended from outside: then its words explain nothing
            ended = child.wait()
            self._log.warning("a program ended", returncode=ended.returncode, words=last_words(ended, 5))
            for words in last_words(ended):
                if (report := self._report) is not None:
                    report.log("error", words)

    def _say_that_it_ended(self) -> None:
        while True:
            with contextlib.suppress(queue.Full):
                self._lines.put_nowait(None)
                return
            with contextlib.suppress(queue.Empty):
                self._lines.get_nowait()  # of what was said before a sudden end nothing comes any more

    def _hand_on(self, line: Line) -> None:
        while self._report is not None:
            with contextlib.suppress(queue.Full):
                self._lines.put(line, timeout=_TICK_S)
                return


class Pools:
    """All long-lived programs of a worker. What can take a job is offered with each claim, the longest idle first."""

    def __init__(self, programs: Mapping[str, Program], settings: Settings, engine: Engine) -> None:
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._idle: dict[str, deque[Instance]] = {}
        self._lent: dict[str, Instance] = {}
        self._instances: list[Instance] = []
        self.on_ready: Callable[[], None] = lambda: None
        for name, program in programs.items():
            if program.kind == "workflow":
                self._idle[name] = deque()
                self._instances += [
                    Instance(program, number, settings, engine, self._became_ready)
                    for number in range(1, program.instances + 1)
                ]

    @property
    def types(self) -> frozenset[str]:
        """The job types that only an idle program can take."""
        return frozenset(self._idle)

    def states(self) -> dict[str, dict[str, int]]:
        """By job type: how many processes there are to be, how many of them are up, and how often those that are not
        have ended in a row."""
        found: dict[str, dict[str, int]] = {}
        for instance in self._instances:
            one = found.setdefault(instance.program.job_type.name, {"of": 0, "up": 0, "ended": 0})
            one["of"] += 1
            if instance.ready:
                one["up"] += 1
            else:
                one["ended"] = max(one["ended"], instance.ends_in_a_row)
        return found

    def start(self, folder: Path) -> None:
        """Start every program, each in a folder of its own below `folder`."""
        for instance in self._instances:
            instance.begin(folder)
        if self._instances:
            threading.Thread(target=self._pulse, name="programs", daemon=True).start()

    def close(self) -> None:
        """End every program, and prove it."""
        self._closing.set()
        for instance in self._instances:
            instance.ask_to_end()
        for instance in self._instances:
            instance.end()

    def offer(self) -> dict[str, Instance]:
        """One idle program of each type that has any, for a claim; `settle` gives back those that got no job."""
        with self._lock:
            for idle in self._idle.values():
                while idle and not idle[0].ready:
                    idle.popleft()  # it ended meanwhile, and comes back when it is ready again
            offered = {name: idle.popleft() for name, idle in self._idle.items() if idle}
            for instance in offered.values():
                instance.held = True
            return offered

    def settle(self, offered: Mapping[str, Instance], job: Job | None) -> None:
        """The claim was answered."""
        with self._lock:
            for name, instance in offered.items():
                if job is not None and job.type == name:
                    self._lent[job.id] = instance
                else:
                    instance.held = False
                    if instance.ready:
                        self._idle[name].appendleft(instance)

    def lent(self, job: Job) -> Instance:
        """The program that was claimed for."""
        with self._lock:
            return self._lent[job.id]

    def give_back(self, job: Job) -> None:
        """The attempt is over. One that did not survive it comes back by itself."""
        with self._lock:
            instance = self._lent.pop(job.id, None)
            if instance is not None:
                instance.held = False
                if instance.ready:
                    self._idle[job.type].append(instance)

    def _became_ready(self, instance: Instance) -> None:
        with self._lock:
            idle = self._idle[instance.program.job_type.name]
            if not instance.held and instance not in idle:
                idle.append(instance)
        self.on_ready()

    def _pulse(self) -> None:
        while not self._closing.wait(_TICK_S):
            for instance in self._instances:
                instance.pulse()
