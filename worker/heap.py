"""The worker's own memory."""

from __future__ import annotations

import ctypes

_M_ARENA_MAX = -8


def share_one_heap() -> None:
    """Let all threads take memory from one heap; call it before the first of them begins.

    glibc gives each thread a heap of its own, where what one thread gave back is of no use to others: a worker of weeks
    holds a quarter more than it needs. They seldom wait for one another, since Python's own lock is between them.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have one heap anyway
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
