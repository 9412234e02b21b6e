"""Mail about jobs that have ended, against a real SMTP server on this machine."""

from __future__ import annotations

import email.policy
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult

from shared.errors import ConfigurationError
from shared.job import Failure, Outcome, new_id
from shared.store.local import LocalJobStore
from shared.store.values import ClaimRequest
from tests.real.authority import Authority
from tests.worker.stand import settings_for, submit
from tests.worker.test_loop import OTHER, store  # noqa: F401 - a fixture
from tests.worker.test_webhooks import finished, overdue, told
from worker.webhooks import PAUSES_S, Courier

TO = "mailto:producer@example.org"


class Post:
    """A real server: what it was handed, and what it answers to RCPT and DATA instead of 250."""

    def __init__(self) -> None:
        self.got: list[EmailMessage] = []
        self.tls: list[bool] = []
        self.users: list[str] = []
        self.answers: dict[str, list[str]] = {"RCPT": [], "DATA": []}

    async def handle_RCPT(self, server: SMTP, session: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802 - aiosmtpd's own name
        """Take a recipient."""
        del server, session, options
        if self.answers["RCPT"]:
            return self.answers["RCPT"].pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:  # noqa: N802 - as above
        """Take a mail."""
        del server
        if self.answers["DATA"]:
            return self.answers["DATA"].pop(0)
        assert envelope.mail_from == "spool@example.org"
        self.tls.append(session.ssl is not None)
        self.got.append(message_from_bytes(envelope.content, policy=email.policy.default))  # type: ignore[arg-type]
        return "250 taken"

    def authenticate(self, server: SMTP, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        """Know one user."""
        del server, session, envelope, mechanism
        self.users.append(data.login.decode())
        return AuthResult(success=data.password == b"p@ss:word", handled=False)


class Server(Controller):
    """A server on a port that was free."""

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@dataclass
class Office:
    """A queue, the courier of a worker, and the server that it hands mail to."""

    store: LocalJobStore
    folder: Path
    post: Post = field(default_factory=Post)
    running: list[Server] = field(default_factory=list)

    def serve(self, **options: Any) -> int:
        """Start the server; returns its port."""
        self.running.append(Server(self.post, hostname="127.0.0.1", port=0, **options))
        self.running[-1].start()
        return self.running[-1].port

    def courier(self, url: str | None, **settings: Any) -> Courier:
        """One that sends mail by the server at this address."""
        mail = {"smtp_url": url, "mail_from": "spool@example.org"} | settings
        return Courier(self.store, settings_for(self.folder, **mail), random.Random(1))


@pytest.fixture
def office(store, tmp_path) -> Iterator[Office]:  # noqa: F811 - a fixture
    """An office whose servers end with the test."""
    office = Office(store, tmp_path)
    yield office
    for one in office.running:
        one.stop()


def test_a_person_reads_what_became_of_the_job(office) -> None:
    """Name, state and files, in one mail that says it is a machine's; the history knows that it went."""
    job = finished(office.store, TO, name="Größe\u202f.wav")
    assert office.courier(f"smtp://127.0.0.1:{office.serve()}").turn() == 1
    (mail,) = office.post.got
    assert (mail["To"], mail["From"], mail["Subject"]) == (
        "producer@example.org",
        "spool@example.org",
        "Größe\u202f.wav: completed",
    )
    assert (mail["Message-ID"], mail["Auto-Submitted"]) == (f"<msg_{job.id}@example.org>", "auto-generated")
    words = mail.get_content()
    assert "The ingest of Größe\u202f.wav has ended: completed." in words
    assert "mp3, 0.0 MB" in words
    assert job.id in words
    assert told(office.store, job) == [("info", "The mail was handed to 127.0.0.1.")]
    overdue(office.store)
    assert office.courier("smtp://127.0.0.1:1").turn() == 0


def test_a_failure_is_explained_in_the_mail(office) -> None:
    """By the sentence of its error; a name without a file's is that of the type."""
    submit(office.store, webhook_url=TO)
    claimed = office.store.claim(ClaimRequest(OTHER, new_id(), 90))
    office.store.finish(
        claimed.claim, Outcome("failed", failure=Failure("bad_input", "permanent", "No sound in it.", "x"))
    )
    office.courier(f"smtp://127.0.0.1:{office.serve()}").turn()
    assert office.post.got[0]["Subject"] == "ingest: failed"
    assert "No sound in it." in office.post.got[0].get_content()


def test_what_the_server_cannot_take_now_is_sent_again(office) -> None:
    """As webhooks are: the same pauses, the same id, given up after three days."""
    job = finished(office.store, TO)
    office.post.answers["DATA"] = ["451 try later"]
    office.post.answers["RCPT"] = ["450 greylisted"]
    sender = office.courier(f"smtp://127.0.0.1:{office.serve()}")
    for said in ("450 greylisted", "451 try later"):
        sender.turn()
        level, sentence = told(office.store, job)[-1]
        assert level == "warn"
        assert sentence.startswith("The mail was not delivered, and is tried again in")
        assert said in sentence
        overdue(office.store)
    sender.turn()
    assert [mail["Message-ID"] for mail in office.post.got] == [f"<msg_{job.id}@example.org>"]
    never = finished(office.store, TO)
    for _ in range(len(PAUSES_S) + 1):
        overdue(office.store)
        office.courier("smtp://127.0.0.1:1").turn()
    assert "given up after 10 tries" in told(office.store, never)[-1][1]
    assert "cannot be reached" in told(office.store, never)[-1][1]


@pytest.mark.parametrize("where", ["RCPT", "DATA"])
def test_a_mail_that_is_refused_for_ever_is_not_sent_again(office, where) -> None:
    """No waiting makes an address exist."""
    job = finished(office.store, TO)
    office.post.answers[where] = ["550 no such person"]
    sender = office.courier(f"smtp://127.0.0.1:{office.serve()}")
    sender.turn()
    assert told(office.store, job) == [("error", "The mail was not sent. Its server refuses it: 550 no such person.")]
    overdue(office.store)
    assert sender.turn() == 0


def test_only_those_whom_the_operator_allows_are_written_to(office) -> None:
    """The sender's own domain, unless addresses or domains are named: a client's job must not write to strangers."""
    url = f"smtp://127.0.0.1:{office.serve()}"
    stranger = finished(office.store, "mailto:victim@elsewhere.example")
    office.courier(url).turn()
    assert "SPOOL_MAIL_TO" in told(office.store, stranger)[-1][1]
    for allowed in ("victim@elsewhere.example", "other.example,Elsewhere.example", "*"):
        finished(office.store, "mailto:victim@elsewhere.example")
        office.courier(url, mail_to=allowed).turn()
    assert len(office.post.got) == 3
    finished(office.store, "mailto:victim@not-elsewhere.example")
    office.courier(url, mail_to="elsewhere.example").turn()
    assert len(office.post.got) == 3


@pytest.mark.parametrize("at_once", [False, True], ids=["STARTTLS", "smtps"])
def test_a_password_goes_through_tls_and_only_there(office, monkeypatch, tmp_path, at_once) -> None:
    """Whose certificate is trusted; a server without TLS is not told it."""
    authority = Authority(tmp_path / "ca")
    user = {"authenticator": office.post.authenticate, "auth_require_tls": not at_once}
    port = office.serve(
        **user, **({"ssl_context": authority.context} if at_once else {"tls_context": authority.context})
    )
    url = f"{'smtps' if at_once else 'smtp'}://studio:p%40ss%3Aword@127.0.0.1:{port}"
    job = finished(office.store, TO)
    office.courier(url).turn()
    assert "certificate" in told(office.store, job)[-1][1]
    assert office.post.users == []
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
    overdue(office.store)
    office.courier(url).turn()
    assert (office.post.users, office.post.tls, len(office.post.got)) == (
        ["studio"],
        [not at_once],
        1,
    )  # a server of smtps tells of no STARTTLS
    overdue(office.store)
    refused = finished(office.store, TO)
    office.courier(url.replace("p%40ss", "wrong")).turn()
    assert "535" in told(office.store, refused)[-1][1]
    plain = finished(office.store, TO)
    office.courier(f"smtp://studio:x@127.0.0.1:{office.serve()}").turn()
    assert "offers no TLS" in told(office.store, plain)[-1][1]
    assert len(office.post.got) == 1


def test_without_a_server_the_history_says_what_to_set(office) -> None:
    """It waits like a webhook without a secret."""
    job = finished(office.store, TO)
    office.courier(None).turn()
    assert "SPOOL_SMTP_URL is not set on the worker" in told(office.store, job)[-1][1]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"smtp_url": "mail.example.org", "mail_from": "a@b.c"}, "SPOOL_SMTP_URL: use smtps://"),
        ({"smtp_url": "smtp://h:x", "mail_from": "a@b.c"}, "SPOOL_SMTP_URL: use smtps://"),
        ({"smtp_url": "smtp://h"}, "SPOOL_MAIL_FROM: set"),
        ({"smtp_url": "smtp://h", "mail_from": "A <a@b.c>"}, "SPOOL_MAIL_FROM: set"),
        ({"smtp_url": "smtp://h", "mail_from": "a@b.c", "mail_to": "b.c,<x>"}, "SPOOL_MAIL_TO: '<x>'"),
    ],
)
def test_settings_of_mail_that_cannot_work_stop_the_start(tmp_path: Path, settings, said) -> None:
    """With the name of the one to mend."""
    with pytest.raises(ConfigurationError, match=said):
        settings_for(tmp_path, **settings)
