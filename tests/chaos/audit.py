"""What came of a run, by the rows of the database, the files in storage and the logs of the processes alone.

Every finding is a sentence that begins with the job it is about, so that its history can be printed.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from shared.job import TERMINAL, Status
from shared.storage.local import LocalStorage
from tests.chaos.load import BAD_LINK
from tests.media.judges import libebur128
from tests.network.deployment import Deployment, Part

Row = Mapping[str, Any]
#: What every file was asked to have, and how far it may be from it.
TARGET_LUFS, OFF_LU = -16.0, 0.1
CEILING_DBTP = -1.0
#: Where no job may go once its cancel was answered.
_IN_THE_QUEUE = {Status.SCHEDULED, Status.PENDING, Status.RETRYING}


class Evidence:
    """What a deployment left, read when everything in it has ended."""

    def __init__(self, deployment: Deployment) -> None:
        self.jobs = {row["id"]: row for row in deployment.rows("SELECT * FROM job ORDER BY seq")}
        self.events = deployment.rows("SELECT * FROM event ORDER BY id")
        self.tally = deployment.number("SELECT SUM(jobs) FROM tally")
        self.workers = [part for part in deployment.parts if part.name != "api"]
        self.storage = LocalStorage(deployment.folder / "storage", b"")
        self.states: dict[str, list[Row]] = defaultdict(list)
        for event in self.events:
            if event["kind"] == "state":
                self.states[event["job_id"]].append(event)

    def history(self, job: str) -> list[str]:
        """A job's row, in short, and its events, for a person."""
        names = ("type", "status", "attempt", "failures", "parent_id", "worker_id", "cancel_requested_at", "error")
        lines = [str({name: self.jobs[job][name] for name in names})] if job in self.jobs else ["no such job"]
        for event in self.events:
            if event["job_id"] == job:
                about = f"{event['at']} attempt {event['attempt']} line {event['line']}"
                lines.append(f"  {event['id']} {about}: {event['kind']} {event['message']} {event['data'] or ''}"[:300])
        for part in self.workers:
            said = [line for line in part.lines() if line.get("job") == job and line["event"] != "stage done"]
            lines += [f"  {part.name}: {str(line)[:300]}" for line in said]
        return lines


def lost(evidence: Evidence, acknowledged: Iterable[str]) -> list[str]:
    """Jobs that somebody was promised and that are not there, and jobs that did not end."""
    missing = [f"{job}: is not there" for job in acknowledged if job not in evidence.jobs]
    waiting = [f"{job}: is {row['status']}" for job, row in evidence.jobs.items() if row["status"] not in TERMINAL]
    return missing + waiting


def doubled(evidence: Evidence, acknowledged: Mapping[str, str]) -> list[str]:
    """Jobs that nobody asked for, that ended twice, started unseen or are counted wrong; lines that are there twice."""
    found = []
    carried = 0
    keys: Counter[str] = Counter(row["idempotency_key"] for row in evidence.jobs.values() if row["idempotency_key"])
    for job, row in evidence.jobs.items():
        words = [event["message"] for event in evidence.states[job]]
        ends = sum(word in TERMINAL for word in words)
        carried += words == [Status.COMPLETED]
        starts = words.count(Status.RUNNING)
        if keys[row["idempotency_key"]] > 1 or (
            row["parent_id"] is None is row["retry_of"] and job not in acknowledged
        ):
            found.append(f"{job}: nobody asked for it, or it is there under another id, too")
        if ends > 1:
            found.append(f"{job}: ended {ends} times")
        if starts != row["attempt"]:
            found.append(f"{job}: started {starts} times in {row['attempt']} attempts")
    lines = Counter((event["job_id"], event["attempt"], event["line"]) for event in evidence.events if event["line"])
    found += [f"{job}: line {n} of attempt {attempt} twice" for (job, attempt, n), many in lines.items() if many > 1]
    ended = sum(row["status"] in TERMINAL for row in evidence.jobs.values()) - carried
    if evidence.tally != ended:
        found.append(f"-: the tally counts {evidence.tally} ends of {ended} jobs")
    return found


def begun_twice(parts: Sequence[Part]) -> list[str]:
    """Attempts that two workers, or one worker twice, began."""
    begun: Counter[tuple[str, int]] = Counter(
        (line["job"], line["attempt"]) for part in parts for line in part.said("attempt begins")
    )
    return [f"{job}: attempt {attempt} began {many} times" for (job, attempt), many in begun.items() if many > 1]


def late_writes(evidence: Evidence) -> list[str]:
    """What an owner wrote after its job had gone to somebody else, or had ended."""
    found, now = [], dict[str, tuple[int, str]]()
    for event in evidence.events:
        job, attempt = event["job_id"], event["attempt"]
        current, word = now.get(job, (0, ""))
        if event["kind"] == "state":
            now[job] = max(current, attempt), event["message"]
            if attempt < current:
                found.append(f"{job}: attempt {attempt} made it {event['message']} after attempt {current} began")
        elif attempt != current or word != (Status.WAITING_CHILDREN if _of_a_phase(event) else Status.RUNNING):
            found.append(f"{job}: a line of attempt {attempt} when it was {word} in attempt {current}")
    return found


