"""Mail that tells that a job has ended, handed to the operator's own SMTP server."""

from __future__ import annotations

import smtplib
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

from shared.text import cleaned

if TYPE_CHECKING:
    from shared.mail_place import MailPlace

#: The whole talk with the server; who sends a notice loses it to another worker a little later.
TALK_S = 45.0
_LISTED = 20
_LONGEST_NAME = 120


class Refused(Exception):
    """The server, or this deployment, will never take this mail. The message is a sentence."""


class NotNow(Exception):
    """It was not handed over, and may be later. The message is a phrase without a full stop."""


def recipient(url: str) -> str:
    """The address that a `mailto:` names."""
    return url.removeprefix("mailto:")


def hand_over(message: EmailMessage, place: MailPlace, *, clock: Callable[[], float] = time.monotonic) -> None:
    """Give a mail to the server, in at most `TALK_S`. Raises `Refused` and `NotNow`."""
    if not place.may_write_to(str(message["To"])):
        raise Refused("SPOOL_MAIL_TO on the worker does not allow mail to that address.")
    until = clock() + TALK_S

    def left() -> float:
        return max(0.1, until - clock())

    try:
        with closing(_connected(place, left())) as server:
            for step in _steps(server, place, message):
                if server.sock is not None:
                    server.sock.settimeout(left())
                step()
            with suppress(OSError, smtplib.SMTPException):  # it has the mail: nobody waits for the farewell
                server.putcmd("QUIT")
    except smtplib.SMTPResponseException as error:
        raise NotNow(f"The mail server {place.host} answered {_words(error.smtp_code, error.smtp_error)}") from None
    except smtplib.SMTPServerDisconnected:
        raise NotNow(f"The mail server {place.host} ended the connection") from None
    except smtplib.SMTPException as error:
        raise NotNow(f"The mail server {place.host} cannot be used: {cleaned(str(error))[:200]}") from None
    except ssl.SSLError as error:
        raise NotNow(f"The mail server {place.host} has no certificate that is trusted ({error.reason})") from None
    except TimeoutError:
        raise NotNow(f"The mail server {place.host} did not answer in time") from None
    except OSError as error:
        why = error.strerror or cleaned(str(error))
        raise NotNow(f"The mail server {place.host} cannot be reached ({why})") from None


def notice(job: dict[str, Any], place: MailPlace, to: str, message_id: str) -> EmailMessage:
    """What a person reads: which job, how it ended, why where it failed, and what was made."""
    name = cleaned(job["name"] or job["type"])[:_LONGEST_NAME]
    mail = EmailMessage()
    mail["Subject"] = f"{name}: {job['status'].replace('_', ' ')}"
    mail["From"], mail["To"] = place.sender, to
    mail["Date"] = format_datetime(datetime.fromtimestamp(job["completed_at"] / 1000, UTC))
    # The same in every try: a mailbox that has had it shows it once.
    mail["Message-ID"] = f"<{message_id}@{place.domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    lines = [f"The {job['type']} of {name} has ended: {job['status'].replace('_', ' ')}.", ""]
    if job["error"]:
        lines += [cleaned(job["error"]["message"]), ""]
    made = job["outputs"]
    lines += [f"  {cleaned(one['name'])}, {one['size_bytes'] / 1e6:.1f} MB" for one in made[:_LISTED]]
    lines += [f"  and {len(made) - _LISTED} more"] if len(made) > _LISTED else []
    lines += ["", f"Job {job['id']}"]
    mail.set_content("\n".join(lines), cte="quoted-printable")
    return mail


def _connected(place: MailPlace, timeout_s: float) -> smtplib.SMTP:
    if place.tls_at_once:
        context = ssl.create_default_context()
        return smtplib.SMTP_SSL(place.host, place.port, place.domain, timeout=timeout_s, context=context)
    return smtplib.SMTP(place.host, place.port, place.domain, timeout=timeout_s)


def _steps(server: smtplib.SMTP, place: MailPlace, message: EmailMessage) -> Iterator[Callable[[], object]]:
    """The talk, one exchange each, so that the time that is left counts for every one of them."""
    yield lambda: _taken(server.ehlo())
    if not place.tls_at_once and not (place.here and place.user is None):
        if server.has_extn("starttls"):
            yield lambda: _taken(server.starttls(context=ssl.create_default_context()))
            yield lambda: _taken(server.ehlo())
        elif place.user is not None:
            raise NotNow(f"The mail server {place.host} offers no TLS, so it is not told the password")
    user = place.user
    if user is not None:
        yield lambda: server.login(user, place.password)
    yield lambda: _taken(server.mail(place.sender))
    # From here on a refusal is about this mail, and no waiting mends it; before, it is about the deployment.
    yield lambda: _taken(server.rcpt(str(message["To"])), for_ever=True)
    yield lambda: _handed_over(server, message)


def _handed_over(server: smtplib.SMTP, message: EmailMessage) -> None:
    try:
        answer = server.data(message.as_bytes(policy=message.policy.clone(linesep="\r\n")))
    except smtplib.SMTPDataError as error:
        answer = (error.smtp_code, error.smtp_error if isinstance(error.smtp_error, bytes) else b"")
    _taken(answer, for_ever=True)


def _taken(answer: tuple[int, bytes], *, for_ever: bool = False) -> None:
    """Take an answer that is 2xx; of others, 5xx is for ever where that is asked."""
    code, said = answer
    if 200 <= code < 300:
        return
    if for_ever and code >= 500:
        raise Refused(f"Its server refuses it: {_words(code, said)}.")
    raise NotNow(f"The mail server answered {_words(code, said)}")


def _words(code: int, said: bytes | str) -> str:
    text = said.decode(errors="replace") if isinstance(said, bytes) else said
    return f"{code} {cleaned(text)[:200]}".rstrip(" .")
