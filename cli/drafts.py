"""What was typed, or written in a file, as jobs that only wait for their uploads."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from cli.errors import USAGE, CommandError
from cli.params import parameters, put
from cli.program_files import Schema, local_files, with_files
from cli.sources import Source, check_file, is_local, sources
from shared.job import new_id
from shared.presets import CONTEXT, PRESETS, Preset
from shared.types import JOB_TYPES, JobParams, is_url
from shared.types.faults import field_errors

#: Files that hold a job rather than a recording.
_JOB_FILES = {".toml", ".json"}


@dataclass(frozen=True, slots=True)
class Order:
    """What was typed after `spool submit`."""

    job_type: str
    files: tuple[str, ...] = ()
    preset: str | None = None
    params: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    #: Who is told of the end: a link, or an address of mail.
    notify: str | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """What the request has beside type and parameters."""
        if self.notify is None:
            return {"tags": list(self.tags)}
        mail = "@" in self.notify and not self.notify.startswith(("http://", "https://", "mailto:"))
        return {"tags": list(self.tags), "webhook_url": f"mailto:{self.notify}" if mail else self.notify}


@dataclass(frozen=True, slots=True)
class Draft:
    """One job: what is posted, and the files whose asset ids belong into it, by their dotted path."""

    name: str
    body: dict[str, Any]
    files: dict[str, Path] = field(default_factory=dict)


def drafts(order: Order, known: Mapping[str, Schema], presets: Mapping[str, Preset] = PRESETS) -> list[Draft]:
    """The jobs of an order, checked as far as that can be done here.

    `known` are the types that the API has, each with the schema of its parameters.
    """
    if order.job_type not in known:
        raise CommandError(f"There is no job type {order.job_type!r}; this API knows {', '.join(known)}.", USAGE)
    written = Path(order.files[0]).expanduser() if len(order.files) == 1 else None
    if written is not None and written.suffix.lower() in _JOB_FILES and not is_url(order.files[0]):
        made = [_written(order, written, known, presets)]
    else:
        made = _of_program(order, known[order.job_type]) if _is_program(order.job_type) else _typed(order)
    for draft in made:
        check(draft, presets)
    return made


def check(draft: Draft, presets: Mapping[str, Preset]) -> None:
    """Refuse what the API would refuse, before anything large is sent. Raises `CommandError`."""
    body = json.loads(json.dumps(draft.body))
    for path in draft.files:
        put(body, path, new_id())
    problems = [
        f"{error.field or 'params'}: {error.message}"
        for at, job in _family(body)
        if (kind := JOB_TYPES.get(job.get("type", "")))
        for error in _faults(kind.params, job.get("params", {}), f"{at}params" if at else "", presets)
    ]
    if problems:
        raise CommandError("\n  ".join(["These parameters do not fit:", *problems]), USAGE)


def _faults(model: Any, params: object, prefix: str, presets: Mapping[str, Preset]) -> list[Any]:  # noqa: ANN401 - any type's model
    try:
        model.model_validate_json(json.dumps(params), strict=True, context={CONTEXT: presets})
    except ValidationError as error:
        return field_errors(error, params, prefix)
    return []


# --- typed -------------------------------------------------------------------------------------------------------
def _typed(order: Order) -> list[Draft]:
    """One job for each file; one for all of them where a type takes several."""
    params = parameters(order.preset, order.params, order.outputs)
    found = sources(order.files)
    kind = JOB_TYPES.get(order.job_type)
    fields = {"source"} if kind is None else set(kind.params.model_fields)
    if found and "tracks" in fields:
        return [_of_all(order, params, found, "tracks")]
    if found and not fields & {"source", "files"}:
        raise CommandError(f"A {order.job_type} takes no file; leave it out.", USAGE)
    if kind is not None and not found and "source" in fields and not {"source", "files"} & set(params):
        raise CommandError(
            f"A {order.job_type} needs a file or a link: spool submit {order.job_type} recording.wav", USAGE
        )
    if "files" in fields and len(found) > 1:
        return [_of_all(order, params, found, "files")]
    return [_of_one(order, params, source) for source in found or (None,)]


def _of_program(order: Order, schema: Schema) -> list[Draft]:
    """Jobs of a registered program, whose files may also be named by `--param`."""
    found = sources(order.files)
    made = with_files(order.job_type, schema, parameters(order.preset, order.params, order.outputs), found)
    names = [source.name for source in found] if len(made) == len(found) else [order.job_type] * len(made)
    return [
        Draft(name, _body(order, params), _below("", local_files(schema, params, Path())))
        for name, params in zip(names, made, strict=True)
    ]


def _is_program(job_type: str) -> bool:
    return ":" in job_type


def _below(at: str, files: Mapping[str, Path]) -> dict[str, Path]:
    return {f"{at}params.{place}": path for place, path in files.items()}


def _of_one(order: Order, params: dict[str, Any], source: Source | None) -> Draft:
    if source is None:
        return Draft(order.job_type, _body(order, params))
    body = _body(order, params | {"source": source.typed})
    return Draft(source.name, body, {"params.source": source.path} if source.path else {})


def _of_all(order: Order, params: dict[str, Any], found: Sequence[Source], field: str) -> Draft:
    """One job of several files, each called by its own name in the edit list or the mix."""
    names: list[str] = []
    for source in found:
        name = stem = re.sub(r"[^A-Za-z0-9_]+", "-", PurePosixPath(source.name).stem).strip("-_")[:28] or "file"
        for number in range(2, len(found) + 2):
            if name not in names:
                break
            name = f"{stem}-{number}"
        names.append(name)
    files = [{"name": name, "source": source.typed} for name, source in zip(names, found, strict=True)]
    paths = {f"params.{field}.{n}.source": source.path for n, source in enumerate(found) if source.path is not None}
    return Draft(found[0].name, _body(order, params | {field: files}), paths)


def _body(order: Order, params: dict[str, Any]) -> dict[str, Any]:
    return {"type": order.job_type, "params": params} | order.fields


# --- written in a file -------------------------------------------------------------------------------------------
def _written(order: Order, path: Path, known: Mapping[str, Schema], presets: Mapping[str, Preset]) -> Draft:
    """A whole job as POST /api/jobs takes it, with the names of files instead of asset ids."""
    body = _read(path)
    if body.setdefault("type", order.job_type) != order.job_type:
        raise CommandError(f"{path} holds a job of type {body['type']!r}, not {order.job_type!r}.", USAGE)
    body["params"] = parameters(order.preset, order.params, order.outputs, body.get("params"))
    body |= order.fields | {"tags": [*body.get("tags", []), *order.tags]}
    files: dict[str, Path] = {}
    draft = Draft(path.name, body, files)
    check(draft, presets)
    for at, job in _family(body):
        job_type, params = job.get("type", ""), job.get("params", {})
        if kind := JOB_TYPES.get(job_type):
            named = {
                name: path.parent / Path(value).expanduser()
                for name, value in _sources(kind.params, params, presets).items()
                if is_local(value, path.parent / Path(value).expanduser())
            }
        else:
            named = local_files(known.get(job_type, {}), params, path.parent)
        files |= _below(at, named)
    return draft


def _sources(model: type[JobParams], params: object, presets: Mapping[str, Preset]) -> dict[str, str]:
    return model.model_validate(params, context={CONTEXT: presets}).sources


def _read(path: Path) -> dict[str, Any]:
    check_file(path)
    try:
        text = path.read_text(encoding="utf-8")
        body = tomllib.loads(text) if path.suffix.lower() == ".toml" else json.loads(text)
    except (OSError, ValueError) as error:
        raise CommandError(f"{path} cannot be read: {error}.", USAGE) from None
    if not isinstance(body, dict) or not isinstance(body.get("params", {}), dict):
        raise CommandError(f"{path} holds no job; write what POST /api/jobs takes, with its params as a table.", USAGE)
    return body


def _family(body: dict[str, Any], at: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """The job and its children, each with the path in front of its fields."""
    yield at, body
    for number, child in enumerate(body.get("children", [])):
        if isinstance(child, dict):
            yield from _family(child, f"{at}children.{number}.")
