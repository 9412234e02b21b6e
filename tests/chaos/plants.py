"""`make plants`: chaos on copies of the code with one fault planted in each, to see that every count can become red.

Prints for each fault what noticed it and after how many seconds of chaos; ends with 1 when one was not noticed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.reliability.copied import PARTS

ROOT = Path(__file__).parents[2]
#: Chaos ends sooner when it sees something while it goes on.
SECONDS = 60.0
STATEMENTS, MIGRATION = "shared/store/statements.py", "shared/store/migrations/0001_queue.sql"
LAUNCHER, PROCESS = "worker/launcher.py", "worker/process.py"


@dataclass(frozen=True, slots=True)
class Plant:
    """A fault, made by replacing texts in files, the database on which to look for it, and which counts may see it."""

    what: str
    database: str
    counts: tuple[str, ...]
    edits: tuple[tuple[str, str, str], ...]


PLANTS = (
    Plant(
        "nobody takes jobs from lost workers",
        "sqlite",
        ("lost",),
        ((STATEMENTS, "lease_until <= {NOW}\nRETURNING *", "lease_until <= {NOW} AND false\nRETURNING *"),),
    ),
    Plant(
        "whoever waits for a next try is never moved on",
        "sqlite",
        ("lost",),
        ((STATEMENTS, "IN ('scheduled', 'retrying') AND run_at <= {NOW}", "IN ('scheduled', 'retrying') AND false"),),
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
            (STATEMENTS, "AND worker_id = :worker AND status = 'running'\"", 'AND worker_id = :worker"'),
            (MIGRATION, "WHEN OLD.status <> NEW.status AND NEW.status IN (", "WHEN NEW.status IN ("),
        ),
    ),
    Plant(
        "no owner's write is fenced",
        "sqlite",
        ("two owners", "late writes", "wrong outputs", "doubled"),
        ((STATEMENTS, "id = :id AND attempt = :attempt AND worker_id = :worker AND", "id = :id AND"),),
    ),
    Plant(
        "jobs are taken from owners that live",
        "sqlite",
        ("two owners", "orphans"),
        ((STATEMENTS, "lease_until <= {NOW}\nRETURNING *", "lease_until <= {NOW} + 60000\nRETURNING *"),),
    ),
    Plant(
        "a frozen worker keeps its programs",
        "sqlite",
        ("two owners",),
        ((LAUNCHER, "if now >= self.deadline and (", "if now >= self.deadline + 1e9 and ("),),
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
                STATEMENTS,
                '"cancel_requested_at IS NULL AND failures + 1 < max_failures"',
                '"failures + 1 < max_failures"',
            ),
        ),
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
    ),
    Plant(
        "lines of an owner that lost its job are taken",
        "sqlite",
        ("late writes",),
        (
            (
                STATEMENTS,
                "SELECT j.id, j.attempt, l.value ->> 'n'",
                "SELECT j.id, b.value ->> 'attempt', l.value ->> 'n'",
            ),
            (
                STATEMENTS,
                "AND j.attempt = b.value ->> 'attempt'\n  AND j.worker_id = :worker AND j.status = 'running'\n",
                "",
            ),
            (STATEMENTS, "WHERE l.value ->> 'n' > j.last_line AND {accepted}", "WHERE l.value ->> 'n' > j.last_line"),
        ),
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
            ("worker/folders.py", "        shutil.rmtree(self._home, ignore_errors=True)\n", ""),
            ("worker/folders.py", "        shutil.rmtree(place.parent, ignore_errors=True)", "        pass"),
        ),
    ),
)


def noticed(plant: Plant, folder: Path) -> tuple[dict[str, int], float]:
    """The counts of a run of chaos on a copy of the code with the fault in it, and the seconds of chaos it took."""
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, folder / part)
    for name, old, new in plant.edits:
        text = (folder / name).read_text()
        if old not in text:
            raise SystemExit(f"{plant.what}: {name} no longer says {old!r}")
        (folder / name).write_text(text.replace(old, new))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "tests/chaos/test_chaos.py",
    ]
    run = subprocess.run(
        [*command, "-k", plant.database, "--basetemp", str(folder / "temporary")],
        cwd=folder,
        env={"CHAOS_S": str(SECONDS)} | os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    told = re.search(r"^lost \d+.*", run.stdout, re.MULTILINE)
    lasted = re.search(r"harmed for (\d+)", run.stdout)
    if told is None or lasted is None:
        return {f"no audit: {run.stdout[-600:]}": 1}, 0.0
    counts = {name: int(count) for name, count in re.findall(r"([a-z ]+) (\d+)", told[0])}
    return {name.strip(): count for name, count in counts.items() if count}, float(lasted[1])


def main(words: list[str]) -> int:
    """Try every plant whose name has one of the words in it, or all."""
    missed = 0
    for plant in PLANTS:
        if words and not any(word in plant.what for word in words):
            continue
        with tempfile.TemporaryDirectory(prefix="plant-") as folder:
            counts, seconds = noticed(plant, Path(folder))
        seen = any(counts.get(name) for name in plant.counts)
        missed += not seen
        found = ", ".join(f"{name} {count}" for name, count in counts.items()) or "nothing"
        sys.stdout.write(
            f"{'seen  ' if seen else 'MISSED'} {plant.what} ({plant.database}, {seconds:.0f} s): {found}\n"
        )
        sys.stdout.flush()
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
