"""Work that blocks, beside the event loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio.to_thread

T = TypeVar("T")


async def in_thread(work: Callable[[], T]) -> T:
    """Run what blocks without holding up other requests; past the request's time limit it is left to itself."""
    return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
