"""How a worker comes to each crash point, and dies there."""

from __future__ import annotations

import os
import signal

from shared.job import Status, new_id
from shared.store.values import Schedule
from tests.chaos.deaths.ways import Ways, ended
from tests.chaos.nursery import until
from tests.chaos.world import World, parent_of


def at_work(world: World, point: str) -> None:
    """It runs a job, after whatever the deaths before it have left to do."""
    world.submit()
    world.await_death(world.start("worker", point), point)


def at_a_family(world: World, point: str) -> None:
    """It runs a child of a family."""
    world.submit_family()
    world.await_death(world.start("worker", point), point)


def at_collecting(world: World, point: str) -> None:
    """It adds a child for each of three recordings that a list names; no worker may go there, which ends them."""
    links = [f"http://192.168.0.1/{new_id()}.mp3" for _ in range(3)]
    playlist = world.folder / "list.m3u"
    playlist.write_text("\n".join(["#EXTM3U", *links]))
    params = {"source": world.asset(playlist)}
    job = world.submit(type="collect", params=params, on_child_failure="continue")
    world.children_of[job.id] = (3, Status.FAILED)
    world.await_death(world.start("worker", point), point)


def at_cancel(world: World, point: str) -> None:
    """It stops a program because somebody cancelled the job."""
    world.shut()
    world.submit()
    worker = world.start("worker", point)
    if held := world.await_held(worker):
        _, job = held
        world.wanted[job] = Status.CANCELLED
        world.store.cancel(job)
    world.await_death(worker, point)
    world.open()


def at_a_frozen_launcher(world: World, point: str) -> None:
    """It has to do what a launcher that is frozen does not; thawed, that one finds its worker gone."""
    world.shut()
    world.submit()
    worker = world.start("worker", point)
    found = world.await_held(worker)
    assert found is not None, worker.tail()
    held, job = found
    launcher = parent_of(held)
    os.kill(launcher, signal.SIGSTOP)
    world.wanted[job] = Status.CANCELLED
    world.store.cancel(job)
    world.await_death(worker, point)
    if launcher in [pid for pid, _ in world.children()]:
        os.kill(launcher, signal.SIGCONT)
    world.open()


def at_release(world: World, point: str) -> None:
    """It is told to end and has no time to finish its job."""
    world.shut()
    world.submit()
    worker = world.start("worker", point, DRAIN_S=0)
    if world.await_held(worker):
        worker.signal(signal.SIGTERM)
    world.await_death(worker, point)
    world.open()


def at_farewell(world: World, point: str) -> None:
    """It is told to end while it has nothing to do."""
    worker = world.start("worker", point)
    worker.await_word("worker ready")
    worker.signal(signal.SIGTERM)
    world.await_death(worker, point)


def at_pruning(world: World, point: str) -> None:
    """It deletes a job, since retention is over at once."""
    world.deleted.add(ended(world))
    world.await_death(world.start("worker", point, RETENTION_DAYS=1e-6), point)


def at_a_webhook(world: World, point: str) -> None:
    """It has told a receiver of a job's end, or found that it cannot."""
    world.submit(webhook_url="http://192.168.0.1/told")
    world.await_death(world.start("worker", point), point)


def at_upkeep(world: World, point: str) -> None:
    """It does one of the duties of maintenance."""
    duty = {"vacuum": "vacuum", "integrity": "integrity"}.get(point.partition(".")[0], "orphans")
    if duty == "orphans":  # of a job from long ago, which there is no more
        made = world.folder / "made"
        made.write_text("x")
        key = "outputs/019a0000-0000-7000-8000-000000000001/1/mp3"
        world.storage.put(made, key, content_type="audio/mpeg", progress=lambda *_: None)
    world.submit(type="maintenance", params={"duty": duty, **({"delete": True} if duty == "orphans" else {})})
    world.await_death(world.start("worker", point), point)


def at_a_schedule(world: World, point: str) -> None:
    """It makes a job whose time has come; the next time is far away, so there is one."""
    made = Schedule(name="n", cron="0 0 1 1 *", type="maintenance", params={"duty": "vacuum"}, caller="a", due_at=1)
    world.store.put_schedule(made, paused=False)
    world.await_death(world.start("worker", point), point)
    helper = world.start("worker")
    until(lambda: world.store.schedules()[0].last_job_id is not None, helper.tail)
    world.let_go(helper)
    world.wanted[str(world.store.schedules()[0].last_job_id)] = Status.COMPLETED


def at_losers(world: World, point: str) -> None:
    """It begins a second attempt, after one that died with all its files stored."""
    world.submit()
    world.await_death(world.start("worker", "finish.write.before"), "finish.write.before")
    world.await_death(world.start("worker", point), point)


def at_an_old_part(world: World, point: str) -> None:
    """It stores a file where somebody gave up sending one, long ago."""
    parts = world.storage.root / ".incoming"
    world.submit()
    (parts / "old.part").touch()
    os.utime(parts / "old.part", (1, 1))
    world.await_death(world.start("worker", point), point)


def at_proof(world: World, point: str) -> None:
    """It tries its ffmpeg for the first time on this machine."""
    world.settings["TMPDIR"] = folder = world.folder / "tmp"
    kept = folder / f"spool-engines-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    for proof in kept.glob("*.json"):
        proof.unlink()
    if point.startswith("engine.left"):
        (kept / "other.part").touch()
    world.submit()
    world.await_death(world.start("worker", point), point)


def at_secret(world: World, point: str) -> None:
    """It makes the secret that signs addresses."""
    world.settings["SECRET"] = None
    (world.folder / "secret").unlink(missing_ok=True)
    world.submit()
    world.await_death(world.start("worker", point), point)


def at_first_start(world: World, point: str) -> None:
    """It makes the tables."""
    world.await_death(world.start("worker", point), point)


WORKERS: Ways = (
    (r"run_schedule|schedules\.", at_a_schedule),
    (r"vacuum|integrity|kept_outputs", at_upkeep),
    (r"(pending_)?migrat", at_first_start),
    (r"engine\.", at_proof),
    (r"secret\.", at_secret),
    (r"settle_webhooks", at_a_webhook),
    (r"child\.stop", at_cancel),
    (r"launcher\.kill", at_a_frozen_launcher),
    (r"release\.", at_release),
    (r"feed\.|seen\.|add_children", at_collecting),
    (r"inputs\.", at_a_family),
    (r"leave\.|folders\.(home|lock)\.gone", at_farewell),
    (r"prun|give_up_asset|file\.(folder\.)?gone|storage\.delete_prefix", at_pruning),
    (r"file\.abandoned", at_an_old_part),
    (r"claim|heartbeat|clocks|control|finish|reap|tend|attempt|source\.", at_work),
    (r"child\.spawn|survivors|output|folders", at_work),
    (r"storage\.(put|fetch)|file\.(lent|part|data|record|draft|folder)", at_work),
)
#: Other ways to the same points, which the long form takes too.
DETOURS: Ways = (
    (r"claim|heartbeat|control|finish|tend|reap|storage\.(put|fetch)|child\.spawn|output", at_a_family),
    (r"finish|heartbeat|survivors|attempt\.folder\.gone", at_cancel),
    (r"survivors|attempt\.folder\.gone|leave|folders\.(home|lock)\.gone", at_release),
    (r"storage\.(put|delete_prefix)|file\.(folder\.)?gone|finish|claim", at_losers),
)
