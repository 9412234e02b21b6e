"""docs/job-types.md: every type with what goes in, what comes out, and an example that a test executes."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import JsonSchemaMode, models_json_schema

import shared.types
from functions.reference.fields import Schema, fields, heading, meaning, parts, reached, table
from shared.presets import PRESETS, Preset
from shared.types import JOB_TYPES, JobType

#: Recordings that every example may name; a type's own files come with it.
RECORDINGS = ("talk.wav", "film.mp4")
API = "http://127.0.0.1:8000"
_BESIDE = Path(shared.types.__file__).parent
_HEAD = f"""\
What each type takes, and what it makes. The first lines of every example are the same: an API (`make dev` starts one),
and a way to send it a file. `spool submit` does all of this by itself.

<!-- executed -->
```sh
api={API}
send() {{ # announces a file, sends its bytes, and prints the id by which jobs name it
  answer=$(curl -fsS $api/api/uploads -H 'content-type: application/json' -d '{{"filename": "'$1'",
    "content_type": "application/octet-stream", "size_bytes": '$(wc -c < $1)'}}')
  curl -fsS -T $1 -H 'content-type: application/octet-stream' -H 'if-none-match: *' \\
    "$(echo "$answer" | sed 's/.*"url":"\\([^"]*\\)".*/\\1/')"
  echo "$answer" | sed 's/.*"asset":"\\([^"]*\\)".*/\\1/'
}}
{{recordings}}
```

