"""render.yaml and the container files: their shape, what they name, and their start commands as a shell runs them."""

from __future__ import annotations

import copy
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from shared.job import Job, NewJob, Status, new_id
from shared.settings import Settings, load_settings
from shared.storage.local import LocalStorage
from shared.store.local import LocalJobStore
from shared.store.values import Asset
from tests.media import signals

ROOT = Path(__file__).parents[2]
BLUEPRINTS = ("render.yaml", "infra/render.web.yaml")
PATIENCE_S = 60.0
#: What a worker takes beyond its drain and the cancel grace before it ends without its job.
RELEASE_S = 5.0


def read(name: str) -> dict[str, Any]:
    """A YAML file of the repository."""
    return yaml.safe_load((ROOT / name).read_text())


def faults(document: object) -> list[str]:
    """What the schema says against a Blueprint."""
    validator = Draft202012Validator(json.loads((ROOT / "infra/render.schema.json").read_text()))
    return [error.message for error in validator.iter_errors(document)]


@pytest.mark.parametrize("name", BLUEPRINTS)
def test_a_blueprint_holds_to_the_schema(name):
    """Each Blueprint uses only fields we know, with values Render takes."""
    assert faults(read(name)) == []


MUTANTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "a delay Render refuses": lambda worker: worker.update(maxShutdownDelaySeconds=900),
    "no delay": lambda worker: worker.pop("maxShutdownDelaySeconds"),
    "a plan without workers": lambda worker: worker.update(plan="free"),
    "a shell in between": lambda worker: worker.update(startCommand="python -m worker"),
    "no migration": lambda worker: worker.pop("preDeployCommand"),
    "packages without hashes": lambda worker: worker.update(buildCommand="pip install -r requirements/cli.txt"),
    "a misspelt field": lambda worker: worker.update(startComand=worker.pop("startCommand")),
    "a health check on a worker": lambda worker: worker.update(healthCheckPath="/healthz"),
    "a secret in the file": lambda worker: worker["envVars"].append({"key": "A", "sync": False, "value": "x"}),
    "sync as a word": lambda worker: worker["envVars"].append({"key": "A", "sync": "no"}),
    "a number that is no text": lambda worker: worker["envVars"].append({"key": "A", "value": 300}),
    "half a build filter": lambda worker: worker["buildFilter"].pop("ignoredPaths"),
    "an old name of a field": lambda worker: worker.update(autoDeploy=True),
}


@pytest.mark.parametrize("fault", MUTANTS)
def test_the_schema_notices(fault):
    """Each fault that Render would refuse, or that would hurt later, is noticed here."""
    document = copy.deepcopy(read("render.yaml"))
    MUTANTS[fault](document["services"][0])
    assert faults(document)


def services() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every Render service by name."""
    for name in BLUEPRINTS:
        for service in read(name)["services"]:
            yield service["name"], service


@pytest.mark.parametrize(("name", "service"), list(services()))
def test_what_a_blueprint_names_exists(name, service):
    """Files, folders, settings and the Python version are those of this repository."""
    for pattern in service["buildFilter"]["paths"]:
        assert (ROOT / pattern.removesuffix("/**")).exists(), pattern
    known = {f"SPOOL_{field.upper()}" for field in Settings.model_fields}
    keys = {variable["key"] for variable in service["envVars"]}
    assert {key for key in keys if key.startswith("SPOOL_")} <= known
    values = {variable["key"]: variable["value"] for variable in service["envVars"] if "value" in variable}
    load_settings(**{key.removeprefix("SPOOL_").lower(): value for key, value in values.items() if key in known})
    assert re.fullmatch(r"3\.11\.\d+", values["PYTHON_VERSION"])
    assert (ROOT / re.findall(r"requirements/\w+\.txt", service["buildCommand"])[0]).exists()


@pytest.mark.parametrize("where", ["render", "compose"])
def test_the_host_waits_longer_than_a_drain_takes(where):
    """The host's SIGKILL comes after the worker has given back what it could not finish."""
    if where == "render":
        worker = read("render.yaml")["services"][0]
        patience_s = worker["maxShutdownDelaySeconds"]
        settings = {variable["key"]: variable.get("value") for variable in worker["envVars"]}
    else:
        worker = read("infra/docker-compose.yaml")["services"]["worker"]
        patience_s, settings = int(worker["stop_grace_period"].removesuffix("s")), worker["environment"]
    drain_s = float(settings["SPOOL_DRAIN_S"])
    assert drain_s + load_settings().cancel_grace_s + RELEASE_S < patience_s


def test_the_build_ends_without_a_fit_ffmpeg(tmp_path):
    """The check at the end of the build command finds an engine, and fails when it is told a wrong one."""
    check = read("render.yaml")["services"][0]["buildCommand"].split("&&")[-1].strip()
    assert shell(check).returncode == 0
    refused = shell(check, SPOOL_FFMPEG=str(tmp_path / "ffmpeg"))
    assert refused.returncode != 0
    assert "ffmpeg" in refused.stderr


