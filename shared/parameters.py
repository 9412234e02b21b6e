"""Parameters that an operator describes for a program, as a model like those of the built-in job types.

The words are JSON Schema's own, a small part of them; `file` and `files` are Spool's: uploads or links. What is
described is made into a pydantic model, so that requests are refused, schemas published and forms drawn by the same
code as everywhere else, and nothing more need be imported for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, create_model, model_validator
from pydantic.config import JsonDict

from shared.errors import FieldError
from shared.types.base import JobParams

_Text = Annotated[str, Field(min_length=1, max_length=2048)]
#: The longest text and the most files where the operator sets no limit.
MAX_TEXT, MAX_FILES = 10_000, 16
#: Which words mean something for which types.
_WORDS = {
    "string": {"minLength", "maxLength", "pattern", "enum"},
    "integer": {"minimum", "maximum", "enum"},
    "number": {"minimum", "maximum"},
    "boolean": set[str](),
    "file": {"maxBytes"},
    "files": {"minItems", "maxItems", "maxBytes"},
}


class Parameter(BaseModel):
    """One parameter as the file describes it. `maxBytes` is for a file, or for all of `files` together."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["string", "integer", "number", "boolean", "file", "files"]
    description: str | None = None
    required: bool = False
    default: Any = None
    enum: tuple[str | int, ...] | None = Field(default=None, min_length=1)
    pattern: str | None = None
    minLength: int | None = Field(default=None, ge=0)  # noqa: N815 - JSON Schema's words, here and below
    maxLength: int | None = Field(default=None, ge=1)  # noqa: N815
    minimum: float | None = None
    maximum: float | None = None
    minItems: int | None = Field(default=None, ge=0, le=100)  # noqa: N815
    maxItems: int | None = Field(default=None, ge=1, le=100)  # noqa: N815
    maxBytes: int | None = Field(default=None, ge=1)  # noqa: N815

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        given = {name for name in self.model_fields_set if name not in {"type", "description", "required", "default"}}
        if stray := sorted(given - _WORDS[self.type]):
            raise ValueError(f"{stray[0]} means nothing for a {self.type}; leave it out")
        if self.required and self.default is not None:
            raise ValueError("what is required has no default; leave one of the two out")
        if self.default is not None:
            if self.type in {"file", "files"}:
                raise ValueError("a file has no default; leave it out")
            TypeAdapter(self.annotation).validate_python(self.default, strict=True)
        return self

    @property
    def annotation(self) -> Any:  # noqa: ANN401 - a type
        """The parameter's type with its limits, without its default."""
        if self.enum is not None:
            return Literal[self.enum]
        low, high = self._whole(self.minimum), self._whole(self.maximum)
        text = Field(min_length=self.minLength, max_length=self.maxLength or MAX_TEXT, pattern=self.pattern)
        several = Field(min_length=self.minItems, max_length=self.maxItems or MAX_FILES, json_schema_extra=self._marks)
        made: dict[str, Any] = {
            "string": Annotated[str, text],
            "integer": Annotated[int, Field(ge=low, le=high)],
            "number": Annotated[float, Field(ge=low, le=high, allow_inf_nan=False)],
            "boolean": bool,
            "file": Annotated[str, Field(min_length=1, max_length=2048, json_schema_extra=self._marks)],
            "files": Annotated[tuple[_Text, ...], several],
        }
        return made[self.type]

    def _whole(self, bound: float | None) -> float | None:
        """A bound as its type has it: the document of an integer has no 100.0."""
        return int(bound) if bound is not None and self.type == "integer" else bound

    @property
    def _marks(self) -> JsonDict:
        """What a form needs to know that JSON Schema has no words for."""
        marks: JsonDict = {"x-spool-file": True}
        return marks | {"x-max-bytes": self.maxBytes} if self.maxBytes else marks


class ProgramParams(JobParams):
    """What one program takes. `described` says what of it are files."""

    described: ClassVar[Mapping[str, Parameter]] = {}

    @property
    def sources(self) -> dict[str, str]:
        """The files, asset ids and links."""
        return {path: source for _, paths in self._files() for path, source in paths.items()}

    def oversized(self, sizes: Mapping[str, int]) -> list[FieldError]:
        """Which files are too large, alone or together; `sizes` are bytes by source, as far as they are known."""
        faults = []
        for name, paths in self._files():
            most, total = self.described[name].maxBytes, sum(sizes.get(source, 0) for source in paths.values())
            if most is not None and total > most:
                together = " together" if self.described[name].type == "files" else ""
                sentence = f"may be at most {_megabytes(most)}{together}; sent were {_megabytes(total)}"
                faults.append(FieldError(name, sentence))
        return faults

    def _files(self) -> Iterator[tuple[str, dict[str, str]]]:
        for name, parameter in self.described.items():
            value = getattr(self, name)
            if value is not None and parameter.type == "file":
                yield name, {name: value}
            elif value is not None and parameter.type == "files":
                yield name, {f"{name}.{index}": source for index, source in enumerate(value)}


def params_model(name: str, described: Mapping[str, Parameter]) -> type[ProgramParams]:
    """The model of a program's parameters."""
    fields: dict[str, Any] = {}
    for key, parameter in described.items():
        default = ... if parameter.required else parameter.default
        annotation = parameter.annotation | None if default is None else parameter.annotation
        fields[key] = (annotation, Field(default=default, description=parameter.description))
    model = create_model(
        "".join(part.title() for part in name.replace("_", "-").split("-")) + "Params",
        __base__=ProgramParams,
        __doc__=f"Parameters of the program {name}.",
        **fields,
    )
    model.described = dict(described)
    return model


def _megabytes(count: int) -> str:
    return f"{count / 1e6:g} MB"
