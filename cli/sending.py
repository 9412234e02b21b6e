"""Sending a file: in one request, or in parts at once, each of them sent again when it breaks."""

from __future__ import annotations

import mimetypes
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from threading import Event, Lock

from cli.client import Client, Moved
from cli.errors import Broken, WrittenTwice
from cli.views import UploadPart

_AT_ONCE = 4
#: Each round sends what is missing, at fresh addresses, so that nothing arrives twice and no address is too old.
_PAUSES_S = (0.2, 1.0, 3.0, 10.0, None)


def upload(client: Client, path: Path, moved: Moved) -> str:
    """Send a file from disk, in constant memory; returns its asset id."""
    size = path.stat().st_size
    content_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    ticket = client.begin_upload(path.name, content_type, size)
    asset = ticket["asset"]
    if "parts" in ticket:
        _send_parts(client, path, asset, ticket["parts"], lambda done: moved(done, size))
    else:
        whole: UploadPart = {**ticket["upload"], "number": 1, "first": 0, "size_bytes": size}
        _send_whole(client, path, whole, lambda done: moved(done, size))
    client.complete_upload(asset)
    return asset


def _send_whole(client: Client, path: Path, whole: UploadPart, moved: Callable[[int], None]) -> None:
    """Send the file, and again when it breaks. What had arrived although the answer was lost is refused as written
    twice, which the completion then knows better."""
    for tries, pause_s in enumerate(_PAUSES_S):
        try:
            client.send(path, whole, moved)
        except Broken:
            if pause_s is None:
                raise
            time.sleep(pause_s)
        except WrittenTwice:
            if tries == 0:
                raise
            return
        else:
            return


def _send_parts(client: Client, path: Path, asset: str, parts: list[UploadPart], moved: Callable[[int], None]) -> None:
    """Send the parts, and those that broke again, until none is missing."""
    size = sum(part["size_bytes"] for part in parts)
    for pause_s in _PAUSES_S:
        there = size - sum(part["size_bytes"] for part in parts)
        try:
            _send_at_once(client, path, parts, partial(_after, there, moved))
        except Broken:
            if pause_s is None:
                raise
            time.sleep(pause_s)
            parts = client.rest_of_upload(asset).get("parts", [])
        else:
            return


def _after(there: int, moved: Callable[[int], None], done: int) -> None:
    moved(there + done)


def _send_at_once(client: Client, path: Path, parts: list[UploadPart], moved: Callable[[int], None]) -> None:
    """Send the parts, four at a time. The first error, or Ctrl-C, ends those that have begun."""
    gone: dict[int, int] = {}
    lock, stopped = Lock(), Event()

    def send(part: UploadPart) -> None:
        def count(done: int) -> None:
            if stopped.is_set():
                raise Broken("Another part of the file broke off.")
            with lock:
                gone[part["number"]] = done
                moved(sum(gone.values()))

        client.send(path, part, count)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        sent = [pool.submit(send, part) for part in parts]
        try:
            wait(sent, return_when=FIRST_EXCEPTION)
        finally:
            if not all(future.done() for future in sent):
                stopped.set()
            pool.shutdown(cancel_futures=True)
    errors = [error for future in sent if not future.cancelled() and (error := future.exception()) is not None]
    if errors:  # what cannot be mended by sending again comes first
        raise min(errors, key=lambda error: isinstance(error, Broken))
