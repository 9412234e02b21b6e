"""The secret that signs local URLs and cursors."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from shared.crash import around
from shared.errors import ConfigurationError
from shared.settings import Settings


def signing_secret(settings: Settings) -> bytes:
    """`SPOOL_SECRET`, or one made once beside local storage and readable by its owner only.

    Raises `ConfigurationError` where neither is possible: on Lambda every instance must share one.
    """
    if settings.secret is not None:
        return settings.secret.get_secret_value().encode()
    if settings.lambda_function is not None:
        raise ConfigurationError(
            "SPOOL_SECRET is not set: on Lambda all instances must share one; set 32 random letters."
        )
    path = Path(settings.storage_url.removeprefix("file:")).absolute().parent / "secret"
    try:
        return _kept(path)
    except OSError as error:
        raise ConfigurationError(
            f"The secret {path} cannot be read or made ({error.strerror}): mend the folder, or set SPOOL_SECRET."
        ) from error


def _kept(path: Path) -> bytes:
    """The file's content; made first, whole or not at all, when there is none."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, secrets.token_hex(32).encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        # A link fails when another process was first: then its secret is the one.
        with suppress(FileExistsError, FileNotFoundError), around("secret.link"):
            os.link(draft, path)
    # Our own draft, that of a process that died here, or one that comes too late: there is a secret now.
    for draft in path.parent.glob(f"{path.name}.{'[0-9a-f]' * 16}"):
        with around("secret.draft.gone"):
            draft.unlink(missing_ok=True)
    return path.read_bytes()
