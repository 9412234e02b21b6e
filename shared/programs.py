"""External programs: what an operator registers in the file that SPOOL_PROGRAMS names.

Each program is a job type of its own, `agent:NAME` or `workflow:NAME`, so that all that is kept by type (the queue's
order, its statistics, who may claim) holds for each program. docs/programs.md describes the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from shared.errors import ConfigurationError
from shared.parameters import Parameter, ProgramParams, params_model
from shared.text import cleaned
from shared.types import PROGRAM_NAME, JobType
from shared.types.agent import AgentParams
from shared.types.faults import field_errors

Kind = Literal["agent", "workflow"]
#: What belongs to the queue and its storage is not for programs.
_SECRET = re.compile(r"(SPOOL|TURSO)_.*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class _Registered(BaseModel):
    """One program as the file describes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind
    title: Annotated[str, Field(min_length=1, max_length=120)]
    command: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1, max_length=64)]
    directory: str = "."
    environment: dict[str, str] = {}
    inherit: tuple[str, ...] = ()
    params: dict[str, Parameter] = {}
    timeout_s: float = Field(default=600.0, gt=0, le=86_400)
    stall_s: float = Field(default=120.0, gt=0, le=86_400)
    max_failures: int = Field(default=2, ge=1, le=10)
    memory_gb: float | None = Field(default=None, gt=0, le=10_000)
    instances: int = Field(default=1, ge=1, le=64)
    start_s: float = Field(default=300.0, gt=0, le=3600)
    cancel_s: float = Field(default=5.0, ge=0, le=300)

    @field_validator("inherit", "environment")
    @classmethod
    def _variables(cls, value: Any) -> Any:  # noqa: ANN401 - either of the two
        for name in value:
            if not _VARIABLE.fullmatch(name):
                raise ValueError(f"{name!r} is no name of an environment variable")
            if _SECRET.fullmatch(name):
                raise ValueError(f"{name} is Spool's own and is not given to programs; leave it out")
        return value

    @field_validator("params")
    @classmethod
    def _named(cls, value: dict[str, Parameter]) -> dict[str, Parameter]:
        for name in value:
            if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name):
                raise ValueError(f"{name!r} is no name of a parameter; use small letters, digits and underscores")
        return value

    @model_validator(mode="after")
    def _agents_get_files_with_messages(self) -> Self:
        files = [name for name, one in self.params.items() if one.type in {"file", "files"}]
        if self.kind == "agent" and files:
            raise ValueError(f"params.{files[0]}: files come to an agent with its messages; leave it out")
        return self

    @model_validator(mode="after")
    def _agents_are_not_kept_running(self) -> Self:
        for name in ("instances", "start_s", "cancel_s"):
            if self.kind == "agent" and name in self.model_fields_set:
                raise ValueError(f"{name} is for a workflow, which is kept running; leave it out")
        return self

    @model_validator(mode="after")
    def _stalls_before_it_is_late(self) -> Self:
        if self.stall_s > self.timeout_s:
            raise ValueError(f"stall_s is {self.stall_s:g} but must be at most timeout_s, which is {self.timeout_s:g}")
        return self


@dataclass(frozen=True, slots=True)
class Program:
    """A registered program. `command` is an argument list; `{python}` and `{ffmpeg}` in it are the worker's own.

    `inherit` names variables that it takes from the worker's environment; it sees no others but `environment`.
    """

    name: str
    kind: Kind
    title: str
    command: tuple[str, ...]
    directory: Path
    environment: Mapping[str, str]
    inherit: tuple[str, ...]
    #: What a session is begun with, or what a job takes.
    params: type[ProgramParams]
    timeout_s: float
    stall_s: float
    max_failures: int
    memory_bytes: int | None
    #: Of a workflow: how many run at once on a worker, how long one may take to get ready, and how long to let go of a
    #: job that was cancelled before it is killed for it.
    instances: int
    start_s: float
    cancel_s: float

    @property
    def job_type(self) -> JobType:
        """The type of its jobs: turns of a session, or jobs with its own parameters."""
        return JobType(
            name=f"{self.kind}:{self.name}",
            title=self.title,
            takes=AgentParams if self.kind == "agent" else self.params,
            stages=("running",) if self.kind == "agent" else ("downloading", "running", "uploading"),
            timeout_s=self.timeout_s,
            stall_s=self.stall_s,
            max_failures=self.max_failures,
            kind=self.kind,
        )


def load_programs(path: Path) -> dict[str, Program]:
    """Read the file of programs, by name. Raises `ConfigurationError` with one sentence for each fault."""
    import tomllib  # noqa: PLC0415 - most deployments have no programs, and functions start fast

    try:
        text = path.read_text(encoding="utf-8")
        found = tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"SPOOL_PROGRAMS: {path} cannot be read ({cleaned(str(error))})") from None
    registered = found.pop("programs", {})
    if found or not isinstance(registered, dict):
        stray = next(iter(found), "programs")
        raise ConfigurationError(f"SPOOL_PROGRAMS: {path} has {stray!r}; write each program as [programs.NAME]")
    return {name: _program(name, about, path) for name, about in registered.items()}


def _program(name: str, about: object, path: Path) -> Program:
    if not re.fullmatch(PROGRAM_NAME, name):
        raise ConfigurationError(
            f"SPOOL_PROGRAMS: {path}: {name!r} is no name of a program; use up to 40 small letters, digits and dashes"
        )
    try:
        one = _Registered.model_validate(about)
        params = params_model(name, one.params)
    except ValidationError as error:
        faults = "; ".join(f"{fault.field}: {fault.message}" for fault in field_errors(error, about))
        raise ConfigurationError(f"SPOOL_PROGRAMS: {path}: programs.{name}: {faults}") from None
    folder = path.resolve().parent
    first = one.command[0]
    if "/" in first and not first.startswith("/"):
        first = str(folder / first)
    return Program(
        name=name,
        kind=one.kind,
        title=one.title,
        command=(first, *one.command[1:]),
        directory=folder / one.directory,
        environment=one.environment,
        inherit=one.inherit,
        params=params,
        timeout_s=one.timeout_s,
        stall_s=one.stall_s,
        max_failures=one.max_failures,
        memory_bytes=None if one.memory_gb is None else int(one.memory_gb * 2**30),
        instances=one.instances,
        start_s=one.start_s,
        cancel_s=one.cancel_s,
    )
