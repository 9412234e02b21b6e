"""Files for registered programs: which of a program's parameters take them is in the schema that the API publishes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.errors import USAGE, CommandError
from cli.sources import Source, is_local

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FileField:
    """A parameter that takes files: `most` of them, or one that is no list. `max_bytes` is for all together."""

    name: str
    several: bool
    most: int
    max_bytes: int | None


def file_fields(schema: Schema) -> list[FileField]:
    """The parameters that take files, in the order in which they are described."""
    found = []
    for name, about in schema.get("properties", {}).items():
        for one in (about, *about.get("anyOf", ())):  # what may be left out is a choice between it and null
            if one.get("x-spool-file"):
                several = one.get("type") == "array"
                most = one.get("maxItems", 1) if several else 1
                found.append(FileField(name, several, most, one.get("x-max-bytes")))
    return found


def with_files(job_type: str, schema: Schema, params: Mapping[str, Any], typed: list[Source]) -> list[dict[str, Any]]:
    """The parameters of each job: one for each file where a program takes one, else one for all. Raises `CommandError`.

    Files that were typed go where no `--param` has put anything.
    """
    fields = file_fields(schema)
    made = [dict(params)]
    if typed:
        free = [one for one in fields if one.name not in params]
        if not free:
            raise CommandError(f"A {job_type} takes no more files; leave {typed[0].typed} out.", USAGE)
        if len(free) > 1:
            ways = " ".join(f"--param {one.name}=FILE" for one in free)
            raise CommandError(f"A {job_type} takes files in several places; say which is which: {ways}", USAGE)
        made = [dict(params) | one for one in _spread(free[0], [source.typed for source in typed])]
    for one in made:
        _fits(job_type, schema, one)
    return made


def local_files(schema: Schema, params: Mapping[str, Any], folder: Path) -> dict[str, Path]:
    """The files of this machine among the parameters, by dotted path; `folder` is where their names begin."""
    found = {}
    for one in file_fields(schema):
        total = 0
        for place, typed in _named(one, params.get(one.name)):
            path = folder / Path(typed).expanduser()
            if is_local(typed, path):
                found[place] = path
                total += path.stat().st_size
        if one.max_bytes is not None and total > one.max_bytes:
            raise CommandError(
                f"{one.name}: may be at most {one.max_bytes / 1e6:g} MB, and these files have {total / 1e6:.4g} MB; "
                "send smaller ones.",
                USAGE,
            )
    return found


def _spread(field: FileField, typed: list[str]) -> Iterator[dict[str, Any]]:
    if field.most == 1:
        yield from ({field.name: [one] if field.several else one} for one in typed)
    elif len(typed) > field.most:
        raise CommandError(f"{field.name}: takes at most {field.most} files, and {len(typed)} are named.", USAGE)
    else:
        yield {field.name: typed}


def _fits(job_type: str, schema: Schema, params: Mapping[str, Any]) -> None:
    """Refuse what is missing or unknown before anything large is sent; the API looks at the values."""
    files = {one.name for one in file_fields(schema)}
    for name in schema.get("required", ()):
        if name not in params:
            value = "FILE" if name in files else "VALUE"
            raise CommandError(f"A {job_type} needs {name}: --param {name}={value}", USAGE)
    for name in params:
        if name not in schema.get("properties", {}):
            known = ", ".join(schema.get("properties", {})) or "none"
            raise CommandError(f"A {job_type} has no parameter {name!r}; it has {known}.", USAGE)


def _named(field: FileField, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield field.name, value
    elif isinstance(value, list):
        yield from ((f"{field.name}.{n}", one) for n, one in enumerate(value) if isinstance(one, str))
