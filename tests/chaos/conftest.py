"""Where workers and APIs come from that are to die."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.chaos.nursery import Nursery
from tests.chaos.world import Place, World

#: All ways to every point, with processes that are started as commands, on SQLite and on the libSQL server.
FULL = os.environ.get("CRASH") == "full"


@pytest.fixture(scope="module")
def place(tmp_path_factory, engine) -> Iterator[Place]:
    """A folder for worlds, and a nursery."""
    nursery = Nursery()
    made = Place.on(tmp_path_factory.mktemp("crash"), nursery, engine.ffmpeg)
    made.execute = FULL
    first = World(made, "first")
    first.let_go(first.start("worker"))  # it has tried the ffmpeg, for all others
    first.end()
    yield made
    nursery.close()