def test_the_container_runs_the_worker_as_nobody_special():
    """Files that are copied exist, the user is not root, and no shell stands before the worker."""
    lines = (ROOT / "infra/Containerfile").read_text().splitlines()
    copied = [part for line in lines if line.startswith("COPY ") for part in line.split()[1:-1]]
    assert copied
    assert [part for part in copied if not (ROOT / part).exists()] == []
    assert [line for line in lines if line.startswith("USER ")] == ["USER spool"]
    command = next(line.removeprefix("CMD ") for line in lines if line.startswith("CMD "))
    assert json.loads(command) == shlex.split(read("render.yaml")["services"][0]["startCommand"])[1:]
    for service in read("infra/docker-compose.yaml")["services"].values():
        assert service["build"]["dockerfile"] == "infra/Containerfile"
        assert isinstance(service.get("command", []), list)


# --- the start command, as Render's shell runs it -------------------------------------------------------------------
@pytest.fixture
def store(tmp_path) -> Iterator[LocalJobStore]:
    """A migrated queue in a file."""
    store = LocalJobStore(tmp_path / "spool.db")
    store.migrate()
    yield store
    store.close()


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """A minute of sound, so that its job still runs when the signal comes."""
    return signals.write(tmp_path_factory.mktemp("sound") / "talk.wav", signals.podcast(60))


@pytest.fixture
def job(store, sound, tmp_path) -> Job:
    """A real job in the queue."""
    storage = LocalStorage(tmp_path / "storage", b"secret")
    size = sound.stat().st_size
    asset = Asset(
        id=new_id(),
        owner="local",
        filename="talk.wav",
        content_type="audio/wav",
        size_bytes=size,
        state="uploading",
    )
    store.add_asset(asset)
    stored = storage.put(sound, asset.key, content_type="audio/wav", progress=lambda _done, _total: None)
    store.asset_ready(asset.id, sha256=stored.sha256)
    made, _ = store.create([NewJob(id=new_id(), type="ingest", params={"source": asset.id})])
    return made


@pytest.fixture
def worker(tmp_path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the worker exactly as render.yaml says; none outlives the test."""
    started: list[subprocess.Popen[str]] = []

    def start(**settings: str) -> subprocess.Popen[str]:
        command = read("render.yaml")["services"][0]["startCommand"]
        environment = environ(
            SPOOL_DATABASE_URL=f"sqlite:///{tmp_path}/spool.db",
            SPOOL_STORAGE_URL=f"file:{tmp_path}/storage",
            SPOOL_SECRET="secret",
            SPOOL_WORK_DIR=str(tmp_path / "work"),
            SPOOL_LOG_FORMAT="json",
            **settings,
        )
        started.append(
            subprocess.Popen(
                ["sh", "-c", command],
                cwd=ROOT,
                env=environment,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        with suppress(ProcessLookupError):  # the group is gone when all went well
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def environ(**settings: str) -> dict[str, str]:
    """What a host gives a process: its PATH with this Python first, and the settings."""
    return {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": os.environ["HOME"]} | settings


def shell(command: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """One command under `sh -c`."""
    return subprocess.run(
        ["sh", "-c", command], cwd=ROOT, env=environ(**settings), capture_output=True, text=True, check=False
    )


def running(store: LocalJobStore, job: Job) -> None:
    """Wait until a worker has begun with the job's sound."""
    deadline = time.monotonic() + PATIENCE_S
    while (found := store.get(job.id)).stage_index is None or found.stage_index < 2:
        assert found.status in {Status.PENDING, Status.RUNNING}, found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


@pytest.mark.media
def test_the_start_command_drains_on_sigterm(store, job, worker):
    """SIGTERM to the process that Render started, with a job running: the job completes, and the exit code is 0."""
    process = worker(SPOOL_DRAIN_S="280", SPOOL_HEARTBEAT_S="0.2")
    running(store, job)
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, log
    lines = [json.loads(line) for line in log.splitlines()]
    assert next(line for line in lines if line["event"] == "draining")["running"] == 1
    assert store.get(job.id).status is Status.COMPLETED


@pytest.mark.media
def test_a_job_that_outlasts_the_drain_is_given_back(store, job, worker, tmp_path):
    """With no time to drain the job is pending again, at no cost to it, and nothing of it is left running."""
    process = worker(SPOOL_DRAIN_S="0", SPOOL_HEARTBEAT_S="0.2")
    running(store, job)
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, log
    found = store.get(job.id)
    assert (found.status, found.failures, found.attempt) == (Status.PENDING, 0, 1)
    assert [path.name for path in (tmp_path / "work").iterdir()] == []
