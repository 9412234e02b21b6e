"""Job commands against a real API, with and without a worker."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from cli.client import Client
from cli.jobs import history
from tests.cli.conftest import Dev, Spool, until


def queued(spool: Spool, tone: Path, *options: str) -> str:
    """Queue one job; returns its id."""
    ran = spool("submit", "ingest", str(tone), "--json", *options)
    assert ran.code == 0, ran.err
    return ran.json()["id"]


def test_a_submitted_file_is_a_pending_job_that_is_listed_and_shown(idle_spool: Spool, tone: Path):
    """With its tag, in JSON and in words."""
    job_id = queued(idle_spool, tone, "--tag", "listed")
    page = idle_spool("jobs", "--tag", "listed", "--json").json()
    assert [job["id"] for job in page["items"]] == [job_id]
    assert page["items"][0]["status"] == "pending"
    assert job_id in idle_spool("jobs", "--status", "pending", "--type", "ingest").out
    assert [one["id"] for one in idle_spool("jobs", "--text", job_id, "--json").json()["items"]] == [job_id]
    assert idle_spool("jobs", "--text", "no such name", "--json").json()["items"] == []
    shown = idle_spool("show", job_id).out
    assert "pending" in shown
    assert "listed" in shown
    assert idle_spool("show", job_id, "--json").json()["id"] == job_id


def test_submit_says_how_to_follow_the_job(idle_spool: Spool, tone: Path):
    """Exit code 0 at once: it is queued."""
    ran = idle_spool("submit", "ingest", str(tone))
    assert ran.code == 0
    assert "tone.wav: queued as " in ran.out
    assert "Follow it: spool watch " in ran.out


def test_a_waiting_job_is_cancelled_at_once(idle_spool: Spool, tone: Path):
    """A second cancel of it is no error; watching it ends with exit code 1."""
    job_id = queued(idle_spool, tone)
    assert idle_spool("cancel", job_id).out == f"{job_id}: cancelled\n"
    assert idle_spool("cancel", job_id, "--json").json()["status"] == "cancelled"
    watched = idle_spool("watch", job_id)
    assert watched.code == 1
    assert f"{tone.name}: cancelled" in watched.out


def test_a_cancelled_job_is_run_again_as_a_new_one(idle_spool: Spool, tone: Path):
    """And a waiting one is not: that is refused with a sentence."""
    job_id = queued(idle_spool, tone)
    refused = idle_spool("retry", job_id)
    assert refused.code == 1
    assert refused.err.strip()
    idle_spool("cancel", job_id)
    again = idle_spool("retry", job_id, "--json").json()
    assert again["retry_of"] == job_id
    assert again["id"] != job_id


def test_a_purged_job_is_gone(idle_spool: Spool, tone: Path):
    """Deleting it leaves nothing to show."""
    job_id = queued(idle_spool, tone)
    idle_spool("cancel", job_id)
    assert idle_spool("purge", job_id, "--json").json() == {"id": job_id, "deleted": True}
    gone = idle_spool("show", job_id)
    assert gone.code == 2
    assert gone.err.strip()


def test_ctrl_c_while_watching_leaves_the_job_and_says_how_to_go_on(idle_spool: Spool, tone: Path):
    """The job is still there afterwards."""
    process = idle_spool.start("submit", "ingest", str(tone), "--watch")
    assert process.stdout is not None
    seen = next(line for line in process.stdout if "waiting" in line)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert seen.startswith("tone.wav")
    assert process.returncode == 130
    job_id = said.partition("spool watch ")[2].split()[0]
    assert f"spool cancel {job_id}" in said
    assert idle_spool("show", job_id, "--json").json()["status"] == "pending"


def test_a_word_that_is_no_command_or_value_is_a_matter_of_usage(idle_spool: Spool, tone: Path):
    """Exit code 2 for each, with a sentence."""
    for args in (
        ["jbos"],
        ["submit", "ingset", str(tone)],
        ["submit", "ingest", "missing.wav"],
        ["submit", "ingest", str(tone), "--preset", "podcats"],
        ["jobs", "--status", "finished"],
        ["show", "no-such-job"],
        ["watch", "no-such-job"],
    ):
        ran = idle_spool(*args)
        assert ran.code == 2, (args, ran)
        assert ran.err.strip(), args
        assert ran.out == "", args


def test_stats_count_what_waits(idle_spool: Spool, tone: Path):
    """In JSON and in words."""
    queued(idle_spool, tone)
    assert idle_spool("stats", "--json").json()
    assert "pending" in idle_spool("stats").out


def test_a_file_becomes_exactly_loud_files_on_disk(spool: Spool, tone: Path):
    """From a file to a summary and to finished files, and the originals stay as they are."""
    spool.folder.joinpath("out").mkdir()
    spool.folder.joinpath("out", "tone.mp3").write_bytes(b"mine")
    ran = spool("submit", "ingest", str(tone), "--output", "mp3:128", "--output", "flac", "--watch", "-o", "out")
    assert ran.code == 0, ran
    assert "tone.wav: completed" in ran.out
    assert "LUFS" in ran.out
    assert spool.folder.joinpath("out", "tone.mp3").read_bytes() == b"mine"
    assert spool.folder.joinpath("out", "tone-2.mp3").stat().st_size > 10_000
    assert spool.folder.joinpath("out", "tone.flac").stat().st_size > 10_000
    assert not list(spool.folder.rglob("*.part"))


def test_watch_in_json_prints_the_ended_job_and_nothing_else(spool: Spool, tone: Path):
    """One job per line, whole."""
    ran = spool("submit", "ingest", str(tone), str(tone), "--watch", "--json")
    assert ran.code == 0, ran
    assert ran.err == ""
    jobs = ran.lines()
    assert [job["status"] for job in jobs] == ["completed", "completed"]
    assert abs(jobs[0]["result"]["after"]["mp3"]["integrated_lufs"] - jobs[0]["result"]["target_lufs"]) <= 0.1


def test_a_file_that_is_no_media_fails_with_its_reason_and_exit_code_1(spool: Spool):
    """The sentence is the worker's; the log is one command away."""
    fake = spool.folder / "fake.mp3"
    fake.write_text("This is no sound at all. " * 100)
    ran = spool("submit", "ingest", str(fake), "--watch")
    assert ran.code == 1, ran
    assert "fake.mp3: failed: " in ran.out
    job_id = ran.out.partition("spool logs ")[2].split()[0]
    log = spool("logs", job_id, "--follow")
    assert log.code == 0
    assert log.out.strip()
    events = spool("logs", job_id, "--json").lines()
    assert {event["job_id"] for event in events} == {job_id}


