"""docs/api.md: every route, made of the OpenAPI document."""

from __future__ import annotations

from typing import Any

from functions.app import OPERATIONS
from functions.openapi import document
from functions.reference.fields import Schema, default, heading, kind, limits, meaning, parts, reached, table

_HEAD = """\
The same as `GET /openapi.json` and `GET /docs`. Bodies and answers are JSON; moments are ISO 8601, in UTC when they
come back. A key or token goes into `Authorization: Bearer …`; on a machine of your own none is needed until there is
one. What jobs take as `params` is in `docs/job-types.md`.

An error is `application/problem+json` ([Problem](#problem)): `code` is one of [these](#error-codes), `detail` one
sentence that says what to do, `errors` names each field that is wrong.
"""


def page() -> str:
    """The whole page."""
    api = document()
    schemas = api["components"]["schemas"]
    scopes = {(one.method, one.path): one.scope for one in OPERATIONS}
    lines = [*heading("The HTTP API"), _HEAD]
    operations = [(method.upper(), path, one) for path, all_ in api["paths"].items() for method, one in all_.items()]
    lines += table(
        ("route", "does"),
        ((f"[`{method} {path}`](#{_anchor(method, path)})", one["summary"]) for method, path, one in operations),
    )
    for method, path, one in operations:
        scope = scopes[method, path]
        needs = "Anybody may ask." if scope is None else f"Needs a key with `{scope}`, where keys are needed."
        lines += [f"## {method} {path}", "", f"{one['summary']}. {needs}", "", *_asked(one), *_answered(one)]
    names = reached(schemas, [one for _, _, one in operations])
    lines += ["## Objects", "", *parts(sorted(names), schemas)]
    lines += ["## Error codes", ""]
    lines += table(("code", "meaning"), ((f"`{code}`", text) for code, text in api["x-problems"].items()))
    return "\n".join(lines)


def _anchor(method: str, path: str) -> str:
    """As Markdown's readers make it of a heading."""
    kept = "".join(letter for letter in f"{method} {path}".lower() if letter.isalnum() or letter in " -_")
    return kept.replace(" ", "-")


def _asked(operation: dict[str, Any]) -> list[str]:
    asked = [(one, one["schema"]) for one in operation.get("parameters", ())]
    rows = (
        (f"`{one['name']}`", one["in"], kind(schema), limits(schema), default(schema), meaning(one))
        for one, schema in asked
    )
    lines = table(("parameter", "in", "type", "limits", "default", "meaning"), rows)
    if "requestBody" in operation:
        body: Schema = operation["requestBody"]["content"]["application/json"]["schema"]
        lines += [f"Body: {kind(body)}.", ""]
    return lines


def _answered(operation: dict[str, Any]) -> list[str]:
    rows = (
        (status if status != "default" else "else", _content(answer), meaning(answer))
        for status, answer in operation["responses"].items()
    )
    return table(("answer", "with", "meaning"), rows)


def _content(answer: dict[str, Any]) -> str:
    content = answer.get("content", {}).items()
    return ", ".join(kind(one["schema"]) if "json" in name else f"`{name}`" for name, one in content)
