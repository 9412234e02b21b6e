"""GET /metrics: read by the library's own parser, true to the queue, and cheap."""

from __future__ import annotations

import math

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from functions.app import create_app
from functions.metrics import Metrics
from shared.job import Failure, Outcome
from shared.keys import new_key
from shared.store.sql import Statement
from tests.functions.api import HERE, problem
from tests.functions.test_jobs import counted

WORKER_SAID = {
    "stages": {"ingest/encoding": [3, 12.5]},
    "failures": {"transient": 2, "permanent": 1},
    "retries": 2,
    "lost_claims": 1,
    "reaped": 4,
    "child_cpu_s": 99.5,
    "child_cpu_peak_s": 40.25,
    "child_rss_peak_bytes": 123456789,
    "round_trips": 77,
    "rows_read": 88,
    "rows_written": 99,
    "programs": {"workflow:svi": {"of": 3, "up": 1, "ended": 5}},
}
HOUR = """
INSERT INTO tally VALUES (:hour, 'ingest', 'completed', 10, 5000, 70000, 600000, '{"b2": 10}', '{"b5": 10}')
"""


@pytest.fixture
def scrape(api):
    """Scrapes an API; samples by name and label values, without the worker's id."""

    def read(http=api.http):
        api.app.state.context.metrics._read_at -= 3  # the last answer is not remembered
        answer = http.get("/metrics")
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        return samples(answer.text)

    return read


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Every sample of an exposition, by its name and its labels' values."""
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        assert family.type in {"gauge", "counter", "histogram", "summary"}
        for sample in family.samples:
            labels = sorted(sample.labels.items(), reverse=True)  # the type comes first
            key = (sample.name, *(value for name, value in labels if name not in {"worker", "host"}))
            assert key not in found, key
            found[key] = sample.value
    return found


def finish(api, word="completed", **result) -> None:
    """The oldest job ends."""
    failure = Failure("bad_input.empty", "permanent", "Empty.", None) if word == "failed" else None
    api.store.finish(api.claim(), Outcome(word, result={"media_ms": 1500} | result, failure=failure))


def test_what_happened_is_told(api, scrape):
    """States, ends, age, histograms and media of real jobs."""
    for word in ("completed", "completed", "failed"):
        api.submit()
        finish(api, word)
    api.submit()
    cancelled = api.submit()["id"]
    api.http.post(f"/api/jobs/{cancelled}/cancel")
    found = scrape()
    assert found["spool_jobs", "ingest", "pending"] == 1
    assert found["spool_jobs_ended_total", "ingest", "completed"] == 2
    assert found["spool_jobs_ended_total", "ingest", "failed"] == 1
    assert found["spool_jobs_ended_total", "ingest", "cancelled"] == 1
    assert found["spool_media_seconds_total", "ingest"] == 4.5
    assert found["spool_queue_oldest_seconds",] >= 0
    for name in ("spool_job_wait_seconds", "spool_job_run_seconds"):
        assert found[f"{name}_count", "ingest"] == 3
        assert found[f"{name}_sum", "ingest"] >= 0
        buckets = [value for key, value in found.items() if key[0] == f"{name}_bucket"]
        assert buckets == sorted(buckets)
        assert buckets[-1] == found[f"{name}_bucket", "ingest", "+Inf"] == 3


def test_an_empty_queue_has_metrics_too(scrape):
    """From the first scrape on."""
    found = scrape()
    assert found["spool_queue_oldest_seconds",] == 0
    assert found["spool_database_round_trips_total", "api"] >= 1


def test_what_only_a_worker_knows_comes_with_its_heartbeat(api, scrape):
    """Stages, errors by kind, retries, lost claims, programs and its database; and its slots while it is heard of."""
    api.store.heartbeat(api.worker, [], lease_s=90, metrics=WORKER_SAID)
    assert f'worker="{api.worker.id}"' in api.http.get("/metrics").text
    found = scrape()
    assert found["spool_worker_slots",] == 1
    assert found["spool_worker_running",] == 0
    assert found["spool_stage_seconds_sum", "ingest", "encoding"] == 12.5
    assert found["spool_stage_seconds_count", "ingest", "encoding"] == 3
    assert found["spool_attempts_failed_total", "transient"] == 2
    assert found["spool_programs", "workflow:svi", "up"] == 1
    assert found["spool_programs", "workflow:svi", "down"] == 2
    told = {
        "spool_retries_total": 2,
        "spool_claims_lost_total": 1,
        "spool_jobs_reaped_total": 4,
        "spool_child_cpu_seconds_total": 99.5,
        "spool_child_cpu_peak_seconds": 40.25,
        "spool_child_memory_peak_bytes": 123456789,
    }
    assert {name: found[name,] for name in told} == told
    asked = {"round_trips": 77, "rows_read": 88, "rows_written": 99}
    assert {name: found[f"spool_database_{name}_total", "worker"] for name in asked} == asked
    api.store._run([Statement("UPDATE worker SET seen_at = seen_at - 91000")])
    found = scrape()
    assert ("spool_worker_slots",) not in found
    assert found["spool_worker_silent_seconds",] >= 91


