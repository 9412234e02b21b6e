"""A queue and a storage on which workers and APIs die, and the count of what their deaths have cost: nothing."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import signal
import sqlite3
import struct
import wave
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.job import TERMINAL, Job, NewJob, Status, new_id
from shared.storage.local import LocalStorage
from shared.store.hrana import Hrana
from shared.store.local import LocalJobStore
from shared.store.sql import SqlJobStore, Statement
from shared.store.turso import TursoJobStore
from shared.store.values import Asset
from tests.chaos.nursery import Nursery, Process, until

SECRET = "0123456789abcdef" * 4
#: Short, so that a dead worker's jobs are taken up soon; a machine that is busy must still renew it in time.
QUICK = {"HEARTBEAT_S": 0.2, "LEASE_S": 3, "CONTROL_S": 0.05, "CANCEL_GRACE_S": 0.3, "DRAIN_S": 60}
#: Deaths cost their jobs failures; only a job that is meant to use up its tries has few.
PLENTY = 50
#: An ffmpeg that stops before it touches a recording, while the world it works for has a file named `shut`.
PATIENT_FFMPEG = """#!/bin/sh
case "$*" in
  *sine=*|-version|-encoders|-filters) ;;
  *) if [ -e "$HOME/../../../../shut" ]; then kill -STOP $$; fi ;;
esac
exec {ffmpeg} "$@"
"""


def tone(path: Path, seconds: float = 1.0) -> Path:
    """A recording: a tone of 440 Hz."""
    samples = (round(6000 * math.sin(2 * math.pi * 440 * n / 48000)) for n in range(int(48000 * seconds)))
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 48000, 0, "NONE", "not compressed"))
        file.writeframes(struct.pack(f"<{int(48000 * seconds)}h", *samples))
    return path


@dataclass
class Place:
    """What all worlds share: where processes come from, an ffmpeg that can be held, its proof, and a recording."""

    folder: Path
    nursery: Nursery
    ffmpeg: Path
    recording: Path
    #: Start the commands themselves instead of forking.
    execute: bool = False

    @staticmethod
    def on(folder: Path, nursery: Nursery, ffmpeg: Path) -> Place:
        """Make the recording and the ffmpeg."""
        gated = folder / "ffmpeg"
        gated.write_text(PATIENT_FFMPEG.format(ffmpeg=ffmpeg))
        gated.chmod(0o700)
        (folder / "tmp").mkdir()
        return Place(folder, nursery, gated, tone(folder / "tone.wav"))


@dataclass
class Verdict:
    """What a world's deaths have cost. Everything but `deaths` and `jobs` must be nothing."""

    deaths: int = 0
    jobs: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)

    def __add__(self, other: Verdict) -> Verdict:
        return Verdict(*(getattr(self, name) + getattr(other, name) for name in Verdict.__dataclass_fields__))

    @property
    def innocent(self) -> bool:
        """Whether nothing was lost, doubled, wrong, orphaned or left."""
        return not (self.lost or self.doubled or self.wrong or self.orphans or self.leftovers)

    def __str__(self) -> str:
        return (
            f"{self.deaths} crashes, {self.jobs} jobs, lost {len(self.lost)}, doubled {len(self.doubled)}, wrong "
            f"outputs {len(self.wrong)}, orphans {len(self.orphans)}, leftovers {len(self.leftovers)}"
        )


