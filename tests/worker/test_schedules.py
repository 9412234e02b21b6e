"""Workers make the jobs of schedules: each time once, and after a long absence once, too."""

from __future__ import annotations

import itertools
import threading
from contextlib import closing

from shared.store.local import LocalJobStore
from shared.store.values import JobFilter, Schedule
from tests.worker.stand import settings_for
from tests.worker.test_janitor import Place, place

__all__ = ["place"]  # a fixture


def _schedule(place: Place, **fields) -> Schedule:
    made = {"name": "feed", "cron": "0 * * * *", "type": "ingest", "params": {}, "caller": "a", "due_at": 1}
    return place.store.put_schedule(Schedule(**(made | fields)), paused=False)


def _made(place: Place) -> list[str]:
    return [job.id for job in place.store.list(JobFilter(tag="schedule:feed"), limit=200).items]


def test_a_schedule_that_was_missed_for_years_runs_once(place):
    """Not once for every hour: the next time lies ahead, and until it comes nothing more is made."""
    _schedule(place)
    place.spend(60)
    made = _made(place)
    assert len(made) == 1
    place.store.cancel(made[0])
    place.spend(60)
    assert _made(place) == made
    assert place.store.schedules()[0].due_at > place.store.check()


def test_schedules_that_are_due_together_run_one_after_the_other(place):
    """One at each turn, so that no heartbeat waits for many of them."""
    for name in ("feed", "other", "third"):
        _schedule(place, name=name)
    made = []
    for _ in range(60):
        place.spend(1)
        made.append(len(place.store.list(JobFilter(), limit=10).items))
    assert max(after - before for before, after in itertools.pairwise(made)) == 1
    assert made[-1] == 3


def test_janitors_that_race_make_each_job_once(place):
    """Four workers look at the same moment, ten times: ten jobs."""
    for _ in range(10):
        _schedule(place)
        gate, errors = threading.Barrier(4), []

        def look(gate=gate, errors=errors) -> None:
            try:
                with closing(LocalJobStore(place.folder / "spool.db")) as store:
                    janitor = Place(store, place.storage, place.folder).janitor
                    gate.wait(60)
                    janitor._run_schedule()
            except Exception as error:  # noqa: BLE001 - told to the test
                errors.append(error)

        workers = [threading.Thread(target=look) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert errors == []
        place.store.cancel(place.store.schedules()[0].last_job_id)
    assert len(_made(place)) == 10
    assert place.store.schedules()[0].skipped == 0


def test_a_worker_leaves_a_schedule_of_a_type_that_it_does_not_know(place):
    """A newer one will come, or one that has the program: nothing is made, and the time stays due until then."""
    _schedule(place, type="workflow:shout", params={"text": "hi"})
    place.spend(60)
    assert _made(place) == []
    assert place.store.schedules()[0].due_at == 1
    file = place.folder / "programs.toml"
    file.write_text("[programs.shout]\nkind = 'workflow'\ntitle = 'Shout'\ncommand = ['shout']\ntimeout_s = 200\n")
    place.settings = settings_for(place.folder, programs=file)
    place.janitor = place.hire()
    place.spend(60)
    (job,) = (place.store.get(job_id) for job_id in _made(place))
    assert (job.type, job.params, job.timeout_s) == ("workflow:shout", {"text": "hi"}, 200)
