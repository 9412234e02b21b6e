"""The Lambda entry: the application is built when the instance starts, so that requests find it ready."""

from __future__ import annotations

import gc

# What is imported stays. Looking for garbage in it takes an eighth of a cold start, and a share of every later request.
gc.disable()
from functions.deployment import handler  # noqa: E402 - after the above, which is for it

gc.freeze()
gc.enable()

__all__ = ["handler"]