class World:
    """One database, one storage, one work folder."""

    def __init__(self, place: Place, name: str, *, server: str | None = None, migrated: bool = True) -> None:
        self.place, self.folder = place, place.folder / name
        self.folder.mkdir()
        self.work = self.folder / "work"
        self.server = server
        self.storage = LocalStorage(self.folder / "storage", SECRET.encode())
        self.store: SqlJobStore = TursoJobStore(Hrana(server)) if server else LocalJobStore(self.folder / "spool.db")
        if migrated:
            self.store.migrate()
        #: How each job has to end, which of them may have been deleted since then, and what died.
        self.wanted: dict[str, Status] = {}
        self.deleted: set[str] = set()
        #: How many children a job has to make, and how they end.
        self.children_of: dict[str, tuple[int, Status]] = {}
        self.history: list[str] = []
        #: What its processes are told besides the usual.
        self.settings: dict[str, object] = {}
        self._numbers = itertools.count()
        self._processes: list[Process] = []

    # --- what runs -----------------------------------------------------------------------------------------
    def start(self, kind: str, point: str | None = None, **settings: object) -> Process:
        """A worker or an API, which dies at the point, if one is named."""
        values = {
            "DATABASE_URL": self.server or f"sqlite:///{self.folder}/spool.db",
            "STORAGE_URL": f"file:{self.folder}/storage",
            "SECRET": SECRET,
            "WORK_DIR": self.work,
            "LOG_FORMAT": "json",
            "RATE_LIMIT": 100_000,
            "FFMPEG": self.place.ffmpeg,
            **QUICK,
            **self.settings,
            **settings,
        }
        temporary = values.pop("TMPDIR", self.place.folder / "tmp")
        env = {f"SPOOL_{name}": str(value) for name, value in values.items() if value is not None}
        env |= {"PATH": "/usr/bin:/bin", "TMPDIR": str(temporary)}
        if point is not None:
            env["SPOOL_TEST_CRASH_AT"] = point
        log = self.folder / f"{kind}-{next(self._numbers)}.log"
        log.touch()
        process = self.place.nursery.start(kind, env, log, execute=self.place.execute)
        self._processes.append(process)
        return process

    def start_api(self, point: str | None = None, **settings: object) -> tuple[Process, str]:
        """An API that listens, and its address; empty for one that dies before."""
        api = self.start("api", point, **settings)
        until(lambda: "dashboard: " in api.log.read_text() or api.ended.is_set(), api.tail)
        lines = [line for line in api.log.read_text().splitlines() if "dashboard: " in line]
        return api, lines[0].split("dashboard: ")[1].split("/ ")[0] if lines else ""

    def await_death(self, process: Process, point: str) -> None:
        """It has killed itself, where it was told to."""
        status = process.wait(what=f"{point} was not reached: {self.history}")
        assert status == -signal.SIGKILL, f"{process.name} ended with {status} instead of at {point}:\n{process.tail()}"
        self.history.append(point)

    def finish(self) -> None:
        """An undisturbed worker does what is left, and ends in good order."""
        worker = self.start("worker")
        worker.await_word("worker ready")
        if not self.wanted:
            self.submit()
        # A job that many have died of waits for minutes before its next try.
        self.store._run([Statement("UPDATE job SET run_at = 1 WHERE status = 'retrying'")])
        while left := len(self.unfinished()):
            until(
                lambda left=left: len(self.unfinished()) < left,
                lambda: f"unfinished: {self.unfinished()[:9]}\n{worker.tail()}",
            )
        self.let_go(worker)

    def let_go(self, worker: Process) -> None:
        """End a worker, which does so in good order."""
        worker.await_word("worker ready")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0, worker.tail()

    def end(self) -> None:
        """Kill what a failed test has left running, and let go of the database."""
        for process in self._processes:
            process.signal(signal.SIGKILL)
        self.store.close()

    # --- what there is to do -------------------------------------------------------------------------------
    def asset(self, file: Path | None = None) -> str:
        """The recording, or another file, uploaded."""
        asset, file = new_id(), file or self.place.recording
        stored = self.storage.put(file, f"uploads/{asset}", content_type="audio/wav", progress=lambda *_: None)
        about = {"owner": "local", "filename": "tone.wav", "content_type": "audio/wav"}
        self.store.add_asset(Asset(id=asset, size_bytes=stored.size_bytes, state="uploading", **about))
        self.store.asset_ready(asset, sha256=stored.sha256)
        return asset

    def submit(self, wanted: Status = Status.COMPLETED, **fields: Any) -> Job:
        """One job on the recording, and how it has to end."""
        new = self.new(**({} if "params" in fields else {"source": self.asset()}), **fields)
        self.wanted[new.id] = wanted
        return self.store.create([new])[0]

    def new(self, source: str = "", **fields: Any) -> NewJob:
        """A job on an upload."""
        return NewJob(
            **{"id": new_id(), "type": "ingest", "params": {"source": source}, "max_failures": PLENTY} | fields
        )

    def submit_family(self) -> Job:
        """A parent with two children at once and one after them, on a file that the first has made."""
        parent = NewJob(id=new_id(), type="flow", params={}, own_work=False)
        source = self.asset()
        children = [
            self.new(source=read, parent_id=parent.id, phase=phase, child_key=key)
            for key, phase, read in (("a", "core", source), ("b", "core", source), ("c", "post", "child:a/mp3"))
        ]
        self.wanted |= dict.fromkeys([parent.id, *(child.id for child in children)], Status.COMPLETED)
        return self.store.create([parent, *children])[0]

    # --- holding ffmpeg ------------------------------------------------------------------------------------
    def shut(self) -> None:
        """From now on ffmpeg waits before it touches a recording."""
        (self.folder / "shut").touch()

    def open(self) -> None:
        """No longer."""
        (self.folder / "shut").unlink(missing_ok=True)

    def await_held(self, process: Process) -> tuple[int, str] | None:
        """The process id of an ffmpeg that waits, and the job that it works for; None when its worker died before."""
        held: list[tuple[int, str]] = []

        def found() -> bool:
            gated = str(self.place.ffmpeg)
            held[:] = [
                (pid, home.parts[-2])
                for pid, home in self._at_home()
                if state_of(pid) == "T" and _command(pid).startswith(f"/bin/sh {gated} ")
            ]
            return bool(held) or process.ended.is_set()

        until(found, process.tail)
        return held[0] if held else None

    def children(self) -> list[tuple[int, str]]:
        """Programs of this world's attempts and their launchers, each with its state as /proc names it."""
        found = [(pid, state_of(pid)) for pid, _ in self._at_home()]
        return [(pid, state) for pid, state in found if state not in "ZX"]

    def _at_home(self) -> Iterator[tuple[int, Path]]:
        for pid, environment in _environments():
            home = Path(environment.partition(b"\0HOME=")[2].partition(b"\0")[0].decode(errors="replace"))
            if self.work in home.parents:
                yield pid, home

    # --- what came of it -----------------------------------------------------------------------------------
    def rows(self, text: str) -> list[dict[str, Any]]:
        """What a query finds."""
        return [dict(row) for row in self.store._read([Statement(text)])[0]]

    def unfinished(self) -> list[tuple[str, str]]:
        """Jobs that have not ended, with their states."""
        return [(row["id"], row["status"]) for row in self.rows("SELECT * FROM job WHERE completed_at IS NULL")]

    def verdict(self) -> Verdict:
        """The account; called when every job has ended and no process of Spool runs."""
        jobs = self.rows("SELECT * FROM job")
        found = Verdict(deaths=len(self.history), jobs=len(jobs))
        self._judge_ends(jobs, found)
        self._judge_outputs(jobs, found)
        found.orphans += [f"{pid} {state} {_command(pid)}" for pid, state in self.children()]
        found.leftovers += [str(path) for path in self.work.iterdir()] if self.work.exists() else []
        found.wrong += self._damage()
        if not found.innocent:
            states = self.rows("SELECT job_id, attempt, message, data FROM event WHERE kind = 'state' ORDER BY id")
            lines = [" ".join(str(value) for value in state.values())[:200] for state in states]
            raise AssertionError("\n".join([str(self.history), str(found), repr(found)[:3000], *lines[-60:]]))
        return found

    def _judge_ends(self, jobs: list[dict[str, Any]], found: Verdict) -> None:
        """Every job has ended as it should, once, and was counted once."""
        for parent, (count, ends) in self.children_of.items():
            children = [job["id"] for job in jobs if job["parent_id"] == parent]
            found.doubled += [] if len(children) == count else [f"{parent} has {len(children)} children of {count}"]
            self.wanted |= dict.fromkeys(children, ends)
        by_id = {job["id"]: job for job in jobs}
        states = Counter(
            (row["job_id"], row["message"]) for row in self.rows("SELECT * FROM event WHERE kind = 'state'")
        )
        for job_id, wanted in self.wanted.items():
            status = by_id.get(job_id, {"status": wanted if job_id in self.deleted else "gone"})["status"]
            if status != wanted:
                found.lost.append(f"{job_id} is {status} and not {wanted}")
        found.doubled += [f"{job_id} was not asked for" for job_id in by_id.keys() - self.wanted.keys()]
        for job in jobs:
            ends = sum(states[job["id"], status.value] for status in TERMINAL)
            if ends != 1 or states[job["id"], "running"] != job["attempt"]:
                found.doubled.append(f"{job['id']}: {job['attempt']} attempts, ends {ends}")
        counted = self.rows("SELECT SUM(jobs) AS jobs FROM tally")[0]["jobs"] or 0
        if counted != len(self.wanted):
            found.doubled.append(f"the tally has {counted} ends of {len(self.wanted)} jobs")
        twice = self.rows("SELECT job_id FROM event WHERE line > 0 GROUP BY job_id, attempt, line HAVING COUNT(*) > 1")
        found.doubled += [f"a line of {row['job_id']}" for row in twice]

    def _judge_outputs(self, jobs: list[dict[str, Any]], found: Verdict) -> None:
        """What can be seen is whole and of the attempt that won, and there is nothing else."""
        kept = {str(path.parent.relative_to(self.storage.root)) for path in self._records("outputs")}
        for job in jobs:
            outputs = json.loads(job["outputs"])
            if job["id"] in self.deleted:  # its files go first; `clear` looks whether all of them have
                kept -= {output["key"] for output in outputs}
                continue
            if not job["own_work"]:
                found.wrong += self._misshown(job, outputs, jobs)
                continue
            if job["type"] == "ingest" and (job["status"] == "completed") != (len(outputs) == 2):
                found.wrong.append(f"{job['id']} is {job['status']} and has {len(outputs)} outputs")
            for output in outputs:
                with self.storage.open(output["key"]) as (stored, file):
                    digest = hashlib.sha256(file.read()).hexdigest()
                won = f"outputs/{job['id']}/{job['attempt']}/"
                if digest != output["sha256"] or stored.sha256 != digest or not output["key"].startswith(won):
                    found.wrong.append(output["key"])
                kept.discard(output["key"])
        found.leftovers += sorted(kept)

    def _misshown(self, parent: dict[str, Any], outputs: list[Any], jobs: list[dict[str, Any]]) -> list[str]:
        """A parent without work of its own shows the files of its last phase once it is completed, and no others."""
        last = [job for job in jobs if (job["parent_id"], job["phase"]) == (parent["id"], "post")]
        made = {output["key"] for job in last for output in json.loads(job["outputs"])}
        right = made if parent["status"] == "completed" else set()
        return [] if {output["key"] for output in outputs} == right else [f"{parent['id']} shows {outputs}"]

    def _records(self, below: str) -> Iterator[Path]:
        return (self.storage.root / below).rglob(".record.json")

    def _damage(self) -> list[str]:
        if self.server:  # it keeps its file to itself
            said = self.rows("PRAGMA integrity_check")[0]["integrity_check"]
            return [] if said == "ok" else [f"integrity_check: {said}"]
        with closing(sqlite3.connect(self.folder / "spool.db")) as database:
            said = database.execute("PRAGMA integrity_check").fetchone()[0]
        return [] if said == "ok" else [f"integrity_check: {said}"]

    def an_hour_passes(self) -> None:
        """For what lies in the storage and is on its way still."""
        for part in self.storage.root.glob(".incoming/*"):
            os.utime(part, (1, 1))

    def clear(self) -> Verdict:
        """Retention is over: a worker deletes every job and upload, and then there is nothing left on the disk."""
        found = Verdict()
        self.an_hour_passes()
        while left := self._rows_left():  # a retry keeps what it was made of until the next time
            worker = self.start("worker", RETENTION_DAYS=1e-6)
            until(lambda left=left: self._rows_left() < left, worker.tail)
            self.let_go(worker)
        self.storage.check()  # whoever stores something drops what nobody has touched for an hour
        found.leftovers += [str(path) for path in self.storage.root.rglob("*") if path.is_file()]
        found.leftovers += [str(path) for path in self.work.iterdir()]
        found.leftovers += [str(path) for path in [*self.folder.glob("secret.*"), *self.folder.rglob("*.part")]]
        assert found.innocent, f"{self.history}: {found.leftovers}"
        return found

    def _rows_left(self) -> int:
        return int(self.rows("SELECT (SELECT COUNT(*) FROM job) + (SELECT COUNT(*) FROM asset) AS n")[0]["n"])


def state_of(pid: int) -> str:
    """R, S, T, Z, … as /proc names it; X when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def parent_of(pid: int) -> int:
    """The process that a process is a child of."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")[:200]
    except OSError:
        return ""


def _environments() -> Iterator[tuple[int, bytes]]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes()
        except OSError:
            continue
        if environment:
            yield int(folder.name), b"\0" + environment
