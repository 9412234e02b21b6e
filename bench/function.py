"""What does the API cost as a Lambda function: zip, import, cold and warm answers, memory?

The zip is built as `sam build` builds it. Import and polls are measured inside an instance, a plain question to the
same database in turn with them; cold answers and memory by AWS's own runtime client, one new environment each.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess  # noqa: TID251 - builds the zip, and runs it
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import urllib3

from bench.answer import Answer, Figure, Goal
from bench.idle import memory_mb
from bench.processes import ROOT
from shared.job import NewJob, new_id
from shared.store.hrana import Hrana
from shared.store.turso import TursoJobStore
from tests.deploy.conftest import RUNTIME, RUNTIME_MODULES
from tests.deploy.runtime import Function
from tests.real.sqld import Sqld

POLLS, COLD = 150, 4
MOST_ZIP_MB, MOST_IMPORT_MS, MOST_MB, MOST_POLL_MS = 20.0, 400.0, 90.0, 2.0
_TOKEN = "a-token"  # noqa: S105 - of a function that lives for a minute


def answer(rounds: int) -> Answer:
    """Measure; import and cold answers are medians."""
    with tempfile.TemporaryDirectory(prefix="spool-bench-") as name, Sqld(Path(name) / "sqld") as server:
        folder = Path(name)
        store = TursoJobStore(Hrana(server.url))
        store.migrate()
        job, _ = store.create([NewJob(id=new_id(), type="ingest", params={"source": "https://example.org/a.mp3"})])
        store.close()
        built = build(folder / "zip")
        zip_mb = Path(shutil.make_archive(str(folder / "api"), "zip", built)).stat().st_size / 1e6
        settings = {
            "SPOOL_DATABASE_URL": server.url,
            "SPOOL_STORAGE_URL": "s3://bucket?region=eu-central-1",
            "SPOOL_API_TOKENS": _TOKEN,
            "SPOOL_SECRET": "a secret that all instances share",
            "SPOOL_RATE_LIMIT": "0",
            "SPOOL_LOG_FORMAT": "json",
        }
        inside = [_inside(built, settings, job.id) for _ in range(rounds)]
        cold, memory = zip(*(_cold(built, _runtime(folder), settings, job.id) for _ in range(COLD)), strict=True)
    return _told(zip_mb, inside, list(cold), list(memory))


def _told(zip_mb: float, inside: list[dict[str, Any]], cold: list[float], memory: list[float]) -> Answer:
    import_ms = statistics.median(each["import_cpu_ms"] for each in inside)
    polled, asked, unchanged = (
        statistics.median(value for each in inside for value in each[name])
        for name in ("polled_ms", "asked_ms", "unchanged_ms")
    )
    cold_ms, most_mb = statistics.median(cold), max(memory)
    found = Answer("The API as a Lambda function, on this machine", ("what", "measured"))
    found.rows = [
        ("zip", f"{zip_mb:.1f} MB"),
        ("import", f"{import_ms:.0f} ms of CPU"),
        ("first answer of a new instance", f"{cold_ms:.0f} ms"),
        ("a question to the database", f"{asked:.2f} ms"),
        ("poll", f"{polled:.2f} ms"),
        ("poll with the ETag of the last", f"{unchanged:.2f} ms"),
        ("memory of an instance after a hundred polls", f"{most_mb:.0f} MB"),
    ]
    found.goals = [
        Goal("zip", zip_mb, MOST_ZIP_MB, " MB"),
        Goal("import", import_ms, MOST_IMPORT_MS, " ms of CPU"),
        Goal("poll beside the database's own time", polled - asked, MOST_POLL_MS, " ms"),
        Goal("memory", most_mb, MOST_MB, " MB"),
    ]
    found.figures = [
        Figure("a cold start on Lambda", f"{import_ms:.0f} ms of CPU to import", f"{MOST_IMPORT_MS:.0f} ms at most"),
        Figure("the function", f"{zip_mb:.1f} MB of zip, {most_mb:.0f} MB of memory", "20 MB and 90 MB at most"),
        Figure("a poll in it, beside the database's own time", f"{polled - asked:.1f} ms", "2 ms at most"),
    ]
    found.runs = {"inside": inside, "cold_ms": cold, "memory_mb": memory, "zip_mb": zip_mb}
    return found


def build(folder: Path) -> Path:
    """The content of the zip, by the make target that `sam build` calls."""
    folder.mkdir()
    tools = {"PYTHON": sys.executable, "UV": str(Path(sys.executable).with_name("uv")), "ARTIFACTS_DIR": str(folder)}
    command = ["make", "-s", "build-ApiFunction", *(f"{name}={value}" for name, value in tools.items())]
    subprocess.run(command, cwd=ROOT / "infra", check=True, stdout=subprocess.DEVNULL)
    return folder


def _runtime(folder: Path) -> Path:
    """What the managed runtime has besides the zip."""
    runtime = folder / "runtime"
    if not runtime.exists():
        runtime.mkdir()
        for name in (*RUNTIME, *RUNTIME_MODULES):
            found = Path(str(import_module(name).__file__))
            source = found.parent if found.name == "__init__.py" else found
            (runtime / source.name).symlink_to(source)
    return runtime


def _inside(built: Path, settings: dict[str, str], job_id: str) -> dict[str, Any]:
    environment = {"PYTHONPATH": str(built), "AWS_LAMBDA_FUNCTION_NAME": "spool"} | settings
    program = [sys.executable, "-S", "-P", str(Path(__file__).with_name("inside.py")), str(POLLS), job_id]
    ended = subprocess.run(program, env=environment, cwd="/", check=False, capture_output=True)
    if ended.returncode:
        raise RuntimeError(f"the function could not be measured: {ended.stderr.decode(errors='replace')[-2000:]}")
    told: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return told


def _cold(built: Path, runtime: Path, settings: dict[str, str], job_id: str) -> tuple[float, float]:
    """Milliseconds to the first answer of a new environment, and its megabytes after a hundred."""
    headers = {"authorization": f"Bearer {_TOKEN}"}
    with Function(built, runtime, settings, most=1) as function:
        url = f"{function.url}/api/jobs/{job_id}"
        began = time.perf_counter()
        answers = [urllib3.request("GET", url, headers=headers, timeout=60)]
        took_ms = 1000 * (time.perf_counter() - began)
        answers += [urllib3.request("GET", url, headers=headers, timeout=60) for _ in range(100)]
        if {each.status for each in answers} != {200}:
            raise RuntimeError(f"the function answered {answers[-1].status}: {answers[-1].data[:200]!r}")
        return took_ms, memory_mb(function.environments[0].process.pid)
