"""The database away, for seconds here and for minutes with `make outage`: all of Spool comes back by itself."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
import urllib3

from shared.settings import Settings
from shared.store.hrana import Hrana
from shared.store.turso import TursoJobStore
from tests.network.deployment import CAME, PATIENCE_S, ROOT, WENT, Client, Deployment, Gate, Part, deployed, until
from tests.real.proxy import Proxy
from tests.real.sqld import Sqld

#: Seconds, from the command line of `make outage`; with them everything else is as it is in production.
LONG = tuple(float(seconds) for seconds in os.environ.get("OUTAGE_S", "").split(",") if seconds)
#: Otherwise shorter and longer than the lease, as 60 s and 600 s are.
OUTAGES_S = LONG or (5.0, 11.0)
#: A network without a way to the server, instead of a server that is down, makes everybody wait for nothing. With it
#: the long form takes the time that leases need to run out, and no longer.
OUTAGES = [(seconds, False) for seconds in OUTAGES_S] + ([(120.0, True)] if LONG else [])
QUICK: dict[str, object] = {"lease_s": 8.0, "heartbeat_s": 0.5, "cancel_grace_s": 0.5, "control_s": 0.2}
LEASE_S = Settings.model_fields["lease_s"].default if LONG else QUICK["lease_s"]
#: Longer than the 10 s after which the server ends an idle stream.
IDLE_S = 12.0
BAD_LINKS = 20
SLOTS = 4


@dataclass
class Place:
    """An API and two workers with two slots each; the API and one worker reach the database through a proxy."""

    deployment: Deployment
    gate: Gate
    proxy: Proxy
    client: Client
    recording: str
    seen: dict[str, int] = field(default_factory=dict)

    def mark(self) -> None:
        """From here on `news` counts."""
        self.seen = {part.name: len(part.lines()) for part in self.deployment.parts}

    def news(self, part: Part, *events: str) -> list[dict]:
        """What a process has said of these kinds since the mark."""
        return [line for line in part.lines()[self.seen[part.name] :] if line["event"] in events]

    def complaints(self, part: Part) -> list[str]:
        """The warnings and errors of a process since the mark."""
        levels = {"debug", "info"}
        return [line["event"] for line in part.lines()[self.seen[part.name] :] if line["level"] not in levels]

    def ingest(self, key: str) -> str:
        """A job on the recording; returns its id."""
        return str(self.client.create(key, params={"source": self.recording})["id"])


@pytest.fixture(scope="module")
def place(tmp_path_factory, engine, recordings) -> Iterator[Place]:
    """Everything up and idle."""
    folder = tmp_path_factory.mktemp("outages")
    gate = Gate(folder, engine.ffmpeg)
    settings = {} if LONG else QUICK
    with deployed(folder, slots=2, ffmpeg=gate.ffmpeg, **settings) as deployment, Proxy(deployment.server.url) as proxy:
        deployment.start_api(proxy.url)
        deployment.start_worker(proxy.url)
        deployment.start_worker(deployment.server.url)
        deployment.await_workers()
        client = Client(deployment.url)
        yield Place(deployment, gate, proxy, client, client.upload(recordings.counting))
        client.close()
        deployment.end()
        assert deployment.children() == set()


class Viewer:
    """Somebody who has the dashboard open: follows the live events of all jobs."""

    def __init__(self, url: str) -> None:
        self.text = ""
        self._answer = urllib3.request(
            "GET", f"{url}/api/events", preload_content=False, retries=False, timeout=PATIENCE_S
        )
        self._thread = threading.Thread(target=self._follow)
        self._thread.start()

    def _follow(self) -> None:
        with suppress(urllib3.exceptions.HTTPError, ValueError):  # it ends when the other side, or this one, hangs up
            for chunk in self._answer.stream(1024):
                self.text += chunk.decode()

    def close(self) -> None:
        """Hang up."""
        self._answer.shutdown()
        self._thread.join()
        self._answer.close()


class Witness:
    """Watches a deployment while its database is away: what clients get, and when programs end."""

    def __init__(self, place: Place, key: str) -> None:
        self._place, self._key = place, key
        self._threads = ThreadPoolExecutor(2)
        self.gone_at: dict[str, float] = {}
        self.answers = 0

    def watch(self, jobs: set[str], until_s: float) -> None:
        """Return then; a client asks meanwhile, and another insists on a job for as long as it takes."""
        self._insisting = self._threads.submit(self._insist)
        self._asking = self._threads.submit(self._ask, until_s)
        while time.time() < until_s:
            for job in jobs - self._place.gate.waiting().keys() - self.gone_at.keys():
                self.gone_at[job] = time.time() * 1000
            time.sleep(min(0.5 if LONG else 0.1, max(0.0, until_s - time.time())))

    def end(self) -> str:
        """The id of the job that was insisted on; raises what the other client had to complain about."""
        created = self._insisting.result()
        self._asking.result()
        self._threads.shutdown()
        return created

    def _insist(self) -> str:
        client = Client(self._place.deployment.url, patience_s=max(OUTAGES)[0] + PATIENCE_S)
        created = client.create(self._key, params={"source": self._place.recording})
        client.close()
        return str(created["id"])

    def _ask(self, until_s: float) -> None:
        wanted = {"type": "ingest", "params": {"source": self._place.recording}}
        requests = itertools.cycle((("GET", "/api/jobs/0"), ("POST", "/api/jobs"), ("GET", "/readyz")))
        prompt = Client(self._place.deployment.url, read_s=2.0)
        patient = Client(self._place.deployment.url, read_s=30.0 if LONG else 10.0)
        for method, path in requests:
            assert prompt.ask("GET", "/healthz")[0] == 200
            status, headers, problem = patient.ask(method, path, wanted if method == "POST" else None)
            if time.time() >= until_s:
                break
            assert (status, headers["Content-Type"]) == (503, "application/problem+json")
            assert int(headers["Retry-After"]) >= 1
            assert problem["detail"].startswith(("The database at ", "The connection to "))
            assert problem["detail"].endswith(".")
            self.answers += 2
            time.sleep(0.5 if LONG else 0.1)
        prompt.close()
        patient.close()


@pytest.mark.parametrize(("outage_s", "silent"), OUTAGES)
def test_an_outage_costs_no_job_a_failure(place, outage_s, silent, record_property):
    """Jobs run, wait, end and are created while the server is away; all end well, at one line a process and way."""
    deployment, gate = place.deployment, place.gate
    longer = outage_s > LEASE_S
    place.mark()
    gate.shut()
    held = {place.ingest(f"held-{number}-{outage_s}-{silent}") for number in range(SLOTS)}
    until(lambda: gate.waiting().keys() == held, "every slot at work")
    links = {"source": "http://192.168.0.1/talk.mp3"}
    bad = {place.client.create(f"bad-{number}-{outage_s}-{silent}", params=links)["id"] for number in range(BAD_LINKS)}

    viewer = Viewer(deployment.url)
    until(lambda: "hello" in viewer.text, "a live view")
    place.proxy.silent = silent
    deployment.server.stop(signal.SIGKILL)
    away_at = time.time()
    leases = dict(deployment.left_on_disk("SELECT id, lease_until FROM job WHERE status = 'running'"))
    assert leases.keys() == held
    gate.open()
    if not longer:
        gate.let_go(SLOTS // 2)  # half of them end while there is nobody to tell
    witness = Witness(place, f"created-while-away-{outage_s}-{silent}")
    witness.watch(held, away_at + outage_s)
    if longer:
        assert deployment.children() == set()
        assert witness.gone_at.keys() == held
        early = min(leases[job] - gone_at for job, gone_at in witness.gone_at.items())
        assert early > 0, "a program outlived the lease of its job"
    else:
        assert len(gate.waiting()) == SLOTS // 2
        gate.let_go(SLOTS // 2)
    deployment.server.start()
    place.proxy.silent = False
    gate.let_go(SLOTS)
    created = witness.end()
    until(lambda: deployment.unfinished() == 0, "the end of every job")
    until(lambda: created in viewer.text, "the live view shows what came after the outage")
    viewer.close()

    ours = held | bad | {created}
    rows = {row["id"]: row for row in deployment.rows("SELECT * FROM job") if row["id"] in ours}
    assert len(rows) == SLOTS + BAD_LINKS + 1
    assert {row["failures"] for row in rows.values()} == {0}
    assert {rows[job]["status"] for job in held | {created}} == {"completed"}
    assert {rows[job]["attempt"] for job in held} == {2 if longer else 1}
    assert {rows[job]["status"] for job in bad} == {"failed"}
    away = {}
    for part in deployment.parts:
        until(lambda part=part: bool(place.news(part, CAME)), f"{part.name} says that the database is back")
        lines = place.news(part, WENT, CAME)
        assert [line["event"] for line in lines] == [WENT, CAME], lines
        assert place.complaints(part) == [WENT]
        away[part.name] = lines[1]["away_s"]
    assert deployment.children() == set()
    ended = (
        f"programs gone {early / 1000:.1f} s before their leases" if longer else "half of the programs ended meanwhile"
    )
    how = "without a word from the network" if silent else "stopped"
    record_property(
        "figure",
        f"away {outage_s:.0f} s, {how} (lease {LEASE_S:.0f} s): {len(rows)} jobs, 0 failures, 0 lost, {ended}; "
        f"{witness.answers} answers of the API meanwhile; said to have been away for {away} s",
    )


def test_a_pause_and_a_restart_are_no_news(place):
    """After 12 s without a request everything answers at once; a server that restarts under running jobs costs none."""
    deployment, gate = place.deployment, place.gate
    place.mark()
    idle_until = time.monotonic() + IDLE_S
    until(lambda: time.monotonic() > idle_until, "the end of the pause")
    place.proxy.hang_up()
    gate.shut()
    held = {place.ingest(f"held-{number}-over-a-restart") for number in range(SLOTS)}
    until(lambda: gate.waiting().keys() == held, "every slot at work")
    deployment.server.stop(signal.SIGKILL)
    deployment.server.start()
    assert gate.waiting().keys() == held
    gate.open()
    gate.let_go(SLOTS)
    until(lambda: deployment.unfinished() == 0, "the end of every job")
    rows = [row for row in deployment.rows("SELECT * FROM job") if row["id"] in held]
    assert {(row["status"], row["attempt"], row["failures"]) for row in rows} == {("completed", 1, 0)}
    for part in deployment.parts:
        # A restart that takes longer than three seconds, on a busy machine, is an outage: then both lines, or none.
        assert [line["event"] for line in place.news(part, WENT, CAME)] in ([], [WENT, CAME])


def test_connections_that_died_in_silence_are_replaced(tmp_path):
    """A router forgets idle connections without telling: what is asked over one of them is asked again over another."""
    with Sqld(tmp_path) as server, Proxy(server.url) as proxy:
        store = TursoJobStore(Hrana(proxy.url, timeout=urllib3.Timeout(connect=1.0, read=0.5)))
        store.migrate()
        proxy.forget()
        assert store.check() > 0
        store.close()


def test_a_worker_that_starts_while_the_database_is_away_says_so(tmp_path):
    """One sentence and exit code 3, for whoever keeps it running to start it again; no traceback."""
    with Proxy("http://127.0.0.1:9") as gone:
        url = gone.url
    settings = {"DATABASE_URL": url, "STORAGE_URL": f"file:{tmp_path}", "SECRET": "0123456789abcdef" * 4}
    ended = subprocess.run(
        [sys.executable, "-m", "worker"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin"} | {f"SPOOL_{name}": value for name, value in settings.items()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 3
    assert ended.stderr.splitlines()[-1].startswith(
        f"The worker cannot start now: The database at {url} does not answer"
    )
    assert "Traceback" not in ended.stderr
