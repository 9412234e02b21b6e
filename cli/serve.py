"""`spool api`: the API and the dashboard under uvicorn."""

from __future__ import annotations

import socket

import uvicorn

from cli.connections import HEAD_LIMIT_BYTES, Patient
from cli.dev import listener
from cli.errors import USAGE, CommandError
from functions.app import create_app
from shared import crash
from shared.log import configure_log
from shared.misspelt import warn_of_misspelt
from shared.settings import Settings
from shared.storage import get_storage
from shared.store import get_job_store

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
#: Streams and long polls never end by themselves: how long a stopping server waits for them.
_GOODBYE_S = 3


def run_api(settings: Settings, *, host: str, port: int, fd: int | None) -> None:
    """Serve until SIGTERM or SIGINT, on `host` and `port` or on a listening socket inherited as `fd`."""
    configure_log(settings)
    warn_of_misspelt()
    crash.arm(settings)
    store = get_job_store(settings)
    migrated = not store.pending_migrations()
    closed = bool(settings.api_tokens) or (migrated and bool(store.api_keys()))
    if host not in LOOPBACK and not closed:
        raise CommandError(
            f"Without keys and tokens the API serves this machine only, not {host}. Make a key with "
            "`spool keys create`, set SPOOL_API_TOKENS to a long random word, or leave --host out.",
            USAGE,
        )
    if not migrated:
        raise CommandError(
            "The database is not up to date. Run `spool migrate` first, or start everything with `spool dev`."
        )
    app = create_app(settings, store, get_storage(settings))
    config = uvicorn.Config(
        app,
        http=Patient,
        h11_max_incomplete_event_size=HEAD_LIMIT_BYTES,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=_GOODBYE_S,
    )
    bound = listener(host, port) if fd is None else socket.socket(fileno=fd)
    if fd is None:
        shown = f"[{host}]" if ":" in host else host
        print(f"API and dashboard: http://{shown}:{bound.getsockname()[1]}/  (Ctrl-C ends it)", flush=True)
        if not closed:
            print("Only programs on this machine may call; `spool keys create NAME` opens it to others.", flush=True)
    uvicorn.Server(config).run(sockets=[bound])
