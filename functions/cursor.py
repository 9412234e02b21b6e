"""Where a list continues, as an opaque word that cannot be made up."""

from __future__ import annotations

import base64
import hashlib
import hmac

from functions.problems import invalid
from shared.errors import FieldError

_TAG_BYTES = 10


def signed(seq: int, secret: bytes) -> str:
    """The cursor of a place in the list."""
    place = seq.to_bytes(8)
    return base64.urlsafe_b64encode(place + _tag(place, secret)).decode()


def seq_at(cursor: str, secret: bytes) -> int:
    """The place a cursor stands for. Raises `Invalid` when it is not one of ours."""
    try:
        raw = base64.b64decode(cursor, altchars=b"-_", validate=True)
    except ValueError:
        raw = b""
    if len(raw) != 8 + _TAG_BYTES or not hmac.compare_digest(raw[8:], _tag(raw[:8], secret)):
        raise invalid([FieldError("cursor", "is not one this server gave; start again without it")])
    return int.from_bytes(raw[:8])


def _tag(place: bytes, secret: bytes) -> bytes:
    return hmac.new(secret, b"cursor\n" + place, hashlib.sha256).digest()[:_TAG_BYTES]
