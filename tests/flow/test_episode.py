"""A whole show: one request, four workers, two of them killed in the middle, and the finished files at its end.

`make episode` takes half an hour of sound for each track, and prints what the time was spent on.
"""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.media import judges
from tests.network.deployment import Client, Deployment, Gate, deployed, until

pytestmark = pytest.mark.media
#: Seconds of each track; half an hour in the long form.
TRACK_S = float(os.environ.get("EPISODE_S", "4"))
#: How much later than the one before each track begins.
STEP_S = min(TRACK_S, 4.0) / 2
TRACKS, WORKERS = 12, 4
#: How long the whole may take before it is called a failure.
PATIENCE_S = 240 + 4 * TRACK_S


class Watcher:
    """Asks for the episode all the time and keeps how far it was, in a thread of its own."""

    def __init__(self, client: Client, episode: str) -> None:
        self._client, self._episode = client, episode
        self.seen: list[dict[str, Any]] = [client.insist("GET", f"/api/jobs/{episode}")]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            self.seen.append(self._client.insist("GET", f"/api/jobs/{self._episode}"))

    @property
    def last(self) -> dict[str, Any]:
        """The episode as it was seen last."""
        return self.seen[-1]

    def until(self, status: str) -> dict[str, Any]:
        """Return the episode once it is in this state."""
        until(lambda: self.last["status"] != "waiting_children", f"the episode's end ({self.last})", PATIENCE_S)
        assert self.last["status"] == status, self.last["error"]
        return self.last

    def end(self) -> None:
        """Ask no more."""
        self._over.set()
        self._thread.join()


@contextmanager
def watched(client: Client, episode: str) -> Iterator[Watcher]:
    """The episode, watched from the beginning."""
    watcher = Watcher(client, episode)
    try:
        yield watcher
    finally:
        watcher.end()


def kill_two(deployment: Deployment, gate: Gate, watcher: Watcher) -> list[str]:
    """While the tracks are mastered: two workers that are in the middle of one die; returns the keys of those."""
    found: dict[str, str] = {}

    def caught() -> bool:
        if watcher.last["stage"] == "pre":
            gate.let_go(TRACKS)
            return False
        held = gate.waiting()
        found.clear()
        found.update({one.job: one.worker for one in deployment.programs() if one.job in held})
        return len(set(found.values())) == WORKERS

    until(caught, "every worker in the middle of a track", PATIENCE_S)
    victims = sorted(set(found.values()))[:2]
    for part in deployment.parts:
        if part.name != "api" and part.said("worker ready")[0]["worker"] in victims:
            part.harmed = True
            part.process.kill()
    gate.open()
    gate.let_go(TRACKS)
    jobs = ", ".join(f"'{job}'" for job, worker in found.items() if worker in victims)
    return [row["child_key"] for row in deployment.rows(f"SELECT child_key FROM job WHERE id IN ({jobs})")]


def test_an_episode_survives_the_death_of_two_of_its_four_workers(tmp_path, engine, make, recordings, record_property):
    """One request makes it; its percentage never goes back, what was lost is made again, and the mix is exact."""
    track = make("track.wav", "-stream_loop", "-1", "-i", recordings.speech, "-t", TRACK_S, "-ar", "48000")
    gate = Gate(tmp_path, engine.ffmpeg)
    quick = {"heartbeat_s": 0.5, "lease_s": 8, "control_s": 0.2, "cancel_grace_s": 0.5, "drain_s": 60}
    with deployed(tmp_path / "here", file=True, ffmpeg=gate.ffmpeg, **quick) as deployment:
        deployment.start_api(deployment.database)
        for _ in range(WORKERS):
            deployment.start_worker(deployment.database)
        deployment.await_workers()
        client = Client(deployment.url)
        tracks = [{"source": client.upload(track), "offset_s": n * STEP_S} for n in range(TRACKS)]
        gate.shut()
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.monotonic()
        episode = client.create("one", type="episode", max_failures=9, params={"tracks": tracks, "title": "Twelve"})
        with watched(client, episode["id"]) as watcher:
            lost = kill_two(deployment, gate, watcher)
            ended = watcher.until("completed")
        wall_s = time.monotonic() - began
        children = client.insist("GET", f"/api/jobs/{episode['id']}/children")["items"]
        mp3 = saved(client, episode["id"], tmp_path / "twelve.mp3")
        bury(deployment)
        deployment.end()
        until(lambda: not deployment.programs(), "the end of every program")
    record_property("figure", spent(children, wall_s, used))
    percentages = [job["progress"] for job in watcher.seen if job["progress"] is not None]
    assert percentages == sorted(percentages)
    assert percentages[0] < 10
    assert percentages[-1] == 100
    assert len(set(percentages)) > TRACKS
    assert [job["stage"] for job in watcher.seen] == sorted(
        (job["stage"] for job in watcher.seen), key=("pre", "core", "post").index
    )
    assert len(lost) == 2
    again = {child["child_key"] for child in children if child["attempt"] > 1}
    assert again >= set(lost)
    assert {child["status"] for child in children} == {"completed"}
    assert len(children) == 2 * TRACKS + 1
    assert ended["children"] == {"total": 2 * TRACKS + 1, "done": 2 * TRACKS + 1, "failed": 0}
    heard = judges.libebur128(engine.ffmpeg, mp3)
    assert heard.lufs == pytest.approx(-16, abs=0.1)
    assert heard.true_peak_dbtp <= -1
    assert heard.duration_s == pytest.approx((TRACKS - 1) * STEP_S + TRACK_S, abs=0.1)


def bury(deployment: Deployment) -> None:
    """Those that were killed are not asked how they ended."""
    for part in [part for part in deployment.parts if part.harmed]:
        part.process.communicate()
        deployment.parts.remove(part)


def saved(client: Client, episode: str, path: Path) -> Path:
    """The finished MP3, by the episode's own address."""
    files = client.insist("GET", f"/api/jobs/{episode}/outputs")["items"]
    link = next(file["url"] for file in files if file["name"] == "mp3")
    path.write_bytes(client._pool.request("GET", link).data)
    return path


def spent(children: list[dict[str, Any]], wall_s: float, before: resource.struct_rusage) -> str:
    """What the time was spent on, beside what it could not be less than: the longest way, and the cores' work."""
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    cores = len(os.sched_getaffinity(0))
    way_s = sum(
        max(took_s(child) for child in children if child["phase"] == phase) for phase in ("pre", "core", "post")
    )
    least_s = max(way_s, cpu_s / cores)
    return (
        f"{TRACKS} tracks of {TRACK_S:g} s, {WORKERS} workers, 2 of them killed: {wall_s:.1f} s; critical path "
        f"{way_s:.1f} s, CPU {cpu_s:.1f} s on {cores} cores; {wall_s / least_s:.2f} of the least that is possible"
    )


def took_s(child: dict[str, Any]) -> float:
    """How long a job took from its first start to its end, a wait for another worker included."""
    began, ended = (datetime.fromisoformat(child[name]) for name in ("started_at", "completed_at"))
    return (ended - began).total_seconds()
