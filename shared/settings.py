"""Every setting, read once from the environment and `.env` into one frozen object."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared.errors import ConfigurationError
from shared.types import JOB_TYPES


class Settings(BaseSettings):
    """What a deployment may decide. A wrong value stops the start with a sentence: use `load_settings`."""

    model_config = SettingsConfigDict(
        env_prefix="SPOOL_", env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True, populate_by_name=True
    )

    database_url: str = Field(
        default="sqlite:///.spool/spool.db",
        validation_alias=AliasChoices("SPOOL_DATABASE_URL", "TURSO_DATABASE_URL"),
    )
    database_token: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("SPOOL_DATABASE_TOKEN", "TURSO_AUTH_TOKEN")
    )
    storage_url: str = "file:.spool/storage"
    api_url: str = "http://127.0.0.1:8000"
    api_token: SecretStr | None = None
    api_tokens: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    rate_limit: int = Field(default=60, ge=0, le=100_000)
    slots: int = Field(default=1, ge=1, le=64)
    heartbeat_s: float = Field(default=5.0, ge=0.2, le=300)
    lease_s: float = Field(default=90.0, ge=2, le=3600)
    control_s: float = Field(default=1.0, ge=0.05, le=60)
    drain_s: float = Field(default=25.0, ge=0, le=300)
    cancel_grace_s: float = Field(default=5.0, ge=0.1, le=60)
    timeouts: Annotated[dict[str, float], NoDecode] = {}
    retention_days: float = Field(default=30.0, gt=0, le=3650)
    ephemeral: bool = False
    secret: SecretStr | None = None
    #: Where attempts keep their files while they run; the system's temporary folder when left out.
    work_dir: Path | None = None
    ffmpeg: Path | None = None
    ffprobe: Path | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "human", "auto"] = "auto"
    #: Set by AWS inside a Lambda function; None everywhere else.
    lambda_function: str | None = Field(default=None, validation_alias=AliasChoices("AWS_LAMBDA_FUNCTION_NAME"))

    @field_validator("api_tokens", "cors_origins", mode="before")
    @classmethod
    def _split_list(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("timeouts", mode="before")
    @classmethod
    def _split_timeouts(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = dict(part.partition("=")[::2] for part in value.split(",") if part.strip())
        return {name.strip(): seconds.strip() for name, seconds in pairs.items()}

    @field_validator("timeouts")
    @classmethod
    def _timeouts_name_types(cls, value: dict[str, float]) -> dict[str, float]:
        for name, seconds in value.items():
            if name not in JOB_TYPES:
                raise ValueError(f"{name!r} is no job type; choose from {', '.join(JOB_TYPES)}")
            if seconds <= 0:
                raise ValueError(f"the timeout of {name} must be over 0 seconds")
        return value

    @field_validator("database_url")
    @classmethod
    def _database_scheme(cls, value: str) -> str:
        if not value.startswith(("sqlite:///", "libsql://", "https://", "http://")):
            raise ValueError("use sqlite:///path/to/file.db, libsql://…, https://… or http://…")
        return value

    @field_validator("api_url")
    @classmethod
    def _api_url_scheme(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("use http://host:port or https://host, the address of the Spool API")
        return value.rstrip("/")

    @field_validator("storage_url")
    @classmethod
    def _storage_scheme(cls, value: str) -> str:
        if not value.startswith("file:"):
            raise ValueError("use file:path/to/folder")
        return value

    @model_validator(mode="after")
    def _lease_outlives_three_heartbeats(self) -> Self:
        needed = 3 * self.heartbeat_s + self.cancel_grace_s + self.lease_margin_s
        if self.lease_s < needed:
            raise ValueError(
                f"SPOOL_LEASE_S is {self.lease_s:g} but must be at least {needed:g}: three heartbeats "
                f"({3 * self.heartbeat_s:g} s), the cancel grace ({self.cancel_grace_s:g} s) and a margin "
                f"({self.lease_margin_s:g} s)"
            )
        return self

    @property
    def lease_margin_s(self) -> float:
        """How long before the end of its lease a worker must have stopped its children."""
        return min(5.0, self.lease_s / 10)

    def timeout_s(self, job_type: str) -> float:
        """The longest an attempt of this type may take."""
        return self.timeouts.get(job_type, JOB_TYPES[job_type].timeout_s)


def load_settings(**overrides: object) -> Settings:
    """Read the settings; `overrides` win. Raises `ConfigurationError` with one sentence per wrong value."""
    try:
        return Settings(**overrides)  # type: ignore[arg-type]  # pydantic checks the values
    except ValidationError as error:
        sentences = []
        for item in error.errors(include_url=False, include_input=False):
            name = "_".join(str(part) for part in item["loc"][:1])
            prefix = f"{name if name.isupper() else 'SPOOL_' + name.upper()}: " if name else ""
            sentences.append(prefix + item["msg"].removeprefix("Value error, "))
        raise ConfigurationError("; ".join(sentences)) from None


def environment_with(**changed: object) -> dict[str, str]:
    """The environment of a child process: this one's, with these settings changed."""
    settings = {f"SPOOL_{name.upper()}": str(value) for name, value in changed.items()}
    return {**os.environ, **settings}  # noqa: TID251 - this is the file that reads the environment
