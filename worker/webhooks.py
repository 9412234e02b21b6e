"""Tells receivers that a job has ended, by webhook or mail: tried again for days, never in the job's transaction."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import structlog

from shared.errors import JobFailure, Unavailable
from shared.store.values import Sent, Webhook
from worker.fetch import Network, post
from worker.mail import NotNow, Refused, hand_over, notice, recipient
from worker.stop import Reason, Stop, Stopped

if TYPE_CHECKING:
    from shared.settings import Settings
    from shared.store.protocol import JobStore

_log = structlog.get_logger("spool.worker")
#: Between the tries of one webhook: about three days in all, as Standard Webhooks recommends.
PAUSES_S = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
#: A receiver has so long to answer, and whoever sends to it loses it to another worker after that and some more.
ANSWER_S, LEASE_S = 20.0, 60.0
#: Receivers are told at the same time, so that a slow one holds up few others.
AT_ONCE = 4
#: A receiver that answered 410 is left alone for so long, whichever job asks for it.
DISABLED_S = 86_400.0
#: Failures of the address itself, which no waiting mends.
_FINAL = frozenset({"network.blocked_address", "network.bad_url"})
_GONE = 410
_FAREWELL_S = 5.0


class Courier:
    """One thread of a worker that delivers what is due: at once when nudged, else it looks a few times a minute."""

    def __init__(
        self,
        store: JobStore,
        settings: Settings,
        chance: random.Random,
        *,
        network: Network | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._chance, self._network, self._clock = store, chance, network, clock
        self._secrets = [secret.get_secret_value() for secret in settings.webhook_secret]
        self._mail = settings.mail
        self._look_s = settings.lease_s / 6
        self._news, self._closing, self._stop = threading.Event(), threading.Event(), Stop()
        self._thread = threading.Thread(target=self._live, name="courier", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def nudge(self) -> None:
        """A job has ended that may have a webhook."""
        self._news.set()

    def close(self) -> None:
        """End; what is on its way gets a moment, and is sent again by another worker when that is not enough."""
        self._closing.set()
        self._news.set()
        self._thread.join(_FAREWELL_S)
        self._stop.request(Reason.SHUTDOWN)
        self._thread.join(_FAREWELL_S)

    def _live(self) -> None:
        while not self._closing.is_set():
            self._news.clear()
            sent = 0
            try:
                sent = self.turn()
            except (Unavailable, Stopped):
                pass  # the store tells of it once for the whole process; the lease brings the webhooks back
            except Exception as error:  # noqa: BLE001 - without this thread nobody would be told of anything
                _log.error("webhooks failed in a way nobody expected", exc_info=error)
            if not sent:
                self._news.wait(self._look_s * self._chance.uniform(0.8, 1.2))

    def turn(self) -> int:
        """Deliver a few of those that are due; returns how many were tried (two round trips, one when none is due)."""
        due = self._store.claim_webhooks(limit=AT_ONCE, lease_s=LEASE_S)
        if due:
            with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="webhook") as pool:
                sent = [one for one in pool.map(self._deliver, due) if one is not None]
            self._store.settle_webhooks(sent, disabled_s=DISABLED_S)
        return len(due)

    def _deliver(self, webhook: Webhook) -> Sent | None:
        """One try; None when it was cut short by the worker's end."""
        try:
            if webhook.gone or webhook.job is None:
                return self._needless(webhook)
            send = self._mailed if webhook.url.startswith("mailto:") else self._posted
            return send(webhook, webhook.job)
        except Stopped:
            return None
        except JobFailure as failure:
            if failure.failure_code not in _FINAL:
                return self._failed(webhook, failure.message.rstrip("."))
            return Sent(webhook, "error", f"The webhook was not sent. {failure.message}", self._data(webhook))
        except Exception as error:  # noqa: BLE001 - it must end in a settled try, or it would be sent for ever
            _log.error("a webhook failed in a way nobody expected", job=webhook.job_id, exc_info=error)
            return self._failed(webhook, "Something went wrong inside Spool that it did not expect")

    def _needless(self, webhook: Webhook) -> Sent:
        if webhook.job is None:
            return Sent(webhook, "info", "The job was deleted before its webhook was sent.", {})
        sentence = "The webhook was not sent: its receiver answered 410 (gone) within the last day."
        return Sent(webhook, "warn", sentence, self._data(webhook))

    def _mailed(self, webhook: Webhook, job: dict[str, Any]) -> Sent:
        to = recipient(webhook.url)
        if self._mail is None:
            return self._failed(webhook, "SPOOL_SMTP_URL is not set on the worker, so it cannot send mail")
        try:
            hand_over(notice(job, self._mail, to, message_id(webhook.job_id)), self._mail)
        except Refused as error:
            return Sent(webhook, "error", f"The mail was not sent. {error}", self._data(webhook))
        except NotNow as error:
            return self._failed(webhook, str(error))
        return Sent(webhook, "info", f"The mail was handed to {self._mail.host}.", self._data(webhook))

    def _posted(self, webhook: Webhook, job: dict[str, Any]) -> Sent:
        if not self._secrets:
            return self._failed(webhook, "SPOOL_WEBHOOK_SECRET is not set on the worker, so it cannot be signed")
        body = payload(job)
        headers = signed_headers(message_id(webhook.job_id), int(self._clock()), body, self._secrets)
        status = post(webhook.url, body, headers, stop=self._stop, timeout_s=ANSWER_S, network=self._network)
        return self._judged(webhook, status)

    def _judged(self, webhook: Webhook, status: int) -> Sent:
        if 200 <= status < 300:
            return Sent(webhook, "info", "The webhook was delivered.", self._data(webhook, status))
        if status == _GONE:
            sentence = "The webhook's receiver answered 410 (gone): it gets no more for a day."
            return Sent(webhook, "error", sentence, self._data(webhook, status), gone=True)
        return self._failed(webhook, f"Its receiver answered {status}", status)

    def _failed(self, webhook: Webhook, reason: str, status: int | None = None) -> Sent:
        data = self._data(webhook, status)
        what = "mail" if webhook.url.startswith("mailto:") else "webhook"
        if webhook.attempts > len(PAUSES_S):
            sentence = f"The {what} was given up after {webhook.attempts} tries. {reason}."
            return Sent(webhook, "error", sentence, data)
        after_s = PAUSES_S[webhook.attempts - 1] * self._chance.uniform(0.8, 1.2)
        sentence = f"The {what} was not delivered, and is tried again in {_span(after_s)}. {reason}."
        return Sent(webhook, "warn", sentence, data, after_s=after_s)

    @staticmethod
    def _data(webhook: Webhook, status: int | None = None) -> dict[str, Any]:
        """What the history keeps beside the sentence: never the whole address, which may hold a secret."""
        host = urlsplit(webhook.url).netloc or recipient(webhook.url).rpartition("@")[2]
        return {"webhook_id": message_id(webhook.job_id), "host": host, "try": webhook.attempts, "status": status}


