"""Which scenario leads to which crash point, and what several begin with."""

from __future__ import annotations

import re
from collections.abc import Callable

from shared.job import Outcome, Output, new_id
from shared.store.values import ClaimRequest, Worker
from tests.chaos.world import World

#: Patterns of points, and the scenario that leads to them.
Ways = tuple[tuple[str, Callable[..., None]], ...]


def all_ways(table: Ways, point: str) -> list[Callable[..., None]]:
    """All scenarios of a table that lead to a point."""
    return [scenario for pattern, scenario in table if re.match(pattern, point)]


def way(table: Ways, point: str) -> Callable[..., None] | None:
    """The first of them."""
    return next(iter(all_ways(table, point)), None)


def ended(world: World) -> str:
    """A completed job with a file, done by nobody in particular."""
    job = world.submit()
    nobody = Worker("nobody", "here", "0", ("ingest",), 1)
    claimed = world.store.claim(ClaimRequest(nobody, new_id(), 60))
    assert claimed is not None
    assert claimed.id == job.id
    key = f"outputs/{job.id}/1/mp3"
    stored = world.storage.put(world.place.recording, key, content_type="audio/mpeg", progress=lambda *_: None)
    assert stored.sha256 is not None
    output = Output("mp3", key, "audio/mpeg", stored.size_bytes, stored.sha256, {})
    world.store.finish(claimed.claim, Outcome("completed", result={"media_ms": 1}, outputs=(output,)))
    return job.id
