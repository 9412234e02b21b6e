"""Where notices are mailed from: an SMTP server, who writes, and who may be written to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

#: One ordinary address, without a name or quotes.
ADDRESS = r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*"
_PORTS = {"smtp": 587, "smtps": 465}
_HERE = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class MailPlace:
    """An SMTP server. `tls_at_once` is for `smtps:`; else TLS is begun where the server offers it."""

    host: str
    port: int
    tls_at_once: bool
    user: str | None
    password: str
    sender: str
    to: tuple[str, ...]

    @property
    def here(self) -> bool:
        """Whether nothing leaves this machine on the way to it."""
        return self.host in _HERE

    @property
    def domain(self) -> str:
        """What the sender's address ends in."""
        return self.sender.rpartition("@")[2]

    def may_write_to(self, address: str) -> bool:
        """Whether the operator allows mail to it: else whoever may queue jobs could write to anybody in his name."""
        allowed = {one.lower() for one in self.to} or {self.domain.lower()}
        return "*" in allowed or bool({address.lower(), address.lower().rpartition("@")[2]} & allowed)


def mail_place(url: str, sender: str | None, to: Sequence[str]) -> MailPlace:
    """Read `smtps://user:password@host:465`. Raises `ValueError` with a sentence."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in _PORTS or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ValueError("SPOOL_SMTP_URL: use smtps://user:password@host or smtp://host:port, escaped as in a link")
    if sender is None or not re.fullmatch(ADDRESS, sender):
        raise ValueError("SPOOL_MAIL_FROM: set the address that mail comes from, such as spool@example.org")
    for one in to:
        if one != "*" and not re.fullmatch(ADDRESS, one) and not re.fullmatch(ADDRESS, f"x@{one}"):
            raise ValueError(f"SPOOL_MAIL_TO: {one!r} is no address, no domain and not *")
    return MailPlace(
        host=parts.hostname,
        port=port or _PORTS[parts.scheme],
        tls_at_once=parts.scheme == "smtps",
        user=None if parts.username is None else unquote(parts.username),
        password=unquote(parts.password or ""),
        sender=sender,
        to=tuple(to),
    )