def test_jobs_of_one_error_are_listed_and_run_again(spool: Spool):
    """By the code that `spool jobs` shows; another code matches none of them."""
    fake = spool.folder / "other.mp3"
    fake.write_text("This is no sound at all. " * 100)
    failed = spool("submit", "ingest", str(fake), "--watch", "--tag", "fake", "--json").json()
    code = failed["error"]["code"]
    assert [one["id"] for one in spool("jobs", "--error", code, "--tag", "fake", "--json").json()["items"]] == [
        failed["id"]
    ]
    assert code in spool("jobs", "--error", code).out
    assert spool("retry", "--error", "out_of_disk", "--tag", "fake", "--json").json() == {"retried": 0, "skipped": 0}
    assert spool("retry", "--error", code, "--tag", "fake", "--json").json() == {"retried": 1, "skipped": 0}


def test_a_followed_history_ends_with_the_jobs_last_line(idle_spool: Spool, tone: Path):
    """`logs --follow` returns once the job has ended, and not before it has told how."""
    job_id = queued(idle_spool, tone)
    process = idle_spool.start("logs", job_id, "--follow", "--json")
    assert process.stdout is not None
    first = process.stdout.readline()
    idle_spool("cancel", job_id)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert first + rest == idle_spool("logs", job_id, "--json").out
    assert json.loads(rest.splitlines()[-1])["message"] == "cancelled"


def test_a_long_history_is_read_page_by_page(idle: Dev, idle_spool: Spool, tone: Path):
    """No line is lost between two pages, and none comes twice."""
    job_id = queued(idle_spool, tone)
    idle_spool("cancel", job_id)
    client = Client(idle.url)
    whole = [event["id"] for event in history(client, job_id, level="debug", keep_on=False)]
    paged = [event["id"] for event in history(client, job_id, level="debug", keep_on=False, page=1)]
    client.close()
    assert len(whole) >= 2
    assert paged == whole


def test_doctor_finds_a_running_set_up_well(dev: Dev, spool: Spool):
    """Exit code 0, every line ok, once the worker was heard from."""
    until(lambda: bool(spool("stats", "--json").json()["workers"]), "the worker's first heartbeat")
    well = Spool(dev.folder, spool.settings)("doctor")
    assert well.code == 0, well
    assert "WRONG" not in well.out
    assert {line.split()[1] for line in well.out.splitlines()} == {
        "settings", "presets", "database", "clock", "storage", "workers", "worker", "dead", "backup",
        "ffmpeg", "room", "api",
    }  # fmt: skip


def test_doctor_says_what_is_missing_and_how_to_mend_it(lone_spool: Spool):
    """On a bare folder: no migrations, no worker, no API; ffmpeg is there, and one of two registered programs."""
    for name, command in (("here", "{python}"), ("elsewhere", "/nowhere/svi")):
        with (lone_spool.folder / "programs.toml").open("a") as file:
            file.write(f"[programs.{name}]\nkind = 'agent'\ntitle = 'A'\ncommand = ['{command}']\n")
    (lone_spool.folder / ".env").write_text("SPOOL_SLTS=4\n")
    ran = Spool(lone_spool.folder, {**lone_spool.settings, "SPOOL_PROGRAMS": "programs.toml"})("doctor", "--json")
    assert ran.code == 1
    found = {finding["what"]: finding for finding in ran.json()}
    assert found["settings"]["found"] == "SPOOL_SLTS is no setting; did you mean SPOOL_SLOTS?"
    assert (found["settings"]["ok"], "mend its name" in found["settings"]["mend"]) == (True, True)
    assert found["ffmpeg"]["ok"]
    assert not found["database"]["ok"]
    assert "spool migrate" in found["database"]["mend"]
    assert not found["workers"]["ok"]
    assert not found["api"]["ok"]
    assert "spool dev" in found["api"]["found"]
    assert found["here"]["ok"]
    assert found["here"]["found"].startswith("agent:elsewhere cannot be started on this machine: /nowhere/svi")
