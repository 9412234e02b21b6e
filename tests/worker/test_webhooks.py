"""Webhooks on the wire: signed as Standard Webhooks say, tried again, never into the operator's network."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from shared.job import Job, Outcome, Output, Status, new_id
from shared.store.local import LocalJobStore
from shared.store.sql import Statement
from shared.store.values import ClaimRequest
from tests.worker.stand import PATIENCE_S, Stand, settings_for, submit, until
from tests.worker.test_loop import OTHER, ended, store  # noqa: F401 - a fixture
from worker.fetch import Network
from worker.webhooks import PAUSES_S, Courier

LOOPBACK = ipaddress.ip_address("127.0.0.1")
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NEWER = "whsec_" + "QUFB" * 12


@dataclass
class Receiver:
    """A web server on this machine: what it was sent, and what it answers."""

    port: int
    answers: list[int] = field(default_factory=list)
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    heard: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def url(self, path: str = "/hook?key=hidden") -> str:
        """Its address by a name that only the tests' network knows."""
        return f"http://hooks.example:{self.port}{path}"

    @property
    def network(self) -> Network:
        """The network in which every name leads here."""
        return Network(allow=lambda address, _: address == LOOPBACK, resolve=lambda *_: [LOOPBACK])


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A running receiver; it answers 204 unless told otherwise, and 0 is no answer at all."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            running.got.append((dict(self.headers.items()), body))
            status = running.answers.pop(0) if running.answers else 204
            if status:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                if status == 302:
                    self.send_header("Location", f"http://hooks.example:{running.port}/elsewhere")
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self.end_headers()
            running.heard.release()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running = Receiver(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def courier(store, receiver, tmp_path) -> Callable[..., Courier]:  # noqa: F811 - a fixture
    """A courier whose every name leads to the receiver."""

    def make(**changed: Any) -> Courier:
        options = {"network": receiver.network, "webhook_secret": SECRET} | changed
        network = options.pop("network")
        return Courier(store, settings_for(tmp_path, **options), random.Random(1), network=network)

    return make


def finished(store: LocalJobStore, url: str, **fields: Any) -> Job:  # noqa: F811 - a fixture
    """A job that has ended well, with a file, and that nobody was told of yet."""
    job = submit(store, webhook_url=url, **fields)
    claimed = store.claim(ClaimRequest(OTHER, new_id(), 90))
    assert claimed is not None
    assert claimed.id == job.id
    output = Output("mp3", f"outputs/{job.id}/1/mp3", "audio/mpeg", 12, "0" * 64)
    return store.finish(claimed.claim, Outcome("completed", result={"media_ms": 7}, outputs=(output,))).job


def overdue(store: LocalJobStore) -> None:  # noqa: F811 - a fixture
    """Let the time of every webhook come."""
    store._run([Statement("UPDATE webhook SET due_at = 1")])


def told(store: LocalJobStore, job: Job) -> list[tuple[str, str]]:  # noqa: F811 - a fixture
    """Level and sentence of every try."""
    return [(event.level, event.message) for event in store.events(job.id) if event.kind == "log"]


def test_a_delivery_verifies_and_tells_what_happened(store, receiver, courier) -> None:  # noqa: F811 - fixtures
    """By the independent library; the content names the job as the API does, without where its files are."""
    job = finished(store, receiver.url(), tags=("a", "é"))
    assert courier().turn() == 1
    ((headers, body),) = receiver.got
    content = Verifier(SECRET).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Verifier(NEWER).verify(body, headers)
    assert content["type"] == "job.completed"
    data = content["data"]
    assert (data["id"], data["status"], data["type"], data["tags"]) == (job.id, "completed", "ingest", ["a", "é"])
    assert data["result"] == {"media_ms": 7}
    assert data["outputs"] == [{"name": "mp3", "content_type": "audio/mpeg", "size_bytes": 12, "sha256": "0" * 64}]
    assert content["timestamp"] == data["completed_at"]
    assert data["completed_at"].endswith("Z")
    assert headers["webhook-id"] == f"msg_{job.id}"
    assert headers["Host"] == f"hooks.example:{receiver.port}"
    assert told(store, job) == [("info", "The webhook was delivered.")]
    event = next(event for event in store.events(job.id) if event.kind == "log")
    assert event.data == {
        "webhook_id": f"msg_{job.id}", "host": f"hooks.example:{receiver.port}", "try": 1, "status": 204,
    }  # fmt: skip
    assert "hidden" not in json.dumps([event.data for event in store.events(job.id)])
    overdue(store)
    assert courier().turn() == 0


def test_while_secrets_change_over_both_verify(store, receiver, courier) -> None:  # noqa: F811 - fixtures
    """One signature for each."""
    finished(store, receiver.url())
    courier(webhook_secret=f"{NEWER},{SECRET}").turn()
    ((headers, body),) = receiver.got
    for secret in (SECRET, NEWER):
        assert Verifier(secret).verify(body, headers)["type"] == "job.completed"


@pytest.mark.parametrize("answer", [500, 404, 302, 429, 0], ids=["500", "404", "a redirect", "429", "none"])
def test_what_is_not_taken_is_sent_again_with_the_same_id(store, receiver, courier, answer) -> None:  # noqa: F811 - fixtures
    """After a pause with jitter; redirects are not followed."""
    job = finished(store, receiver.url())
    receiver.answers = [answer]
    courier().turn()
    assert len(receiver.got) == 1
    ((level, sentence),) = told(store, job)
    assert level == "warn"
    assert "tried again in" in sentence
    (row,) = store._read([Statement("SELECT due_at, leased FROM webhook")])[0]
    assert row["leased"] == 0
    assert (row["due_at"] - store.check()) / 1000 <= 1.2 * PAUSES_S[0]
    overdue(store)
    courier().turn()
    ids = {headers["webhook-id"] for headers, _ in receiver.got}
    assert (len(receiver.got), len(ids)) == (2, 1)
    assert receiver.got[0][1] == receiver.got[1][1]
    assert told(store, job)[-1] == ("info", "The webhook was delivered.")


def test_after_three_days_it_is_given_up(store, receiver, courier) -> None:  # noqa: F811 - fixtures
    """The last line of the history says so, and nothing is left to send."""
    job = finished(store, receiver.url())
    receiver.answers = [503] * 20
    for _ in range(len(PAUSES_S) + 1):
        overdue(store)
        assert courier().turn() == 1
    level, sentence = told(store, job)[-1]
    assert level == "error"
    assert "given up after 10 tries" in sentence
    overdue(store)
    assert courier().turn() == 0
    assert 2 * 86_400 < sum(PAUSES_S) < 4 * 86_400


def test_a_receiver_that_is_gone_gets_nothing_more(store, receiver, courier) -> None:  # noqa: F811 - fixtures
    """410 ends this webhook, and later ones to that address are told of as not sent."""
    first = finished(store, receiver.url())
    receiver.answers = [410]
    courier().turn()
    second = finished(store, receiver.url())
    courier().turn()
    assert len(receiver.got) == 1
    assert "410" in told(store, first)[-1][1]
    assert told(store, second)[-1][1].startswith("The webhook was not sent")
    finished(store, receiver.url("/other"))
    courier().turn()
    assert len(receiver.got) == 2


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "10.0.0.1", "0x7f.1"])
def test_nothing_is_sent_into_the_operators_network(store, receiver, courier, host) -> None:  # noqa: F811 - fixtures
    """The product's own policy; it is final, since no waiting makes such an address public."""
    job = finished(store, f"http://{host}:{receiver.port}/hook")
    courier(network=None).turn()
    assert receiver.got == []
    ((level, sentence),) = told(store, job)
    assert level == "error"
    assert "not an ordinary address of the public internet" in sentence
    overdue(store)
    assert courier().turn() == 0


