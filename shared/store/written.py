"""What the kernel tells of writes to a file, so that nobody has to look for them a hundred times a second."""

from __future__ import annotations

import ctypes
import math
import os
import select
from pathlib import Path
from typing import Self

_IN_MODIFY = 0x2


class Written:
    """Writes to one file by any process of this machine, as Linux reports them (inotify)."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    @classmethod
    def to(cls, path: Path) -> Self | None:
        """Writes from now on; None where the kernel does not report them, or has no room for one more who asks."""
        libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(libc, "inotify_init1"):
            return None
        descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if descriptor < 0:
            return None
        if libc.inotify_add_watch(descriptor, os.fsencode(path), _IN_MODIFY) < 0:
            os.close(descriptor)
            return None
        return cls(descriptor)

    def wait(self, timeout_s: float) -> bool:
        """Return True when the file was written to since the last time, False when the time was up."""
        if not self._poll.poll(math.ceil(1000 * timeout_s)):
            return False
        os.read(self._descriptor, 1 << 16)
        return True

    def close(self) -> None:
        """Hear no more."""
        os.close(self._descriptor)
