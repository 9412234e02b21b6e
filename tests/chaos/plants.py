"""`make plants`: copies of the code with one fault planted in each, to see that every count of chaos can become red.

Most are met by chance in a run of chaos, or in one of the next. Some need a meeting that chance brings about once in
hours, such as a worker that is frozen while its end is on the way: those are looked for where a test stages it, with
the same processes and signals. Prints for each fault what noticed it; ends with 1 when one was not noticed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.reliability.copied import PARTS, ROOT

#: Of one run of chaos, which ends sooner when it sees something while it goes on; and how many runs chance is given.
SECONDS, RUNS = 60.0, 3
#: Of a test that stages a meeting.
STAGED_S = 60.0
SHARED, OWNERS, JANITOR = (f"shared/store/statements/{name}.py" for name in ("parts", "owners", "janitor"))
MIGRATION, LISTS = (f"shared/store/migrations/{name}.sql" for name in ("0001_queue", "0008_lists"))
LAUNCHER, PROCESS = "worker/launcher.py", "worker/process.py"


@dataclass(frozen=True, slots=True)
class Plant:
    """A fault, made by replacing texts in files, the database on which to look for it, and which counts may see it.

    `staged` is the test that must fail where chance would take hours; such a fault is not looked for in chaos.
    """

    what: str
    database: str
    counts: tuple[str, ...]
    edits: tuple[tuple[str, str, str], ...]
    staged: str = ""


PLANTS = (
    Plant(
        "nobody takes jobs from lost workers",
        "sqlite",
        ("lost",),
        ((JANITOR, "lease_until <= {NOW}\nRETURNING *", "lease_until <= {NOW} AND false\nRETURNING *"),),
    ),
    Plant(
        "whoever waits for a next try is never moved on",
        "sqlite",
        ("lost",),
        tuple(
            (file, "IN ('scheduled', 'retrying') AND run_at <= {NOW}", "IN ('scheduled', 'retrying') AND false")
            for file in (OWNERS, JANITOR)
        ),
    ),
    Plant(
        "the same key makes a new job every time",
        "libsql",
        ("doubled",),
        ((MIGRATION, "UNIQUE INDEX job_idempotency", "INDEX job_idempotency"),),
    ),
    Plant(
        "a finish that comes twice is counted twice",
        "libsql",
        ("doubled",),
        (
            (SHARED, "AND worker_id = :worker AND status = 'running'\"", 'AND worker_id = :worker"'),
            (LISTS, "WHEN OLD.status <> NEW.status AND (NEW.status IN (", "WHEN (NEW.status IN ("),
        ),
        staged="tests/contract/test_repeats.py",
    ),
    Plant(
        "no owner's write is fenced",
        "sqlite",
        ("two owners", "late writes", "wrong outputs", "doubled"),
        ((SHARED, "id = :id AND attempt = :attempt AND worker_id = :worker AND", "id = :id AND"),),
        staged="tests/worker/test_worker_process.py::test_a_frozen_worker_loses_its_job_and_wakes_up_harmless",
    ),
    Plant(
        "jobs are taken from owners that live",
        "sqlite",
        ("two owners", "orphans"),
        ((JANITOR, "lease_until <= {NOW}\nRETURNING *", "lease_until <= {NOW} + 60000\nRETURNING *"),),
    ),
    Plant(
        "a frozen worker keeps its programs",
        "sqlite",
        ("two owners",),
        ((LAUNCHER, "if now >= self.deadline and (", "if now >= self.deadline + 1e9 and ("),),
        staged="tests/worker/test_process.py::test_a_frozen_worker_is_cut_off",
    ),
    Plant(
        "a dead worker keeps its programs",
        "sqlite",
        ("orphans",),
        ((LAUNCHER, "        if not data:\n            self._stop(self.grace_s)\n", "        if not data:\n"),),
    ),
    Plant(
        "what left the group of a program is forgotten",
        "sqlite",
        ("orphans", "two owners"),
        (
            (LAUNCHER, "            _prctl(_PR_SET_CHILD_SUBREAPER, 1)\n", "            pass\n"),
            (PROCESS, 'return max(survivors, kill_until_gone(f"{self._mark}.", 0, self._slack_s))', "return survivors"),
        ),
        staged="tests/worker/test_process.py::test_what_a_program_leaves_behind_ends_with_it",
    ),
    Plant(
        "an end is written without proof that the programs are gone",
        "sqlite",
        ("orphans",),
        (
            (
                PROCESS,
                "        if not self._settled.is_set():\n            self.ask",
                "        return 0\n        if not self._settled.is_set():\n            self.ask",
            ),
            (PROCESS, "        survivors = self._bring_down()\n", "        return 0\n"),
            (
                PROCESS,
                "        self._settled.wait()\n        self._stop.check()",
                "        while not self._settled.wait(0.01):\n            self._stop.check()\n",
            ),
            (PROCESS, 'self._tell(f"stop {grace_s!r}\\n")', "pass"),
        ),
    ),
    Plant(
        "programs deaf to SIGTERM are only asked",
        "sqlite",
        ("orphans", "lost", "stuck"),
        (
            (LAUNCHER, "        self._signal(signal.SIGKILL)\n", "        self._signal(signal.SIGTERM)\n"),
            (PROCESS, "launcher.send(pid, signal.SIGKILL)", "launcher.send(pid, signal.SIGTERM)"),
        ),
    ),
    Plant(
        "a cancelled job goes back to the queue when its worker is lost",
        "sqlite",
        ("cancels undone",),
        (
            (
                JANITOR,
                '"cancel_requested_at IS NULL AND failures + 1 < max_failures"',
                '"failures + 1 < max_failures"',
            ),
        ),
        staged="tests/contract/test_moves.py::test_a_cancel_request_outlives_every_other_way_on",
    ),
    Plant(
        "attempts share their outputs",
        "sqlite",
        ("wrong outputs",),
        (("worker/transfer.py", "{run.job.id}/{run.job.attempt}/{file.name}", "{run.job.id}/0/{file.name}"),),
    ),
    Plant(
        "stored files lack their last bytes",
        "sqlite",
        ("wrong outputs",),
        (
            (
                "shared/storage/local.py",
                "incoming.write(chunk)\n                progress",
                "incoming.write(chunk[:-5000])\n                progress",
            ),
        ),
    ),
    Plant(
        "every file is half a decibel too loud, and nobody measures it",
        "sqlite",
        ("wrong outputs",),
        (
            ("worker/delivery.py", "item.trim_db = item.made.loss_db", "item.trim_db = item.made.loss_db + 0.5"),
            (
                "worker/delivery.py",
                "if not self._proven(item, final=number == PASSES)",
                "if not (self._proven(item, final=False) or True)",
            ),
        ),
        staged="tests/flow/test_ingest.py::test_every_file_has_exactly_the_loudness",
    ),
    Plant(
        "lines of an owner that lost its job are taken",
        "sqlite",
        ("late writes",),
        (
            (
                OWNERS,
                "SELECT j.id, j.attempt, l.value ->> 'n'",
                "SELECT j.id, b.value ->> 'attempt', l.value ->> 'n'",
            ),
            (
                OWNERS,
                "AND j.attempt = b.value ->> 'attempt'\n  AND j.worker_id = :worker AND j.status = 'running'\n",
                "",
            ),
            (OWNERS, "WHERE l.value ->> 'n' > j.last_line AND {accepted}", "WHERE l.value ->> 'n' > j.last_line"),
        ),
        staged="tests/contract/test_ownership.py::test_a_late_heartbeat_writes_nothing_and_says_that_the_job_is_lost",
    ),
    Plant(
        "a slot that meets an error of the database never comes back",
        "sqlite",
        ("stuck", "lost"),
        (
            (
                "worker/loop.py",
                "        except Unavailable as error:\n            attempt.log.warning",
                "        except Unavailable as error:\n            time.sleep(600)\n            attempt.log.warning",
            ),
        ),
    ),
    Plant(
        "work folders stay",
        "sqlite",
        ("files left",),
        (
            ("worker/folders.py", "        shutil.rmtree(self._home, ignore_errors=True)\n", "        pass\n"),
            ("worker/folders.py", "        shutil.rmtree(place.parent, ignore_errors=True)", "        pass"),
        ),
    ),
)


@contextmanager
def planted(plant: Plant) -> Iterator[Path]:
    """A copy of the code with the fault in it."""
    with tempfile.TemporaryDirectory(prefix="plant-", ignore_cleanup_errors=True) as made:
        folder = Path(made)
        for part in PARTS:
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
            copy(ROOT / part, folder / part)
        (ROOT / ".media").mkdir(exist_ok=True)
        (folder / ".media").symlink_to(ROOT / ".media")  # recordings and servers, fetched once for all
        for name, old, new in plant.edits:
            text = (folder / name).read_text()
            if old not in text:
                raise SystemExit(f"{plant.what}: {name} no longer says {old!r}")
            (folder / name).write_text(text.replace(old, new))
            if name.endswith(".py"):  # what cannot even be imported would be noticed by anybody
                compile((folder / name).read_text(), name, "exec")
        yield folder


def pytest_on(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run tests of a copy."""
    plugins = ("-p", "no:cacheprovider", "-p", "no:xdist")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", *plugins, *options, "--basetemp", str(folder / "temporary")],
        cwd=folder,
        env={"CHAOS_S": str(SECONDS)} | os.environ,
        capture_output=True,
        text=True,
        check=False,
    )


