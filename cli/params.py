"""Parameters as they are typed: `--preset`, `--param key.path=value` and `--output format[:kbps]`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from cli.errors import USAGE, CommandError


def parameters(
    preset: str | None, params: Sequence[str], outputs: Sequence[str], made: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The `params` of a job, on top of what is `made` already."""
    made = made or {}
    if preset is not None:
        made["preset"] = preset
    if outputs:
        specs = [_output_spec(text) for text in outputs]
        formats = [spec["format"] for spec in specs]
        made["outputs"] = [
            spec | {"name": f"{spec['format']}-{spec.get('bitrate_kbps', 'default')}"}
            if formats.count(spec["format"]) > 1
            else spec
            for spec in specs
        ]
    for text in params:
        key, equals, value = text.partition("=")
        if not equals or not all(key.split(".")):
            raise CommandError(f"--param {text}: write it as name=value, such as --param target_lufs=-16.", USAGE)
        _put(made, key.split("."), _json_or_text(value), typed=text)
    return made


def put(into: Any, path: str, value: Any) -> None:  # noqa: ANN401 - any JSON value
    """Set a value by its dotted path, which is there."""
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in way:
        into = into[part]
    into[last] = value


def _output_spec(text: str) -> dict[str, Any]:
    format_, colon, kbps = text.partition(":")
    if not colon:
        return {"format": format_}
    if not kbps.removesuffix("k").isdigit():
        raise CommandError(f"--output {text}: write it as format:kbps, such as --output mp3:192.", USAGE)
    rate = int(kbps.removesuffix("k"))
    return {"format": format_, "bitrate_kbps": rate}


def _json_or_text(value: str) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _put(into: dict[str, Any], path: Sequence[str], value: Any, *, typed: str) -> None:  # noqa: ANN401 - any JSON value
    """Set a value by its dotted path; a number in the path is a place in a list, which may grow by one."""
    here: Any = into
    for depth, part in enumerate(path):
        last = depth == len(path) - 1
        fresh: Any = value if last else [] if path[depth + 1].isdigit() else {}
        if isinstance(here, list):
            if not part.isdigit() or int(part) > len(here):
                raise CommandError(f"--param {typed}: {'.'.join(path[:depth])} is a list of {len(here)}.", USAGE)
            if int(part) == len(here):
                here.append(fresh)
            elif last:
                here[int(part)] = value
            here = here[int(part)]
        elif isinstance(here, dict):
            if last:
                here[part] = value
            here = here.setdefault(part, fresh)
        else:
            raise CommandError(f"--param {typed}: {'.'.join(path[:depth])} has a value already.", USAGE)
