"""Workers and APIs kill themselves at every crash point there is, and nothing comes of it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from shared.store.local import LocalJobStore
from shared.store.sql import SqlJobStore
from shared.store.turso import TursoJobStore
from tests.chaos.conftest import FULL
from tests.chaos.deaths import TABLES, apis, workers
from tests.chaos.deaths.ways import Ways, all_ways, way
from tests.chaos.points import all_points, callers_of, unguarded_moves
from tests.chaos.world import Place, Verdict, World
from tests.real.sqld import Sqld

DATABASES = {"sqlite": LocalJobStore} | ({"libsql": TursoJobStore} if FULL else {})
#: Only points whose names begin so, for whoever looks into one of them.
ONLY = os.environ.get("CRASH_AT", "")
#: Worlds at once: most of a world's time is waiting for leases to end.
AT_ONCE = 4
#: Verbs of the store that no process of the product calls.
UNUSED = ("add_key", "revoke_key")
#: Verbs by which people steer, one at a time: the short form takes the death that leaves a write without its answer.
BY_HAND = (
    "cancel_matching",
    "retry_matching",
    "steer",
    "put_schedule",
    "remove_schedule",
    "run_schedule",
    "schedules",
    "upkeep",
    "vacuum",
    "integrity",
    "kept_outputs",
)
#: What dies there leaves what another point leaves, the one that comes before it or that of an uncommitted write: the
#: short form dies at that one only. Not so before a record or a secret is put in its place, with its draft written.
TWINS = re.compile(
    r".+\.(read|write)\.before|(attempt|folders|output|source|storage)\..+\.before"
    r"|file\.(?!record).+\.before|secret\.draft\.gone\.before"
)
#: Moves that need no crash point.
PRIVATE = {
    "shared/crash.py: passed: os.kill": "the death itself",
    "shared/secret.py: _kept: path.parent.mkdir": "an empty folder that is to be there",
    "shared/store/local.py: _connect: self._path.parent.mkdir": "an empty folder that is to be there",
    "shared/store/backup.py: back_up: os.link": "a command of its own, which neither side runs",
    "shared/store/backup.py: back_up: part.unlink": "a command of its own, which neither side runs",
    "worker/delivery.py: _in_parts: path.unlink": "in the attempt's folder, which goes as a whole",
    "worker/excerpts.py: loss_db: coded.unlink": "in the attempt's folder, which goes as a whole",
    "worker/folders.py: fault: trial.unlink": "in the worker's folder, which goes as a whole",
    "worker/fetch.py: _save: part.replace": "in the attempt's folder, which goes as a whole",
    "worker/fetch.py: _save: part.unlink": "in the attempt's folder, which goes as a whole",
    "worker/pipelines/agent.py: converse: folder.mkdir": "in the attempt's folder, which goes as a whole",
    "worker/pipelines/workflow.py: download: work.folder.mkdir": "in the attempt's folder, which goes as a whole",
    "worker/pool.py: begin: self._folder.mkdir": "in the worker's folder, which goes as a whole",
    "worker/pipelines/edit.py: edit: parts.mkdir": "in the attempt's folder, which goes as a whole",
    "worker/pipelines/edit.py: edit: shutil.rmtree": "in the attempt's folder, which goes as a whole",
    "worker/pipelines/render.py: mix: parts.mkdir": "in the attempt's folder, which goes as a whole",
    "worker/pipelines/render.py: mix: shutil.rmtree": "in the attempt's folder, which goes as a whole",
    "worker/loudness.py: _printed: path.unlink": "in the attempt's folder, which goes as a whole",
    "worker/launcher.py: start: os.fork": "another program, whose death tests/worker/test_process.py is about",
}


@dataclass(frozen=True)
class Plan:
    """One world, and the points at which processes die in it, one after the other."""

    scenario: Callable[..., None]
    points: Sequence[str]


def points(adapter: type[SqlJobStore]) -> list[str]:
    """Every point that a process of the product can come to on one kind of database."""
    unused = tuple(f"{verb}." for verb in UNUSED)
    return sorted(name for name in all_points(adapter) if not name.startswith(unused))


def plans(adapter: type[SqlJobStore], ways: Ways, detours: Ways, split: Callable[..., None]) -> list[Plan]:
    """Points by the first way to each, in the full form all of them by all ways; `split` is one with many points."""
    found: dict[Callable[..., None], list[str]] = {}
    for name in filter(_taken, points(adapter)):
        taken = [way(ways, name), *(all_ways(detours, name) if FULL else ())]
        for scenario in filter(None, taken) if name.startswith(ONLY) else ():
            found.setdefault(scenario, []).append(name)
    for names in found.values():
        names.reverse()  # what dies before a move leaves it to those that die after it
    crowd = found.pop(split, [])
    parts = [Plan(split, crowd[start::AT_ONCE]) for start in range(min(AT_ONCE, len(crowd)))]
    return [*(Plan(scenario, names) for scenario, names in found.items()), *parts]


def _taken(point: str) -> bool:
    if FULL or point.endswith("write.after"):
        return True
    return point.partition(".")[0] not in BY_HAND and not TWINS.fullmatch(point)


def test_every_move_has_a_crash_point():
    """No file is moved and no process started or killed where no crash point is, but for those with a reason."""
    assert unguarded_moves() == PRIVATE.keys()


@pytest.mark.parametrize("adapter", [LocalJobStore, TursoJobStore])
def test_every_crash_point_is_reached(adapter):
    """There is a way to each; verbs that have none are called by nobody."""
    lonely = [name for name in points(adapter) if not any(way(ways, name) for ways in TABLES)]
    assert lonely == []
    assert [caller for verb in UNUSED for caller in callers_of(verb)] == []


@pytest.mark.parametrize("database", DATABASES)
def test_a_worker_may_die_anywhere(place, database, record_property):
    """It kills itself at every point; the next ones do its work, each job ends once, and no process or file is left."""

    def die(world: World, plan: Plan) -> None:
        for name in plan.points:
            plan.scenario(world, name)

    todo = plans(DATABASES[database], workers.WORKERS, workers.DETOURS, workers.at_work)
    record_property("figure", _account(place, database, "workers", todo, die))


@pytest.mark.parametrize("database", DATABASES)
def test_an_api_may_die_anywhere(place, database, record_property):
    """It kills itself at every point; its client asks another one the same, and the answer and the rows are right."""

    def die(world: World, plan: Plan) -> None:
        _, living = world.start_api()
        for name in plan.points:
            plan.scenario(apis.Client(world, name, living))

    todo = plans(DATABASES[database], apis.APIS, apis.API_DETOURS, apis.sending)
    record_property("figure", _account(place, database, "APIs", todo, die))


def _account(place: Place, database: str, what: str, todo: Sequence[Plan], die: Callable[[World, Plan], None]) -> str:
    """Let all these worlds live and die, some at once, and say what that has cost: nothing, or it fails."""
    began = time.monotonic()

    def live(plan: Plan) -> Verdict:
        name = f"{database}-{what}-{todo.index(plan)}"
        with ExitStack() as stack:
            server = stack.enter_context(Sqld(place.folder / f"{name}-server")) if database == "libsql" else None
            migrated = plan.scenario is not workers.at_first_start
            world = World(place, name, server=server.url if server else None, migrated=migrated)
            stack.callback(world.end)
            die(world, plan)
            world.finish()
            return world.verdict() + world.clear()

    with ThreadPoolExecutor(AT_ONCE) as pool:
        ended = [pool.submit(live, plan) for plan in todo]
    if errors := [error for future in ended if (error := future.exception()) is not None]:
        raise AssertionError("\n\n".join(f"{type(error).__name__}: {error}" for error in errors)) from errors[0]
    total = sum((future.result() for future in ended), Verdict())
    names = {name for plan in todo for name in plan.points}
    assert total.deaths >= len(names)
    assert total.innocent
    return f"{what} on {database}, {len(names)} points: {total}, {time.monotonic() - began:.0f} s"