def test_without_a_secret_nothing_is_sent_unsigned(store, receiver, courier) -> None:  # noqa: F811 - fixtures
    """It waits, and the history says what is missing; once that is set it goes."""
    job = finished(store, receiver.url())
    courier(webhook_secret="").turn()
    assert receiver.got == []
    assert "SPOOL_WEBHOOK_SECRET" in told(store, job)[-1][1]
    overdue(store)
    courier().turn()
    assert len(receiver.got) == 1


def test_a_sender_that_died_on_the_way_is_replaced(store, receiver, courier) -> None:  # noqa: F811 - fixtures
    """It took the webhook and was never heard of again: another sends it when its time is over, with the same id."""
    job = finished(store, receiver.url())
    assert len(store.claim_webhooks(limit=4, lease_s=60)) == 1
    overdue(store)
    courier().turn()
    ((headers, _),) = receiver.got
    assert headers["webhook-id"] == f"msg_{job.id}"


def test_a_worker_tells_of_its_own_jobs_at_once(store, receiver, tmp_path: Path) -> None:  # noqa: F811 - fixtures
    """And of what ended while no worker was there. The job itself never waits for the receiver."""
    before = finished(store, receiver.url("/before"))
    receiver.answers = [204, 0]
    settings = settings_for(tmp_path, webhook_secret=SECRET, lease_s=3600.0)  # it looks by itself every ten minutes
    stand = Stand(store, settings, network=receiver.network)
    stand.start()
    try:
        assert receiver.heard.acquire(timeout=PATIENCE_S)
        job = submit(store, webhook_url=receiver.url("/now"))
        assert until(store, job, ended).status is Status.COMPLETED
        assert receiver.heard.acquire(timeout=PATIENCE_S)
    finally:
        stand.drop()
    ids = [headers["webhook-id"] for headers, _ in receiver.got]
    assert ids == [f"msg_{before.id}", f"msg_{job.id}"]
