"""What a worker does with its own memory."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import pytest

from worker.errands import Errands
from worker.heap import give_back

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and calls glibc")
MIB = 1 << 20


def resident() -> int:
    """What this process holds in memory."""
    return int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0]) * 1024


@pytest.fixture
def litter():
    """Forty megabytes that are free, below a block that is not: glibc keeps all of it by itself."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
    blocks = [libc.malloc(4000) for _ in range(10 * 1024)]
    for block in blocks:
        ctypes.memset(block, 1, 4000)
    *freed, last = blocks
    for block in freed:
        libc.free(block)
    yield
    libc.free(last)


def test_what_work_has_left_is_given_back(litter):
    """Free memory between what is in use goes back to the system."""
    before = resident()
    give_back()
    assert before - resident() > 20 * MIB


def test_a_worker_gives_back_between_its_errands(litter, monkeypatch):
    """Who looks after errands does so when there was none for a while."""
    monkeypatch.setattr("worker.errands._TIDY_S", 0.01)
    before, errands = resident(), Errands()
    errands.start()
    for _ in range(3000):
        if before - resident() > 20 * MIB:
            break
        errands._closing.wait(0.01)
    errands.close()
    assert before - resident() > 20 * MIB