def message_id(job_id: str) -> str:
    """The same in every try, so that a receiver knows what it has had: a job ends once."""
    return f"msg_{job_id}"


def payload(job: dict[str, Any]) -> bytes:
    """What a receiver is told: the job as the API names it, without where its files are."""
    outputs = [{name: one[name] for name in ("name", "content_type", "size_bytes", "sha256")} for one in job["outputs"]]
    times = {name: _iso(job[name]) for name in ("created_at", "started_at", "completed_at")}
    told = {
        "type": f"job.{job['status']}",
        "timestamp": times["completed_at"],
        "data": {**job, "outputs": outputs, **times},
    }
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()


def signed_headers(identity: str, at_s: int, body: bytes, secrets: Sequence[str]) -> dict[str, str]:
    """The headers of Standard Webhooks, with one signature for each secret."""
    signed = f"{identity}.{at_s}.".encode() + body
    signatures = [
        base64.b64encode(hmac.digest(base64.b64decode(secret.removeprefix("whsec_")), signed, hashlib.sha256)).decode()
        for secret in secrets
    ]
    return {
        "Content-Type": "application/json",
        "webhook-id": identity,
        "webhook-timestamp": str(at_s),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def _iso(at_ms: int | None) -> str | None:
    if at_ms is None:
        return None
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _span(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
