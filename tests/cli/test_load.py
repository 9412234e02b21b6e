"""`spool load` makes as many jobs as it says, follows each to its end, and says how that went."""

from __future__ import annotations

from tests.cli.conftest import Spool


def test_every_job_is_made_followed_and_counted(spool: Spool):
    """The counts add up, and every time is there."""
    ran = spool("load", "--count", "3", "--poll", "--json")
    found = ran.json()
    assert ran.code == 0
    assert (found["jobs"], found["ended"]) == (3, {"completed": 3})
    assert found["polls"] > found["polls_unchanged"] >= 0
    assert all(found[name]["max"] >= found[name]["p50"] > 0 for name in ("create_ms", "poll_ms", "run_ms"))
    tagged = spool("jobs", "--tag", "load", "--json").json()
    assert {job["status"] for job in tagged["items"]} == {"completed"}


def test_another_address_can_be_named(idle_spool: Spool, idle):
    """Without --poll nothing is waited for; nobody there is exit code 3, with a sentence."""
    idle_spool.settings["SPOOL_API_URL"] = "http://127.0.0.1:9"
    ran = idle_spool("load", idle.url, "--count", "2")
    assert ran.code == 0, ran
    assert ran.out.startswith("2 jobs, ")
    gone = idle_spool("load", "--count", "1")
    assert (gone.code, gone.out) == (3, "")
    assert "127.0.0.1:9" in gone.err
