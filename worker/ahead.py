"""An Opus file is encoded while its recording is still being measured.

What it has to be raised by is not known then, and goes into its header in the end (worker/opus.py). Where the limiter
turns out to be needed the file is dropped: the measurement ends long before the encoder does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from worker.encoders import Encoding
from worker.ffmpeg import input_args, shown, transcode
from worker.growing import feed, heard
from worker.loudness import Measured
from worker.meter import Mix

if TYPE_CHECKING:
    from worker.run import Run


class _Dropped(Exception):
    """Ends the encoder."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is made ahead: the sound track `stream` of a file, as `mix`, encoded as `made`, at the level it has."""

    source: Path
    stream: str
    mix: Mix
    made: Encoding
    metadata: Sequence[str]
    part: Path
    seconds: float | None


@dataclass(slots=True)
class Ahead:
    """One file that is being made, from now on, in a thread of its own.

    It is measured from when somebody wants it: before that, the measurement of the recording goes first.
    """

    run: Run
    wanted: Wanted
    command: list[str] = field(default_factory=list)
    _dropped: threading.Event = field(default_factory=threading.Event)
    _finished: threading.Event = field(default_factory=threading.Event)
    _on_time: Callable[[float], None] | None = None
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="ahead"))
    _making: Future[None] = field(init=False)

    def __post_init__(self) -> None:
        self.wanted.part.write_bytes(b"")
        self._making = self._pool.submit(self._encode)

    def result(self, on_time: Callable[[float], None]) -> Measured:
        """Wait for the file, telling how many seconds of it are made; returns what was measured in it."""
        self._on_time = on_time
        wanted = self.wanted
        try:
            found = heard(self.run, wanted.made, wanted.part, feed(self.run, wanted.part, self._finished))
        finally:
            self._pool.shutdown()
            self._making.result()  # where the encoder failed, that is what is to be told
        return found

    def drop(self) -> None:
        """Nobody wants the file: end its encoder, and wait for that."""
        self._dropped.set()
        with suppress(Exception):  # whatever is wrong with it, it is not wanted
            self._making.result()
        self._pool.shutdown()

    def _encode(self) -> None:
        wanted = self.wanted
        filters = ",".join([wanted.mix.filters or "anull", "asetpts=N/SR/TB"])
        args = [
            *(*input_args(wanted.source), "-filter_complex", f"[{wanted.stream}]{filters}[o0]", "-map", "[o0]"),
            *(*wanted.made.codec_args(), *wanted.made.muxer_args(), *wanted.metadata, str(wanted.part)),
        ]
        self.command = shown([str(self.run.engine.ffmpeg), *args], self.run.work)
        try:
            transcode(self.run, args, expected_s=wanted.seconds, on_time=self._progress)
        finally:
            self._finished.set()

    def _progress(self, seconds: float) -> None:
        if self._dropped.is_set():
            raise _Dropped
        if self._on_time is not None:
            self._on_time(seconds)
