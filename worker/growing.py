"""What is read while it is made: files that still grow, to be proven, and envelopes, which ffmpeg limits by."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from worker.limiter import envelope
from worker.loudness import Measured, measure
from worker.meter import Mix

if TYPE_CHECKING:
    from worker.deliverable import Limited
    from worker.encoders import Encoding
    from worker.run import Run

_DEMUXERS = {"mp3": "mp3", "opus": "ogg", "flac": "flac"}


def heard(
    run: Run, made: Encoding, path: Path, growing: Callable[[BinaryIO], None] | None, *, profiled: bool = False
) -> Measured:
    """Decode a file as a player would, refusing any error in it, and measure it; `growing` writes it as it is made."""
    lossless_16 = not made.lossy and not made.deep
    source = ["-f", _DEMUXERS[made.kind], "-i", "pipe:0"] if growing else ["-i", str(path)]
    return measure(
        run,
        ["-xerror", *source],
        Mix(made.channels, made.sample_rate, sixteen_bit=lossless_16),
        folder=run.work,
        name=f"check-{made.name}",
        feed=growing,
        profiled=profiled,
        what=f"The finished file {made.name}",
    )


def growth(run: Run, path: Path, finished: threading.Event) -> Iterator[bytes]:
    """What is in a file that is being made, as it comes, until it is finished."""
    while not path.exists() and not finished.wait(0.01):
        run.stop.check()
    if not path.exists():
        return
    with path.open("rb") as file:
        while True:
            ending = finished.is_set()
            while piece := file.read(1 << 18):
                yield piece
            if ending:
                return
            run.stop.check()
            finished.wait(0.05)


def feed(run: Run, path: Path, finished: threading.Event) -> Callable[[BinaryIO], None]:
    """Writes a file that is being made into a pipe, as it grows."""
    return lambda pipe: pipe.writelines(growth(run, path, finished))


@contextmanager
def envelopes(curves: Mapping[Limited, Measured], begin: int = 0) -> Iterator[dict[Limited, int]]:
    """A pipe for each limiter's envelope from a sample on: the descriptors that ffmpeg reads them from."""
    with ExitStack() as stack:
        fds: dict[Limited, int] = {}
        for (mix, solved), known in curves.items():
            reading, writing = os.pipe()
            writer = threading.Thread(
                target=_write, args=(writing, envelope(known, solved, begin)), name="envelope", daemon=True
            )
            writer.start()
            # Closing our end of a pipe that ffmpeg no longer reads is what ends the writer.
            stack.callback(writer.join)
            stack.callback(os.close, reading)
            fds[mix, solved] = reading
        yield fds


def _write(fd: int, pieces: Iterator[bytes]) -> None:
    with suppress(BrokenPipeError), open(fd, "wb", buffering=0) as pipe:
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                rest = rest[pipe.write(rest) :]
