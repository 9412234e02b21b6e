"""The Lambda entry: the application is built when the instance starts, so that requests find it ready."""

from __future__ import annotations

from mangum import Mangum

from functions.app import create_app
from shared.settings import load_settings
from shared.storage import get_storage
from shared.store import get_job_store

_settings = load_settings()
handler = Mangum(
    create_app(_settings, get_job_store(_settings), get_storage(_settings)),
    lifespan="off",
    # All other kinds travel as base64, a third larger.
    text_mime_types=["text/", "application/json", "application/problem+json", "image/svg+xml"],
)
