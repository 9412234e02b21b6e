"""Every crash point there is, read from the code itself, and every move of files or processes that has none."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from shared.store.points import store_points

ROOT = Path(__file__).parents[2]
PARTS = ("functions", "shared", "worker")
#: What moves a file or starts or ends a process.
_MOVES = {"rename", "link", "unlink", "rmtree", "rmdir", "mkdir", "Popen", "fork", "kill", "killpg", "_kill_each"}
_STORAGE = "shared/storage/__init__.py"


@cache
def sources() -> tuple[tuple[str, ast.Module], ...]:
    """The modules of both sides, by their path; read once, which takes a second."""
    paths = [path for part in PARTS for path in sorted((ROOT / part).rglob("*.py"))]
    return tuple((path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())) for path in paths)


def all_points(adapter: type) -> set[str]:
    """The names of all crash points, with the store's for one kind of database."""
    names = store_points(adapter)
    for path, module in sources():
        for call in (node for node in ast.walk(module) if isinstance(node, ast.Call)):
            if _called(call) == "around" and path != "shared/crash.py":
                names |= {f"{ast.literal_eval(call.args[0])}.{place}" for place in ("before", "after")}
        if path == _STORAGE:
            names |= {f"storage.{move}.{place}" for move in _storage_moves(module) for place in ("before", "after")}
    return names


def unguarded_moves() -> set[str]:
    """`file: function: call` of every move that no crash point surrounds."""
    found = set()
    for path, module in sources():
        inside = {
            id(call)
            for block in ast.walk(module)
            if isinstance(block, ast.With) and any(_called(item.context_expr) == "around" for item in block.items)
            for line in block.body
            for call in ast.walk(line)
        }
        for function in (node for node in ast.walk(module) if isinstance(node, ast.FunctionDef)):
            for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
                # A path's replace has one argument, a text's has two.
                moves = _called(call) in _MOVES or (
                    _called(call) == "replace" and len(call.args) == 1 and not call.keywords
                )
                if moves and id(call) not in inside:
                    found.add(f"{path}: {function.name}: {ast.unparse(call.func)}")
    return found


def callers_of(verb: str) -> list[str]:
    """Where the product calls a verb of the store."""
    return [
        path
        for path, module in sources()
        for node in ast.walk(module)
        if isinstance(node, ast.Call) and _called(node) == verb and not path.startswith("shared/store/")
    ]


def _storage_moves(module: ast.Module) -> tuple[str, ...]:
    assignments = {node.targets[0].id: node.value for node in module.body if isinstance(node, ast.Assign)}  # type: ignore[attr-defined]  # plain names
    return tuple(ast.literal_eval(assignments["_MOVES"]))


def _called(node: ast.expr) -> str | None:
    if not isinstance(node, ast.Call):
        return None
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
