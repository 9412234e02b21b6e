"""The worker's own memory."""

from __future__ import annotations

import ctypes

_M_ARENA_MAX = -8
_libc = ctypes.CDLL(None)


def share_one_heap() -> None:
    """Let all threads take memory from one heap; call it before the first of them begins.

    glibc gives each thread a heap of its own, where what one thread gave back is of no use to others: a worker of weeks
    holds a quarter more than it needs. They seldom wait for one another, since Python's own lock is between them.
    """
    mallopt = getattr(_libc, "mallopt", None)  # other C libraries have one heap anyway
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)


def give_back() -> None:
    """Return what is free in the heap to the system: a trial restore leaves megabytes that only the next one needs."""
    trim = getattr(_libc, "malloc_trim", None)
    if trim is not None:
        trim(0)
