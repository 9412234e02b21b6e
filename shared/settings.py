"""Every setting, read once from the environment and `.env` into one frozen object."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import (
    AliasChoices,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, DotEnvSettingsSource, NoDecode, SettingsConfigDict

from shared.errors import ConfigurationError
from shared.mail_place import MailPlace, mail_place

if TYPE_CHECKING:
    from shared.presets import Preset
    from shared.programs import Program
    from shared.types import JobType

# What job types, presets and programs are is imported where it is asked for: a command that only talks to the API asks
# for none of it, and starts in half the time.

#: Providers that name the region in their address.
_REGION_IN_HOST = re.compile(r"s3\.([a-z0-9-]+)\.(?:backblazeb2\.com|wasabisys\.com|scw\.cloud|amazonaws\.com)")


@dataclass(frozen=True, slots=True)
class S3Place:
    """A bucket, what all keys in it begin with, and who keeps it: AWS where `endpoint_url` is None.

    `write_once` is False for a server that does not know `If-None-Match`.
    """

    bucket: str
    prefix: str
    endpoint_url: str | None
    region: str
    write_once: bool = True


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
    #: Set by AWS inside a Lambda function, and by many people for AWS's own tools.
    aws_region: str | None = Field(default=None, validation_alias=AliasChoices("AWS_REGION", "AWS_DEFAULT_REGION"))
    storage_url: str = "file:.spool/storage"
    api_url: str = "http://127.0.0.1:8000"
    api_token: SecretStr | None = None
    api_tokens: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    rate_limit: int = Field(default=60, ge=0, le=100_000)
    max_waiting: int = Field(default=10_000, ge=0, le=1_000_000)
    slots: int = Field(default=1, ge=1, le=64)
    heartbeat_s: float = Field(default=5.0, ge=0.2, le=300)
    lease_s: float = Field(default=90.0, ge=2, le=3600)
    control_s: float = Field(default=1.0, ge=0.05, le=60)
    drain_s: float = Field(default=25.0, ge=0, le=300)
    cancel_grace_s: float = Field(default=5.0, ge=0.1, le=60)
    timeouts: Annotated[dict[str, float], NoDecode] = {}
    #: A TOML file of this deployment's own presets; read once, here.
    presets: Path | None = None
    retention_days: float = Field(default=30.0, gt=0, le=3650)
    ephemeral: bool = False
    secret: SecretStr | None = None
    #: Signs webhooks, as `whsec_` and base64; two with a comma while receivers change over.
    webhook_secret: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    #: The server that notices are mailed through, `smtps://user:password@host`; None for no mail.
    smtp_url: SecretStr | None = None
    mail_from: str | None = None
    #: Who may be written to: addresses, domains, or `*`. The sender's own domain when left out.
    mail_to: Annotated[tuple[str, ...], NoDecode] = ()
    #: Where attempts keep their files while they run; the system's temporary folder when left out.
    work_dir: Path | None = None
    #: What the files of one attempt may take of it, the source included.
    work_quota_gb: float = Field(default=64.0, gt=0, le=1_000_000)
    ffmpeg: Path | None = None
    ffprobe: Path | None = None
    #: The file that registers external programs.
    programs: Path | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "human", "auto"] = "auto"
    #: On Lambda: the SSM path under which `database-token`, `api-tokens` and `secret` are kept.
    secrets_path: str | None = Field(default=None, pattern=r"^(/[A-Za-z0-9_.-]+)+$")
    #: Where traces are sent, under OpenTelemetry's own names; what else they set is read by its packages.
    otlp_endpoint: str | None = Field(
        default=None,
        validation_alias=AliasChoices("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
    )
    #: Set by AWS inside a Lambda function; None everywhere else.
    lambda_function: str | None = Field(default=None, validation_alias=AliasChoices("AWS_LAMBDA_FUNCTION_NAME"))

    _own_presets: Mapping[str, Preset] | None = PrivateAttr(default=None)
    _mail: MailPlace | None = PrivateAttr(default=None)

    @field_validator("api_tokens", "cors_origins", "webhook_secret", "mail_to", mode="before")
    @classmethod
    def _split_list(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("log_level", "log_format", mode="before")
    @classmethod
    def _in_any_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("timeouts", mode="before")
    @classmethod
    def _split_timeouts(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = [part.strip().partition("=")[::2] for part in value.split(",") if part.strip()]
        for name, seconds in pairs:
            if not re.fullmatch(r"-?\d+(\.\d+)?", seconds.strip()):
                raise ValueError(f"{name.strip()!r} has no number of seconds; write ingest=3600,edit=600")
        return {name.strip(): seconds.strip() for name, seconds in pairs}

    @field_validator("timeouts")
    @classmethod
    def _timeouts_name_types(cls, value: dict[str, float]) -> dict[str, float]:
        if not value:
            return value
        from shared.types import JOB_TYPES  # noqa: PLC0415 - see above

        for name, seconds in value.items():
            if name not in JOB_TYPES:
                raise ValueError(f"{name!r} is no job type; choose from {', '.join(JOB_TYPES)}")
            if seconds <= 0:
                raise ValueError(f"the timeout of {name} must be over 0 seconds")
        return value

    @field_validator("webhook_secret")
    @classmethod
    def _webhook_secrets_sign(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for secret in value:
            match = re.fullmatch(r"whsec_([A-Za-z0-9+/]{32,88}={0,2})", secret.get_secret_value())
            if match is None or len(match[1]) % 4 or not 24 <= len(base64.b64decode(match[1])) <= 64:
                raise ValueError("use whsec_ and the base64 of 24 to 64 random bytes: openssl rand -base64 32")
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
    def _storage_is_a_place(cls, value: str, info: ValidationInfo) -> str:
        if value.startswith("s3://"):
            _s3_place(value, info.data.get("aws_region"))
        elif not value.startswith("file:"):
            raise ValueError("use file:path/to/folder or s3://bucket/prefix?region=…")
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

    @model_validator(mode="after")
    def _presets_are_read(self) -> Self:
        if self.presets is not None:
            from shared.preset_file import read_presets  # noqa: PLC0415 - see above

            try:
                self._own_presets = read_presets(self.presets)
            except ValueError as error:
                raise ValueError(f"SPOOL_PRESETS: {error}") from None
        return self

    @model_validator(mode="after")
    def _mail_has_a_place(self) -> Self:
        if self.smtp_url is not None:
            self._mail = mail_place(self.smtp_url.get_secret_value(), self.mail_from, self.mail_to)
        return self

    @property
    def mail(self) -> MailPlace | None:
        """Where notices are mailed from; None where none are."""
        return self._mail

    @property
    def known_presets(self) -> Mapping[str, Preset]:
        """The presets that a new job may name: those of Spool, as this deployment changes and completes them."""
        from shared.presets import PRESETS  # noqa: PLC0415 - see above

        return PRESETS if self._own_presets is None else self._own_presets

    @property
    def s3(self) -> S3Place | None:
        """The bucket that keeps the files; None when a folder does."""
        return _s3_place(self.storage_url, self.aws_region) if self.storage_url.startswith("s3://") else None

    @property
    def lease_margin_s(self) -> float:
        """How long before the end of its lease a worker must have stopped its children."""
        return min(5.0, self.lease_s / 10)

    def limits(self, *, trusted: bool) -> tuple[int, int]:
        """Writes a minute and waiting jobs of one caller, 0 for any number.

        The defaults are for callers from elsewhere; a person at this very machine is bound only by what was set.
        """

        def bound(name: str, value: int) -> int:
            return 0 if trusted and name not in self.model_fields_set else value

        return bound("rate_limit", self.rate_limit), bound("max_waiting", self.max_waiting)

    @cached_property
    def registered(self) -> dict[str, Program]:
        """The external programs, by their job type. Raises `ConfigurationError` for a file with faults."""
        if self.programs is None:
            return {}
        from shared.programs import load_programs  # noqa: PLC0415 - see above

        programs = load_programs(self.programs)
        return {program.job_type.name: program for program in programs.values()}

    @cached_property
    def job_types(self) -> dict[str, JobType]:
        """What this deployment can do: the built-in types, and one for each registered program."""
        from shared.types import JOB_TYPES  # noqa: PLC0415 - see above

        return JOB_TYPES | {name: program.job_type for name, program in self.registered.items()}

    def timeout_s(self, job_type: str) -> float:
        """The longest an attempt of this type may take."""
        return self.timeouts.get(job_type, self.job_types[job_type].timeout_s)


#: Every variable that sets something.
KNOWN = frozenset(
    str(choice)
    for name, field in Settings.model_fields.items()
    for choice in getattr(field.validation_alias, "choices", [f"SPOOL_{name.upper()}"])
)
#: For tests and for programs that a worker starts.
_NO_SETTINGS = {"SPOOL_TEST_CRASH_AT", "SPOOL_MARK"}


def load_settings(**overrides: object) -> Settings:
    """Read the settings; `overrides` win. Raises `ConfigurationError` with one sentence per wrong value."""
    try:
        settings = Settings(**overrides)  # type: ignore[arg-type]  # pydantic checks the values
    except ValidationError as error:
        sentences = []
        for item in error.errors(include_url=False, include_input=False):
            name = "_".join(str(part) for part in item["loc"][:1])
            prefix = f"{name if name.isupper() else 'SPOOL_' + name.upper()}: " if name else ""
            sentences.append(prefix + item["msg"].removeprefix("Value error, ").removeprefix("Input "))
        raise ConfigurationError("; ".join(sentences)) from None
    _ = settings.registered  # a file of programs that has faults stops the start, too
    return settings


@dataclass(frozen=True, slots=True)
class AwsIdentity:
    """Who a Lambda function is to AWS, under AWS's own names; `endpoint_url` is None for AWS itself."""

    access_key_id: str
    secret_access_key: str
    session_token: str | None
    endpoint_url: str | None


