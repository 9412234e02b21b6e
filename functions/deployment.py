"""What a Lambda function runs: the application with the settings of its deployment, behind Mangum."""

from __future__ import annotations

from mangum import Mangum

from functions.app import create_app
from functions.secrets import read_secrets
from shared.log import configure_log
from shared.misspelt import warn_of_misspelt
from shared.settings import Settings, aws_identity, load_settings
from shared.storage import get_storage
from shared.store import get_job_store


def deployed_settings() -> Settings:
    """The settings of this deployment; its secrets come from SSM where `SPOOL_SECRETS_PATH` names a place there."""
    settings = load_settings()
    if settings.secrets_path is None:
        return settings
    return load_settings(**read_secrets(settings.secrets_path, settings.aws_region or "us-east-1", aws_identity()))


_settings = deployed_settings()
configure_log(_settings)
warn_of_misspelt()
handler = Mangum(
    create_app(_settings, get_job_store(_settings), get_storage(_settings)),
    lifespan="off",
    # All other kinds travel as base64, a third larger.
    text_mime_types=["text/", "application/json", "application/problem+json", "image/svg+xml"],
)
