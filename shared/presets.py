"""Loudness targets by the name a creator knows them by: those that come with Spool, and how a parameter names one."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from shared.text import plain

#: Under this key a validation's context holds the presets that a name may mean; without it those of Spool are meant.
CONTEXT = "presets"
#: Marks the fields that take a preset in a JSON Schema.
_FORMAT = "preset"
Loudness = Annotated[float, Field(ge=-40, le=-5)]
Level = Annotated[float, Field(ge=-60, le=0)]


def _name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,31}", text):
        raise ValueError("should be 1 to 32 small letters, digits and dashes")
    return text


class Preset(BaseModel):
    """A delivery target, in numbers.

    Where a platform judges by other numbers, those are here too: plain level (RMS) and noise floor.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: Annotated[str, AfterValidator(_name)] = Field(description="What parameters call it.")
    title: Annotated[str, Field(min_length=1, max_length=100), AfterValidator(plain)] = Field(
        description="What people call it."
    )
    target_lufs: Loudness = Field(description="Integrated loudness.")
    ceiling_dbtp: float = Field(ge=-12, le=0, description="Highest true peak.")
    mono_target_lufs: Loudness | None = Field(default=None, description="What a report accepts of mono as well.")
    rms_dbfs: tuple[Level, Level] | None = Field(
        default=None, description="Lowest and highest plain level, where one is asked for."
    )
    floor_dbfs: Annotated[float, Field(ge=-120, le=-20)] | None = Field(
        default=None, description="Highest noise floor, where one is asked for."
    )
    published: Annotated[str, Field(max_length=300), AfterValidator(plain)] | None = Field(
        default=None, description="Where the numbers are from."
    )

    @model_validator(mode="after")
    def _level_runs_up(self) -> Self:
        if self.rms_dbfs is not None and self.rms_dbfs[0] >= self.rms_dbfs[1]:
            raise ValueError("rms_dbfs is the lowest level and then the highest")
        return self


def preset_of(name: str, table: Mapping[str, Any]) -> Preset:
    """A preset as a table of a TOML file writes it. Raises pydantic's `ValidationError`."""
    return Preset.model_validate_json(json.dumps({"name": name, **table}, default=str), strict=True)


#: Those that come with Spool, whatever a deployment's own file says.
PRESETS: Mapping[str, Preset] = {
    name: preset_of(name, table)
    for name, table in tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")).items()
}


def _named(value: object, read: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Preset:
    if isinstance(value, str):
        known: Mapping[str, Preset] = (info.context or {}).get(CONTEXT, PRESETS)
        if value.strip() not in known:
            raise ValueError(f"there is no preset {value!r}; choose one of {', '.join(known)}")
        return known[value.strip()]
    if not isinstance(value, dict | Preset):
        raise ValueError("should be the name of a preset, such as podcast")  # noqa: TRY004 - pydantic reads no other
    found: Preset = read(value)
    return found


def own_preset(value: object) -> bool:
    """Whether it is a preset that does not come with Spool, or not with these numbers."""
    return isinstance(value, Preset) and PRESETS.get(value.name) != value


def written(preset: Preset) -> str | dict[str, Any]:
    """What a job keeps: the name of one that comes with Spool, and the numbers of any other."""
    return preset.model_dump(mode="json", exclude_none=True) if own_preset(preset) else preset.name


class _Choice:
    """Tells the JSON Schema of the field: the names with their titles, or a preset in numbers."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"format": _FORMAT, "oneOf": [*_choices(PRESETS.values()), handler(schema)]}


#: A preset as a parameter: named in a request, and in numbers from then on. A default has to be validated
#: (`validate_default=True`), so that it is this deployment's too.
ChosenPreset = Annotated[Preset, WrapValidator(_named), PlainSerializer(written), _Choice()]


def with_choices(schema: Any, presets: Iterable[Preset]) -> Any:  # noqa: ANN401 - any part of a JSON Schema
    """A JSON Schema in which the fields that take a preset offer these."""
    if isinstance(schema, list):
        return [with_choices(part, presets) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("format") == _FORMAT:
        return schema | {"oneOf": [*_choices(presets), *(one for one in schema["oneOf"] if "const" not in one)]}
    return {name: with_choices(part, presets) for name, part in schema.items()}


def _choices(presets: Iterable[Preset]) -> list[dict[str, Any]]:
    return [{"const": one.name, "title": f"{one.title}, {one.target_lufs:g} LUFS"} for one in presets]
