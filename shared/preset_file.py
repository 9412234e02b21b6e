"""The file of a deployment's own presets, which `SPOOL_PRESETS` names."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from shared.errors import FieldError
from shared.presets import PRESETS, Preset, preset_of
from shared.types.faults import field_errors

MOST_PRESETS = 100


def read_presets(path: Path) -> dict[str, Preset]:
    """The presets of Spool, changed and completed by those of a file. Raises `ValueError` that names file and key.

    A table under the name of one that is there changes what it names of it, and leaves the rest.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); name a TOML file of presets") from None
    except ValueError as error:
        raise ValueError(f"{path} is no TOML ({error}); correct it there") from None
    known, wrong = dict(PRESETS), list[FieldError]()
    if len(tables) > MOST_PRESETS:
        wrong.append(FieldError("the file", f"holds {len(tables)} presets and may hold {MOST_PRESETS} at most"))
    for name, table in tables.items():
        made, faults = _preset(name, table)
        wrong += faults
        known |= {} if made is None else {name: made}
    if wrong:
        raise ValueError("; ".join(f"{path}: {fault.field} {fault.message}" for fault in wrong))
    return known


def _preset(name: str, table: object) -> tuple[Preset | None, list[FieldError]]:
    if not isinstance(table, dict):
        return None, [FieldError(name, f"stands outside of any preset; write it under the preset's name, as [{name}]")]
    if "name" in table:
        return None, [FieldError(f"{name}.name", "is what stands in the brackets; leave it out")]
    known = PRESETS.get(name)
    given: Mapping[str, Any] = {"title": name}
    if known is not None:
        given = known.model_dump(exclude={"name", "published"}, exclude_none=True)
    try:
        return preset_of(name, {**given, **table}), []
    except ValidationError as error:
        return None, field_errors(error, table, name)
