"""What the deaths at crash points have found, each at the one point that shows it."""

from __future__ import annotations

import pytest

from tests.chaos.deaths import apis, workers
from tests.chaos.world import Place, World


@pytest.mark.parametrize(
    ("scenario", "point"),
    [
        (apis.purging, "storage.delete_prefix.before"),
        (apis.dropping, "storage.delete_prefix.before"),
        (apis.retrying, "create.write.after"),
        (apis.sending, "file.data.before"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_request_that_an_api_died_of_can_be_sent_again(place: Place, scenario, point) -> None:
    """Nothing is made twice, nothing is lost, and no file outlives its row."""
    world = World(place, f"again-{scenario.__name__}")
    try:
        scenario(apis.Client(world, point, world.start_api()[1]))
    finally:
        world.end()


def test_what_a_losing_attempt_stored_is_deleted_by_the_next(place) -> None:
    """A worker that dies with all its files stored leaves none of them beside those of the attempt that wins."""
    world = World(place, "losers")
    try:
        workers.at_work(world, "finish.write.before")
        world.finish()
        world.verdict()
    finally:
        world.end()


def test_what_a_dead_upload_left_is_dropped(place) -> None:
    """An hour after an API died while it took a file, the next file that is stored drops what had arrived."""
    world = World(place, "parts")
    try:
        apis.sending(apis.Client(world, "file.data.before", world.start_api()[1]))
        world.an_hour_passes()
        world.storage.check()
        assert list(world.storage.root.glob(".incoming/*")) == []
    finally:
        world.end()