def aws_identity() -> AwsIdentity:
    """What AWS put into this process's environment. Raises `ConfigurationError` where there is none."""
    environment = os.environ  # noqa: TID251 - this is the file that reads the environment
    try:
        return AwsIdentity(
            environment["AWS_ACCESS_KEY_ID"],
            environment["AWS_SECRET_ACCESS_KEY"],
            environment.get("AWS_SESSION_TOKEN"),
            environment.get("AWS_ENDPOINT_URL_SSM") or environment.get("AWS_ENDPOINT_URL"),
        )
    except KeyError as missing:
        name = missing.args[0]
        raise ConfigurationError(
            f"SPOOL_SECRETS_PATH is set but {name} is not: it is for Lambda, where AWS sets both; elsewhere leave it "
            "out and set the secrets themselves."
        ) from None


def crash_order() -> str | None:
    """Where a test wants this process to die (shared/crash.py). No setting: it is read from nowhere else, and told to
    nobody."""
    return os.environ.get("SPOOL_TEST_CRASH_AT")  # noqa: TID251 - this is the file that reads the environment


def given_names() -> set[str]:
    """The variables named as settings are, in the environment and in `.env`; without those that have no value."""
    found = {**DotEnvSettingsSource(Settings).env_vars, **os.environ}  # noqa: TID251 - this is the file that reads the environment
    named = {name.upper() for name, value in found.items() if value}
    return {name for name in named if name.startswith("SPOOL_")} - _NO_SETTINGS


