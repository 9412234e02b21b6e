"""What readiness finds wrong with a deployment; `spool doctor` finds the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from functions.readiness import Readiness
from shared import health
from shared.errors import Unavailable
from shared.job import Failure, NewJob, Outcome, new_id
from shared.store.sql import Statement
from shared.store.values import ClaimRequest, Worker

TRANSIENT = Outcome("failed", failure=Failure("network", "transient", "Nobody answers.", "downloading"))
KEEPER = Worker(id="k", host="attic", version="1", types=("maintenance",), slots=1)


def _found(api) -> dict[str, health.Finding]:
    return {finding.what: finding for finding in Readiness().findings(api.store, api.storage)}


def _done(api, duty: str, days_ago: float) -> None:
    api.store.create([NewJob(id=new_id(), type="maintenance", params={"duty": duty})])
    job = api.store.claim(ClaimRequest(KEEPER, new_id(), 90))
    api.store.finish(job.claim, Outcome("completed", result={}))
    past = int(days_ago * 86_400_000)
    api.store._run(
        [Statement("UPDATE upkeep SET done_at = done_at - :past WHERE duty = :duty", {"past": past, "duty": duty})]
    )


def _dead(api) -> None:
    api.submit(max_failures=1)
    api.store.finish(api.claim(), TRANSIENT)


def _alive(api, **metrics) -> None:
    api.store.heartbeat(api.worker, [], lease_s=90, metrics=metrics)


def _clock(api) -> None:
    api.store.check = lambda: 1


WRONG = {
    "workers": (lambda api: None, "None is alive", "spool worker"),
    "worker room": (lambda api: _alive(api, room_bytes=10**9), "Only 1.0 GB are free on here", "SPOOL_WORK_DIR"),
    "dead letters": (_dead, "1 job(s) used up their tries", "spool retry --status dead_letter"),
    "backup": (lambda api: _done(api, "backup", 3), "The newest is 3 days old", "spool maintain backup"),
    "clock": (_clock, "differ by", "Set this machine's clock"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_found_with_its_mend(api, what):
    """Each fault alone is seen, said in a sentence, and with what to do."""
    make, said, mend = WRONG[what]
    make(api)
    finding = _found(api)[what]
    assert not finding.ok
    assert said in finding.found
    assert finding.found.endswith(".")
    assert mend in finding.mend


def test_a_deployment_that_is_well_has_nothing_to_mend(api):
    """A worker with room, and backups of which one was restored."""
    _done(api, "backup", 0.2)
    _done(api, "restore-check", 3)
    _alive(api, room_bytes=10**12, ffmpeg="7.1")
    found = _found(api)
    assert [finding for finding in found.values() if not finding.ok or finding.mend] == []
    assert "ffmpeg 7.1" in found["workers"].found


def _programs(api, registered, types=(), **states) -> list[health.Finding]:
    """What is found about programs when a worker has `types`, and tells of those that it keeps running."""
    told = {f"workflow:{name}": dict(zip(("of", "up", "ended"), state, strict=True)) for name, state in states.items()}
    worker = replace(api.worker, types=tuple(types))
    api.store.heartbeat(worker, [], lease_s=90, metrics={"programs": told})
    found = Readiness().findings(api.store, api.storage, registered)
    return [finding for finding in found if finding.what == "programs"]


@pytest.mark.parametrize(
    ("told", "ok", "said"),
    [
        (({"workflow:svi"}, (), {}), False, "No worker that is alive has workflow:svi"),
        (({"agent:echo"}, ("workflow:svi",), {}), False, "No worker that is alive has agent:echo"),
        (({"workflow:svi"}, ("workflow:svi",), {"svi": (2, 0, 3)}), False, "ended 3 time(s) in a row on here; 0 of 2"),
        (({"workflow:svi"}, ("workflow:svi",), {"svi": (2, 1, 3)}), True, "ended 3 time(s) in a row on here; 1 of 2"),
        (({"workflow:svi"}, ("workflow:svi",), {"svi": (2, 1, 0)}), True, "workflow:svi (1 of 2 ready)"),
        (({"agent:echo"}, ("agent:echo",), {}), True, "on a worker: agent:echo"),
        (((), ("agent:echo",), {}), True, "agent:echo, which is not registered here and is refused"),
    ],
)
def test_a_program_that_nobody_has_or_that_crashes_is_told(api, told, ok, said):
    """What is registered and has no worker, what ends again and again, and what only a worker knows."""
    registered, types, states = told
    finding = _programs(api, registered, types, **states)[0]
    assert (finding.ok, said in finding.found) == (ok, True), finding
    assert bool(finding.mend) == (not finding.found.startswith("on a worker")), finding


def test_readyz_knows_what_its_own_api_has_registered(api_with, tmp_path):
    """The route hands its programs on."""
    (tmp_path / "programs.toml").write_text("[programs.svi]\nkind = 'workflow'\ntitle = 'S'\ncommand = ['svi']\n")
    api = api_with(programs=tmp_path / "programs.toml")
    _alive(api)
    told = [one for one in api.http.get("/readyz").json()["findings"] if one["what"] == "programs"]
    assert [(one["ok"], "workflow:svi" in one["found"]) for one in told] == [(False, True)]


def test_advice_is_no_fault(api):
    """What is paused on purpose, and backups that nobody made or tried."""
    api.store.steer("edit", paused=True, max_running=None, limiting=False)
    found = _found(api)
    assert (found["paused"].ok, found["paused"].mend) == (True, "Go on: spool resume edit")
    assert (found["backup"].ok, "spool schedules defaults" in found["backup"].mend) == (True, True)
    _done(api, "backup", 0)
    assert "spool maintain restore-check" in _found(api)["backup"].mend


def test_without_a_database_the_storage_is_still_looked_at(api):
    """One fault hides no other, and nothing is said about workers that nobody can know."""

    def away() -> int:
        raise Unavailable("The database does not answer.")

    api.store.check = away
    found = _found(api)
    assert (found["database"].ok, found["database"].vital, found["storage"].ok) == (False, True, True)
    assert found["workers"].found.startswith("unknown")
