"""What a model found wrong, as fields and sentences: the API and the command say the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from shared.errors import FieldError
from shared.types.base import Misplaced

#: What pydantic begins its sentences with says nothing to a client: what is a tuple here is an array in JSON.
_PYTHON_TYPE = re.compile(r"^[A-Z][a-z]+ (?=should )")


def field_errors(error: ValidationError, given: object = None, prefix: str = "") -> list[FieldError]:
    """Every fault with the path of its field after `prefix`; `given` is what was read, to tell fields from tags."""
    items = error.errors(include_url=False, include_input=False)
    return [
        FieldError(".".join(filter(None, (prefix, fault.field))), fault.message)
        for item in items
        if not (item["type"] == "too_short" and any(_within(other["loc"], item["loc"]) for other in items))
        for fault in _faults(item, given)
    ]


def _within(loc: tuple[int | str, ...], whole: tuple[int | str, ...]) -> bool:
    """Whether a fault lies inside a list: then the list is short only of what is faulty, which is said already."""
    return len(loc) > len(whole) and loc[: len(whole)] == whole


def _faults(item: Any, given: object) -> Iterator[FieldError]:  # noqa: ANN401 - pydantic's own record
    cause = item.get("ctx", {}).get("error")
    if isinstance(cause, Misplaced):
        yield from cause.problems
        return
    path = _path(item["loc"], given)
    match item["type"]:
        case "missing":
            yield FieldError(path, "is required")
        case "extra_forbidden":
            yield FieldError(path, "is not a known field")
        case "union_tag_not_found":
            yield FieldError(f"{path}.{item['ctx']['discriminator'].strip(chr(39))}", "is required")
        case "union_tag_invalid":
            known = item["ctx"]["expected_tags"].replace("'", "")
            yield FieldError(f"{path}.{item['ctx']['discriminator'].strip(chr(39))}", f"should be one of {known}")
        case kind if kind == "timezone_aware" or kind.startswith("datetime_"):
            yield FieldError(path, "should be ISO 8601 with a zone, such as 2026-11-22T10:00:00Z")
        case _:
            sentence = item["msg"].removeprefix("Value error, ").replace(" after validation", "")
            yield FieldError(path, _PYTHON_TYPE.sub("", sentence))


def _path(loc: tuple[int | str, ...], given: object) -> str:
    """The field as the sender knows it: which member of a union was read is no part of it."""
    parts, here = [], given
    for part in loc:
        if isinstance(here, dict):
            if part not in here and here.get("op") == part:
                continue
            here = here.get(part)
        elif isinstance(here, list | tuple) and isinstance(part, int) and part < len(here):
            here = here[part]
        else:
            here = None
        parts.append(str(part))
    return ".".join(parts)
