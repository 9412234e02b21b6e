"""The OpenAPI document, made of the operations and their models: `python -m functions.openapi` writes it anew."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from functions.app import OPERATIONS
from functions.call import Operation
from functions.models import NoQuery
from functions.problems import ROUTING, Problem
from shared import errors
from shared.types import JOB_TYPES

PATH = Path(__file__).parent / "openapi.json"
_REFS = "#/components/schemas/{model}"
#: One message of an event stream.
_EVENT = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in ("id", "event", "data")},
    "required": ["event", "data"],
}
#: Answers that are no JSON.
_PLAIN: dict[str, dict[str, dict[str, Any]]] = {
    "/api/events": {"text/event-stream": {"schema": _EVENT}},
    "/metrics": {"text/plain": {"schema": {"type": "string"}}},
}
_HEADERS = {
    "Cache-Control": "`max-age=SECONDS`: an answer that others were given so many seconds ago (5 at most) will do.",
    "Idempotency-Key": "1 to 255 visible ASCII characters: the same key and body find the same job again.",
    "If-None-Match": "The ETag of the last answer: 304 when nothing has changed.",
    "Last-Event-ID": "The id of the last message received; browsers send it by themselves.",
}


def document() -> dict[str, Any]:
    """The whole document (OpenAPI 3.1)."""
    names, definitions = models_json_schema(list(_models()), ref_template=_REFS)
    schemas = {(model, mode): ref for (model, mode), ref in names.items()}
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Spool",
            "version": "1",
            "description": "Turns uploaded media into finished media, in the background.",
        },
        "security": [{"token": []}, {}],  # without SPOOL_API_TOKENS none is needed, on this machine
        "paths": paths,
        "components": {
            "schemas": dict(sorted(definitions["$defs"].items())),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "x-problems": _problems(),
    }


def _models() -> Iterator[tuple[type[BaseModel], JsonSchemaMode]]:
    """Every model once: requests as they are read, answers as they are written."""
    asked: list[type[BaseModel]] = [kind.params for kind in JOB_TYPES.values()]
    asked += [operation.body for operation in OPERATIONS if operation.body]
    given: list[type[BaseModel]] = [Problem]
    given += [model for kind in JOB_TYPES.values() for model in kind.documents.values()]
    given += [view for operation in OPERATIONS for view in operation.answers.values() if isinstance(view, type)]
    yield from ((model, "validation") for model in dict.fromkeys(asked))
    yield from ((model, "serialization") for model in dict.fromkeys(given))


def _operation(operation: Operation, schemas: dict[Any, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": f"{operation.handler.__module__.rpartition('.')[2]}_{operation.handler.__name__.strip('_')}",
        "summary": operation.summary,
        "tags": [operation.path.split("/")[2] if operation.path.startswith("/api/") else "operations"],
    }
    if parameters := [*_path_parameters(operation), *_query_parameters(operation), *_header_parameters(operation)]:
        described["parameters"] = parameters
    if operation.body is not None:
        content = {"application/json": {"schema": schemas[operation.body, "validation"]}}
        described["requestBody"] = {"required": True, "content": content}
    if operation.path in {"/healthz", "/api/login", "/api/logout", "/api/me"}:
        described["security"] = []
    problem = {"application/problem+json": {"schema": schemas[Problem, "serialization"]}}
    responses: dict[str, Any] = {}
    for status, view in operation.answers.items():
        if isinstance(view, str):
            plain = _PLAIN.get(operation.path)
            responses[str(status)] = {"description": view} | ({"content": plain} if plain else {})
        else:
            content = {"application/json": {"schema": schemas[view, "serialization"]}}
            responses[str(status)] = {"description": _first_line(view), "content": content}
    responses["default"] = {"description": "Refused", "content": problem}
    return described | {"responses": responses}


def _path_parameters(operation: Operation) -> Iterator[dict[str, Any]]:
    for name in re.findall(r"{(\w+)}", operation.path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _query_parameters(operation: Operation) -> Iterator[dict[str, Any]]:
    if operation.query is NoQuery:
        return
    for name, schema in _inlined(operation.query.model_json_schema())["properties"].items():
        description = schema.pop("description", None)
        yield {"name": name, "in": "query", "schema": schema} | ({"description": description} if description else {})


def _header_parameters(operation: Operation) -> Iterator[dict[str, Any]]:
    for name in operation.headers:
        yield {"name": name, "in": "header", "schema": {"type": "string"}, "description": _HEADERS[name]}


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with its definitions in place of the references to them."""
    text = json.dumps({name: value for name, value in schema.items() if name != "$defs"})
    for name, definition in schema.get("$defs", {}).items():
        text = text.replace(json.dumps({"$ref": f"#/$defs/{name}"}), json.dumps(definition))
    return dict(json.loads(text))


def _problems() -> dict[str, str]:
    """What each error code means."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.SpoolError)]
    ours = {kind.code: _first_line(kind) for kind in kinds if kind.status != 500}
    return dict(ROUTING.values()) | ours | {"internal": "Something went wrong on the server's side."}


def _first_line(documented: type) -> str:
    return (documented.__doc__ or "").strip().splitlines()[0]


def main() -> None:
    """Write the document to its file."""
    PATH.write_text(json.dumps(document(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