`GET $api/api/jobs/ID?wait=20` answers when a job has changed, `GET $api/api/jobs/ID/outputs` lists its files. What a
type takes as a deployment really has it, with its own [presets](#presets) and timeouts, is in `GET $api/api/job-types`,
as JSON Schemas.
"""
_ABOUT_PRESETS = """\
Loudness targets by name. `docs/operating.md` says how a deployment adds its own, and `GET /api/job-types` and
`spool presets` tell them. A job keeps its preset's numbers: one that is not below comes back as an object of them,
which may also be sent instead of a name.
"""


class Example(BaseModel):
    """One job, as it is posted and as it is typed. Strings that are the name of a file stand for its upload."""

    model_config = ConfigDict(extra="forbid")

    request: dict[str, Any] = Field(default={}, description="What is posted, without its type.")
    cli: str = Field(pattern=r"^spool ")
    files: dict[str, str] = Field(default={}, description="Files of text that the example needs beside the recordings.")
    settings: dict[str, str] = Field(default={}, description="What API and worker need to be set to.")


class Told(BaseModel):
    """What shared/types/<type>.toml tells of a type that its parameters do not."""

    model_config = ConfigDict(extra="forbid")

    makes: str
    outputs: dict[str, str] = Field(default={}, description="By name; * stands for any letters.")
    result: dict[str, str] = Field(default={}, description="By key; those that every result has.")
    sometimes: dict[str, str] = Field(default={}, description="By key; those that only some results have.")
    example: Example


def told(name: str) -> Told:
    """What a type's file beside its parameters tells. Raises `FileNotFoundError` where it has none."""
    return Told.model_validate(tomllib.loads((_BESIDE / f"{name}.toml").read_text(encoding="utf-8")))


def page() -> str:
    """The whole page."""
    kinds = list(JOB_TYPES.values())
    models: list[tuple[type[BaseModel], JsonSchemaMode]] = [(kind.params, "validation") for kind in kinds]
    models += [(model, "serialization") for kind in kinds for model in kind.documents.values()]
    _, definitions = models_json_schema(models, ref_template="{model}")
    schemas = definitions["$defs"]
    tops = [kind.params.__name__ for kind in kinds]
    names = [name for name in reached(schemas, *(schemas[top] for top in tops)) if name not in {*tops, "Preset"}]
    lines = [
        *heading("Job types"),
        _HEAD.replace("{recordings}", "\n".join(_sent(file) for file in RECORDINGS)),
        *table(("type", "does"), ((f"[`{kind.name}`](#{kind.name})", kind.title) for kind in kinds)),
    ]
    for kind in kinds:
        lines += _section(kind, told(kind.name), schemas)
    lines += ["## Parts of parameters", "", *parts(names, schemas)]
    return "\n".join([*lines, *_presets(schemas["Preset"])])


def _posted(name: str, example: Example) -> str:
    """The lines of the shell that queue the example."""
    body = json.dumps({"type": name, **example.request}, ensure_ascii=False)
    sent = [_sent(file) for file in example.files if f'"{file}"' in body]
    for file in (*RECORDINGS, *example.files):
        body = body.replace(f'"{file}"', f"\"'${_variable(file)}'\"")
    return "\n".join([*sent, f"curl -s $api/api/jobs -H 'content-type: application/json' -d '{body}'"])


def _section(kind: JobType, about: Told, schemas: dict[str, Schema]) -> list[str]:
    lines = [f"## {kind.name}", "", f"{kind.title}.", "", about.makes.strip(), "", _limits(kind), ""]
    for file, text in about.example.files.items():
        lines += [f"<!-- file: {file} -->", f"```{file.rpartition('.')[2]}", f"# {file}", text.rstrip(), "```", ""]
    lines += ["<!-- executed -->", "```sh", _posted(kind.name, about.example), "```", ""]
    lines += ["<!-- executed -->", "```sh", about.example.cli, "```", ""]
    goes_in = fields(schemas[kind.params.__name__])
    lines += ["**Goes in**", "", *(goes_in or ["No parameters: its `children` say everything.", ""])]
    outputs = ((f"`{name}`", text) for name, text in about.outputs.items())
    lines += ["**Comes out**", "", *table(("output", "what it is"), outputs)]
    says = about.result | about.sometimes
    lines += table(("`result` key", "what it says"), ((f"`{name}`", text) for name, text in says.items()))
    if not about.outputs and not says:
        lines += ["Nothing of its own; its children have outputs and results.", ""]
    for file, model in kind.documents.items():
        keys = schemas[model.__name__]["properties"]
        lines += [f"`{file}` has a published schema (`documents` in `GET /api/job-types`):", ""]
        lines += table(("key", "what it says"), ((f"`{name}`", _key(one, schemas)) for name, one in keys.items()))
    return lines


def _limits(kind: JobType) -> str:
    told_ = f"Stages: {', '.join(kind.stages)}. " if kind.stages else "It has no work of its own. "
    told_ += f"It may take {_time(kind.timeout_s)} (`SPOOL_TIMEOUTS`)"
    told_ += f", and {_time(kind.stall_s)} without any movement" if kind.stages else ""
    if kind.stages:
        told_ += f"; it is tried {kind.max_failures} times"
    return told_ + ("." if kind.on_child_failure == "fail" else "; a failed child does not end it.")


def _time(seconds: float) -> str:
    for unit_s, unit in ((3600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= unit_s:
            count = seconds / unit_s
            return f"{count:g} {unit}{'' if count == 1 else 's'}"
    return f"{seconds:g} seconds"


def _key(schema: Schema, schemas: dict[str, Schema]) -> str:
    """What a key of a document says: its own words, or those of the object in it."""
    name = schema.get("$ref") or next((one["$ref"] for one in schema.get("anyOf", ()) if "$ref" in one), None)
    return meaning(schema) or (meaning(schemas[name]) if name else "")


def _presets(schema: Schema) -> list[str]:
    rows = (
        (f"`{one.name}`", one.title, f"{one.target_lufs:g}", f"{one.ceiling_dbtp:g}", _also(one), one.published or "")
        for one in PRESETS.values()
    )
    return [
        *("## Presets", "", _ABOUT_PRESETS),
        *table(("preset", "for", "LUFS", "dBTP", "also", "numbers from"), rows),
        *("As an object:", "", *fields(schema)),
    ]


def _also(preset: Preset) -> str:
    found = []
    if preset.mono_target_lufs is not None:
        found.append(f"mono {preset.mono_target_lufs:g} LUFS")
    if preset.rms_dbfs is not None:
        found.append(f"{preset.rms_dbfs[0]:g} to {preset.rms_dbfs[1]:g} dB RMS")
    if preset.floor_dbfs is not None:
        found.append(f"noise floor {preset.floor_dbfs:g} dB RMS")
    return ", ".join(found)


def _variable(file: str) -> str:
    return file.partition(".")[0]


def _sent(file: str) -> str:
    return f"{_variable(file)}=$(send {file})"
