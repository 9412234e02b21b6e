"""API keys: `spl_<id>_<secret>`. Only the hash of a key is kept; a name may have two live keys, for rotation."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Literal

#: `read` looks, `write` makes and changes jobs and uploads, `admin` may do everything, deleting jobs included.
Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "write", "admin")
#: Old and new, while clients change over.
MAX_LIVE = 2
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_KEY = re.compile(r"spl_([0-9a-f]{12})_[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as the queue keeps it. Times are milliseconds UTC."""

    id: str
    name: str
    hash: str
    scopes: tuple[Scope, ...]
    created_at: int = 0
    last_used_at: int | None = None
    revoked_at: int | None = None

    @property
    def live(self) -> bool:
        """Whether it still opens."""
        return self.revoked_at is None

    def opens_with(self, text: str) -> bool:
        """Whether `text` is this key; takes the same time for every text."""
        return hmac.compare_digest(self.hash, digest(text)) and self.live


def new_key(name: str, scopes: tuple[Scope, ...]) -> tuple[ApiKey, str]:
    """A fresh key, and its text, which is shown once and kept nowhere."""
    key_id = secrets.token_hex(6)
    text = f"spl_{key_id}_{secrets.token_hex(32)}"
    return ApiKey(id=key_id, name=name, hash=digest(text), scopes=scopes), text


def id_in(text: str) -> str | None:
    """The id of what looks like a key, None for anything else."""
    match = _KEY.fullmatch(text)
    return match[1] if match else None


def digest(text: str) -> str:
    """What is kept of a secret: 256 random bits need no salt and no slow hash."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