def test_totals_survive_restarts_and_every_process_tells_the_same(api, scrape):
    """They are the database's: another process that has never been asked begins where the others are."""
    api.submit()
    finish(api)
    api.store._run([Statement(HOUR, {"hour": 100}), Statement(HOUR, {"hour": 5000})])
    before = scrape()
    assert before["spool_jobs_ended_total", "ingest", "completed"] == 21
    other = TestClient(create_app(api.settings, api.store, api.storage), base_url=HERE)
    answer = samples(other.get("/metrics").text)
    totals = {key: value for key, value in before.items() if "ended" in key[0] or "_seconds_" in key[0]}
    assert {key: answer[key] for key in totals} == totals
    assert before["spool_job_run_seconds_bucket", "ingest", f"{128 * 2**5 / 1000:g}"] >= 20
    assert before["spool_job_run_seconds_bucket", "ingest", f"{128 * 2**4 / 1000:g}"] == 1


@pytest.mark.parametrize("noticed", [True, False], ids=["time passes", "the machine slept"])
def test_hours_that_are_over_are_not_read_again_and_counted_once(api, scrape, monkeypatch, noticed):
    """Sums stay the same while hours close, and what ends meanwhile is added; also when hours passed unseen."""
    api.submit()
    finish(api)
    api.store._run([Statement(HOUR, {"hour": 100})])
    metrics: Metrics = api.app.state.context.metrics
    asked, stats = [], api.store.stats
    monkeypatch.setattr(api.store, "stats", lambda hours: asked.append(hours) or stats(hours=hours))
    total = 11
    for hours in (0, 1, 3, 1, 7, 200):
        # As if time passed: the rows are older by so much, and so is what was read before.
        older = Statement("UPDATE tally SET hour = -hour - :hours", {"hours": hours})
        api.store._run([Statement("UPDATE tally SET hour = -hour"), older])
        metrics._closed_to -= hours if metrics._closed_to >= 0 else 0
        metrics._read_at -= 3600 * hours if noticed else 0
        api.submit()
        finish(api)
        total += 1
        assert scrape()["spool_jobs_ended_total", "ingest", "completed"] == total
        assert scrape()["spool_jobs_ended_total", "ingest", "completed"] == total
    assert (max(asked[1:]) < 300) == noticed


def test_a_scrape_is_one_round_trip_and_none_within_two_seconds(api, monkeypatch):
    """However many Prometheus servers ask."""
    api.http.get("/metrics")
    trips: list[int] = []
    for name in ("_run", "_read"):
        monkeypatch.setattr(api.store, name, counted(getattr(api.store, name), trips))
    now = [math.inf]
    api.app.state.context.metrics._clock = lambda: now[0]
    now[0] = api.app.state.context.metrics._read_at + 2.1
    for _ in range(5):
        assert api.http.get("/metrics").status_code == 200
    assert len(trips) == 1


def test_metrics_need_a_key_that_reads(api):
    """They tell what the deployment does."""
    for scopes, status in (((("read",)), 200), ((("write",)), 403)):
        made, text = new_key(f"prometheus-{status}", scopes)
        api.store.add_key(made)
        ring = api.app.state.context.keyring
        ring.learn(api.store.api_keys(), ring.clock())
        assert api.http.get("/metrics", headers={"Authorization": f"Bearer {text}"}).status_code == status
    problem(api.http.get("/metrics"), 401, "unauthorized")


def test_a_lambda_does_not_count_itself(api_with):
    """Its processes come and go, and each scrape meets another: a counter of one of them would jump."""
    api = api_with(lambda_function="spool", secret="x", api_tokens="t")
    found = samples(api.http.get("/metrics", headers={"Authorization": "Bearer t"}).text)
    assert ("spool_database_round_trips_total", "api") not in found
