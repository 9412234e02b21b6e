"""`spool keys`: the keys of a deployment, in its database, since the first one cannot come through the API."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.table import Table

from cli.errors import USAGE, CommandError
from shared.keys import NAME, SCOPES, ApiKey, Scope, new_key
from shared.settings import Settings
from shared.store import get_job_store
from shared.store.protocol import JobStore

_USUAL: tuple[Scope, ...] = ("read", "write")


@dataclass(frozen=True, slots=True)
class Made:
    """A new key, its text, and whether it is the first there ever was."""

    key: ApiKey
    text: str
    first: bool

    def as_json(self) -> dict[str, Any]:
        """For a program."""
        return {**_row(self.key), "key": self.text}

    def lines(self) -> list[str]:
        """For a person."""
        lines = [
            f"{self.key.name}: a key with the scopes {', '.join(self.key.scopes)}, shown this once; keep it safe:",
            self.text,
            "Clients send it as `Authorization: Bearer`, the spool command as SPOOL_API_TOKEN.",
        ]
        if self.first:
            lines.append("It is the first: from now on (running APIs: within 30 seconds) nobody gets in without one.")
        return lines


def create(settings: Settings, name: str, scopes: tuple[str, ...]) -> Made:
    """Make a key. Raises `CommandError` for a wrong name or scope, `Conflict` when the name has two live ones."""
    if not NAME.fullmatch(name):
        raise CommandError(
            f"{name!r} is no name for a key: use up to 63 small letters, digits, dots, dashes and underscores.", USAGE
        )
    wanted = tuple(scope for scope in SCOPES if scope in (scopes or _USUAL))
    if unknown := sorted(set(scopes) - set(SCOPES)):
        raise CommandError(f"{unknown[0]!r} is no scope; choose from {', '.join(SCOPES)}.", USAGE)
    store = _store(settings)
    key, text = new_key(name, wanted)
    first = not store.api_keys()
    return Made(store.add_key(key), text, first)


def listed(settings: Settings) -> list[dict[str, Any]]:
    """Every key, oldest first."""
    return [_row(key) for key in _store(settings).api_keys()]


def revoke(settings: Settings, key_id: str) -> dict[str, Any]:
    """Shut a key out. Raises `NotFound`."""
    return _row(_store(settings).revoke_key(key_id))


def table(rows: list[dict[str, Any]]) -> Table:
    """The keys for a person."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("id", "name", "scopes", "created", "last used", "revoked"):
        made.add_column(title, no_wrap=True)
    for row in rows:
        times = (row["created_at"], row["last_used_at"] or "never", row["revoked_at"] or "")
        made.add_row(row["id"], row["name"], " ".join(row["scopes"]), *times)
    return made


def _store(settings: Settings) -> JobStore:
    store = get_job_store(settings)
    if store.pending_migrations():
        raise CommandError("The database is not up to date. Run `spool migrate` first.")
    return store


def _row(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": list(key.scopes),
        "created_at": _iso(key.created_at),
        "last_used_at": _iso(key.last_used_at),
        "revoked_at": _iso(key.revoked_at),
    }


def _iso(at_ms: int | None) -> str | None:
    return None if at_ms is None else f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