def staged(plant: Plant, folder: Path) -> tuple[bool, str]:
    """Whether the test that stages the meeting notices it."""
    run = pytest_on(folder, plant.staged, f"--timeout={STAGED_S}")
    failed = re.search(r"^FAILED (\S+)", run.stdout, re.MULTILINE)
    return run.returncode == 1 and failed is not None, f"staged: {failed[1] if failed else run.stdout[-600:]}"


def met(plant: Plant, folder: Path) -> tuple[bool, str]:
    """Whether one run of chaos notices it, after how long, and by which counts."""
    run = pytest_on(folder, "tests/chaos/test_chaos.py", "-k", plant.database)
    told = re.search(r"^lost \d+.*", run.stdout, re.MULTILINE)
    lasted = re.search(r"harmed for (\d+)", run.stdout)
    if told is None or lasted is None:
        return False, f"no audit: {run.stdout[-600:]}"
    counts = {name.strip(): int(count) for name, count in re.findall(r"([a-z ]+) (\d+)", told[0])}
    found = ", ".join(f"{name} {count}" for name, count in counts.items() if count) or "nothing"
    return any(counts.get(name) for name in plant.counts), f"{plant.database}, {lasted[1]} s: {found}"


def main(words: list[str]) -> int:
    """Try every plant whose name has one of the words in it, or all."""
    missed = 0
    for plant in PLANTS:
        if words and not any(word in plant.what for word in words):
            continue
        seen, how = False, ""
        for _ in range(1 if plant.staged else RUNS):
            with planted(plant) as folder:
                seen, how = staged(plant, folder) if plant.staged else met(plant, folder)
            sys.stdout.write(f"{'seen  ' if seen else 'unseen'} {plant.what} ({how})\n")
            sys.stdout.flush()
            if seen:
                break
        missed += not seen
    sys.stdout.write(f"{missed} missed\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
