"""JSON Schemas as tables of Markdown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

Schema = dict[str, Any]
_WORDS = {"boolean": "true or false", "string": "text", "object": "object", "null": "null"}
_NOTE = "<!-- Made by `python -m functions.reference`; a test holds it equal to the code. -->"


def heading(title: str) -> list[str]:
    """The head of a generated page."""
    return [f"# {title}", "", _NOTE, ""]


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """A table; empty where there are no rows."""
    titles = list(columns)
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}", *lines, ""] if lines else []


def fields(schema: Schema) -> list[str]:
    """The fields of an object: type, limits, default and what each means."""
    required = set(schema.get("required", ()))
    rows = (
        (f"`{name}`", kind(one), limits(one), "required" if name in required else default(one), meaning(one))
        for name, one in schema.get("properties", {}).items()
    )
    return table(("field", "type", "limits", "default", "meaning"), rows)


def kind(schema: Schema) -> str:
    """What a value is, with links to the objects that have a table of their own."""
    some = schema.get("anyOf") or schema.get("oneOf")
    values = schema.get("additionalProperties")
    if schema.get("format") == "preset":
        told = "[preset](#presets)"
    elif "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        told = f"[{name}](#{name.lower()})"
    elif "const" in schema:
        told = f"`{json.dumps(schema['const'])}`"
    elif "enum" in schema:
        told = ", ".join(f"`{value}`" for value in schema["enum"])
    elif some:
        told = " or ".join(dict.fromkeys(kind(one) for one in some if one.get("type") != "null"))
    elif schema.get("type") == "array":
        parts = schema.get("prefixItems") or [schema.get("items", {})]
        told = "list of " + " and ".join(dict.fromkeys(map(kind, parts)))
    elif isinstance(values, dict) and values:
        told = f"object of {kind(values)}"
    else:
        word = str(schema.get("type", "anything"))
        told = _WORDS.get(word, word)
    return told


def limits(schema: Schema) -> str:
    """What a value may be at least and at most."""
    found: list[str] = []
    for part in (schema, *schema.get("anyOf", ())):
        found += [
            *_span(part, "minimum", "maximum", ""),
            *_span(part, "minLength", "maxLength", " characters"),
            *_span(part, "minItems", "maxItems", " entries"),
            *([f"over {part['exclusiveMinimum']:g}"] if "exclusiveMinimum" in part else []),
            *([f"even, {part['multipleOf']} by {part['multipleOf']}"] if "multipleOf" in part else []),
            *([f"`{part['pattern']}`"] if "pattern" in part else []),
            *(["ISO 8601 with a zone"] if part.get("format") == "date-time" else []),
        ]
    return ", ".join(dict.fromkeys(found))


def default(schema: Schema) -> str:
    """What a field that is left out means; nothing for null, which its meaning tells."""
    value = schema.get("default")
    return "" if value is None or value in ([], {}) else f"`{json.dumps(value)}`"


def meaning(schema: Schema) -> str:
    """Its description, on one line."""
    return " ".join(schema.get("description", "").split())


def first_line(schema: Schema) -> str:
    """What an object is, in its first sentence or two."""
    return " ".join(schema.get("description", "").partition("\n\n")[0].split())


def parts(names: Iterable[str], schemas: dict[str, Schema]) -> list[str]:
    """Each of these objects under a heading, with its fields."""
    lines = []
    for name in names:
        one = schemas[name]
        told = fields(one) or ([kind(one) + ".", ""] if "enum" in one else [])
        lines += [f"### {name}", "", *([first_line(one), ""] if "description" in one else []), *told]
    return lines


def reached(schemas: dict[str, Schema], *roots: object) -> list[str]:
    """The names of the schemas that these lead to, in the order in which a reader meets them."""
    found: dict[str, None] = {}
    waiting = [name for root in roots for name in _named(root)]
    while waiting:
        name = waiting.pop(0)
        if name not in found:
            found[name] = None
            waiting += _named(schemas[name])
    return list(found)


def _named(value: object) -> Iterator[str]:
    text = json.dumps(value)
    yield from re.findall(r'"\$ref": "(?:[^"]*/)?([^"/]+)"', text)


def _span(schema: Schema, low: str, high: str, unit: str) -> list[str]:
    least, most = schema.get(low), schema.get(high)
    if least is not None and most is not None:
        return [f"{least:g} to {most:g}{unit}"]
    if most is not None:
        return [f"at most {most:g}{unit}"]
    return [] if least is None else [f"at least {least:g}{unit}"]