def inherited(names: Iterable[str]) -> dict[str, str]:
    """Those of the variables that this process has."""
    return {name: os.environ[name] for name in names if name in os.environ}  # noqa: TID251 - this is the file that reads the environment


def environment_with(**changed: object) -> dict[str, str]:
    """The environment of a child process: this one's, with these settings changed."""
    settings = {f"SPOOL_{name.upper()}": str(value) for name, value in changed.items()}
    return {**os.environ, **settings}  # noqa: TID251 - this is the file that reads the environment


def _s3_place(url: str, aws_region: str | None) -> S3Place:
    """Read `s3://bucket/prefix?endpoint_url=…&region=…&write_once=no`. Raises `ValueError` with a sentence."""
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise ValueError("leave the keys out of the address; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]", parts.netloc):
        raise ValueError(f"{parts.netloc!r} is no name of a bucket; use s3://bucket/prefix?region=…")
    prefix = parts.path.strip("/")
    if prefix and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*", prefix):
        raise ValueError(f"the prefix {prefix!r} may hold letters, digits, dots, dashes and single slashes only")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := sorted(options.keys() - {"endpoint_url", "region", "write_once"}):
        raise ValueError(f"there is no option {unknown[0]!r}; it knows endpoint_url, region and write_once")
    endpoint = options.get("endpoint_url")
    if endpoint is not None:
        host = urlsplit(endpoint)
        plain = re.fullmatch(r"[A-Za-z0-9.:\[\]-]+", host.netloc)
        if host.scheme not in {"http", "https"} or not plain or host.path.strip("/") or host.query:
            raise ValueError("endpoint_url is the provider's address alone, such as https://s3.example.org")
        endpoint = f"{host.scheme}://{host.netloc}"
        named = _REGION_IN_HOST.fullmatch(host.hostname or "")
        aws_region = named[1] if named else "us-east-1"  # what servers that know no regions expect
    region = options.get("region", aws_region)
    if region is None or not re.fullmatch(r"[a-z0-9-]+", region):
        raise ValueError("say where the bucket is: s3://bucket?region=eu-central-1, or set AWS_REGION")
    if options.get("write_once", "yes") not in {"yes", "no"}:
        raise ValueError("write_once is yes or no")
    return S3Place(parts.netloc, prefix, endpoint, region, options.get("write_once") != "no")