def _of_a_phase(event: Mapping[str, Any]) -> bool:
    """The queue itself tells of a family's phases; what an owner writes has a number."""
    return event["kind"] == "stage" and event["line"] is None


def overtaken(evidence: Evidence) -> list[str]:
    """Jobs that began while one waited that was before them in the queue."""
    found: list[str] = []
    waiting: dict[str, tuple[int, int]] = {}
    for event in evidence.events:
        job = event["job_id"]
        if event["kind"] != "state" or job not in evidence.jobs:
            continue
        place = (-evidence.jobs[job]["priority"], evidence.jobs[job]["seq"])
        waiting.pop(job, None)
        if event["message"] == Status.PENDING:
            waiting[job] = place
        elif event["message"] == Status.RUNNING and waiting and min(waiting.values()) < place:
            found.append(f"{job}: began before {min(waiting, key=waiting.__getitem__)}")
    return found


def undone_cancels(evidence: Evidence, cancelled: Mapping[str, int]) -> list[str]:
    """Jobs that went back to the queue after the event that was the last when their cancel had been answered."""
    return [
        f"{job}: {event['message']} after its cancel"
        for job, last in cancelled.items()
        for event in evidence.states[job]
        if event["id"] > last and event["message"] in _IN_THE_QUEUE
    ]


def wrong_ends(evidence: Evidence) -> list[str]:
    """Jobs whose end is not one that what was asked for and done to them allows."""
    found = []
    for job, row in evidence.jobs.items():
        allowed = {Status.CANCELLED} if row["cancel_requested_at"] is not None else set()
        if row["failures"] >= row["max_failures"]:
            allowed.add(Status.DEAD_LETTER)
        if row["type"] == "flow":
            bad = row["children_failed"] > 0
            allowed |= {Status.FAILED} if bad and row["on_child_failure"] == "fail" else {Status.COMPLETED}
        else:
            allowed.add(Status.FAILED if json.loads(row["params"]) == BAD_LINK else Status.COMPLETED)
        if row["status"] in TERMINAL - allowed:
            found.append(f"{job}: {row['status']} ({row['failures']} failures), {row['error']}")
    return found


def wrong_outputs(evidence: Evidence, copy: Path, ffmpeg: Path | None = None) -> list[str]:
    """Files that are missing, altered, of an attempt that did not win, not what the same job makes elsewhere, or, with
    an `ffmpeg` to decode them, not at the loudness they were ordered with."""
    found: list[str] = []
    alike: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for job, row in evidence.jobs.items():
        outputs = json.loads(row["outputs"])
        if not row["own_work"]:
            found += misshown(evidence, job, outputs)
            continue
        if (row["status"] == Status.COMPLETED) != bool(outputs):
            found.append(f"{job}: {row['status']} with {len(outputs)} files")
        for output in outputs:
            key = output["key"]
            carried = [event["message"] for event in evidence.states[job]] == [Status.COMPLETED]
            if not carried and not key.startswith(f"outputs/{job}/{row['attempt']}/"):
                found.append(f"{job}: {key} is not of attempt {row['attempt']}")
            evidence.storage.fetch(key, copy, lambda *_: None)
            sha256 = hashlib.sha256(copy.read_bytes()).hexdigest()
            if sha256 != output["sha256"]:
                found.append(f"{job}: {key} is not what its row says")
            made = alike[row["params"], output["name"]]
            if sha256 not in made and output["content_type"].startswith("audio/") and ffmpeg is not None:
                found += [f"{job}: {key} {fault}" for fault in _unheard(ffmpeg, copy)]
            made.setdefault(sha256, job)
            copy.unlink()
    for (_, name), made in alike.items():
        if len(made) > 1:
            first, *_, last = made.values()
            found.append(f"{last}: {name} differs from that of {first}")
    return found


def misshown(evidence: Evidence, parent: str, outputs: list[dict[str, str]]) -> list[str]:
    """Whether a parent shows the files of its last phase once it is completed, and no others."""
    last = [row for row in evidence.jobs.values() if (row["parent_id"], row["phase"]) == (parent, "post")]
    made = {output["key"] for row in last for output in json.loads(row["outputs"])}
    right = made if evidence.jobs[parent]["status"] == Status.COMPLETED else set()
    return [] if {output["key"] for output in outputs} == right else [f"{parent} does not show what its children made"]


def _unheard(ffmpeg: Path, path: Path) -> Iterator[str]:
    try:
        heard = libebur128(ffmpeg, path)
    except AssertionError as error:
        yield f"cannot be decoded: {error}"
        return
    if abs(heard.lufs - TARGET_LUFS) > OFF_LU:
        yield f"has {heard.lufs:.2f} LUFS instead of {TARGET_LUFS:g}"
    if heard.true_peak_dbtp > CEILING_DBTP + 0.05:
        yield f"has peaks of {heard.true_peak_dbtp:.2f} dBTP"


def unsound(deployment: Deployment) -> list[str]:
    """What SQLite says against the database file, read when nobody uses it any more."""
    file = deployment.folder / "sqld" / "data" / "dbs" / "default" / "data"
    with closing(sqlite3.connect(deployment.file if deployment.server is None else file)) as database:
        said = [row[0] for row in database.execute("PRAGMA integrity_check")]
    return [] if said == ["ok"] else [f"-: {line}" for line in said]
