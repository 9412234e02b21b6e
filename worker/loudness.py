"""How loud a recording is: BS.1770 loudness, exact true peak, clipping, silence and the waveform, from one decode.

ffmpeg decodes, folds and K-weights (its `ebur128` filter writes one value per 100 ms); the gating, the range and the
peaks are computed here. The sound passes through, a few seconds at a time: an hour of it leaves about 60 MB of numbers.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from worker.failures import explain
from worker.ffmpeg import base_args, damaged_frames, graph_args, shown
from worker.meter import Floats, Meter, Mix, Points, Profile, Samples, block_samples

if TYPE_CHECKING:
    from worker.process import Child
    from worker.run import Run

#: What a gated measurement says of silence; ffmpeg prints it for a window without any sound.
SILENCE_LUFS = -120.0
#: The first windows of 0.4 s (momentary) and 3 s (short-term) that are not yet full, in steps of 0.1 s.
M_LEAD, S_LEAD = 3, 29
#: A second run over a later part starts at least this much early, so that its first short-term window is full.
_LEAD_S = 3.0
_PIPE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Rendering:
    """A sound that is made and kept while it is measured: `graph` ends in `[edited]`, `keep` says where `[kept]` goes.

    `[kept]` is that sound again, for the output arguments in `keep`. The command line is put into `commands`.
    """

    graph: str
    keep: tuple[str, ...]
    commands: list[list[str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Measured:
    """What one decode told. `momentary` and `short_term` are LUFS every 0.1 s; `points` are (min, max) every 10 ms."""

    sample_rate: int
    channels: int
    samples: int
    momentary: Floats
    short_term: Floats
    points: Points
    true_peak: float
    sample_peak: float
    #: None where it is not known.
    clipped_samples: int | None
    damaged_frames: int
    profile: Profile | None = None

    @property
    def seconds(self) -> float:
        """Decoded duration."""
        return self.samples / self.sample_rate

    @property
    def integrated_lufs(self) -> float:
        """Programme loudness by BS.1770 gating; -inf when nothing passes the gate."""
        return gated(self.momentary[M_LEAD:])

    @property
    def true_peak_dbtp(self) -> float:
        """Highest value of the signal between and at its samples, over all channels."""
        return decibels(self.true_peak)

    def facts(self) -> dict[str, Any]:
        """The numbers a report shows; None stands for silence."""
        return {
            "integrated_lufs": _rounded(self.integrated_lufs),
            "true_peak_dbtp": _rounded(self.true_peak_dbtp),
            "sample_peak_dbfs": _rounded(decibels(self.sample_peak)),
            "loudness_range_lu": _rounded(loudness_range(self.short_term[S_LEAD:])),
            "max_momentary_lufs": _rounded(_loudest(self.momentary[M_LEAD:])),
            "max_short_term_lufs": _rounded(_loudest(self.short_term[S_LEAD:])),
            "noise_floor_lufs": _rounded(noise_floor(self.momentary[M_LEAD:])),
            "clipped_samples": self.clipped_samples,
            "duration_s": round(self.seconds, 3),
            "channels": self.channels,
            "sample_rate": self.sample_rate,
        }


def decibels(ratio: float) -> float:
    """An amplitude ratio in dB; -inf for zero."""
    return 20 * float(np.log10(ratio)) if ratio > 0 else float("-inf")


def gated(momentary: Floats) -> float:
    """Integrated loudness in LUFS of 400 ms windows that overlap by 75 %, by BS.1770: -70 LUFS, then mean - 10 LU."""
    heard = momentary[momentary > -70.0]
    if not heard.size:
        return float("-inf")
    power = 10 ** (heard / 10)
    loud = power[heard > 10 * np.log10(power.mean()) - 10.0]
    return float(10 * np.log10(loud.mean()))


def loudness_range(short_term: Floats) -> float:
    """Loudness range in LU by EBU Tech 3342: 10th to 95th percentile over -70 LUFS and mean - 20 LU."""
    heard = short_term[short_term > -70.0]
    if not heard.size:
        return 0.0
    heard = heard[heard > 10 * np.log10(np.mean(10 ** (heard / 10))) - 20.0]
    low, high = np.percentile(heard, (10, 95), method="nearest")
    return float(high - low)


def noise_floor(momentary: Floats) -> float:
    """Loudness of the quietest tenth of what is not digital silence, in LUFS."""
    heard = momentary[momentary > -100.0]
    return float(np.percentile(heard, 10)) if heard.size else float("-inf")


def silences(
    points: Points, sample_rate: int, *, below_dbfs: float = -60.0, at_least_s: float = 1.0
) -> list[tuple[float, float]]:
    """Spans (start, end) in seconds in which no sample reaches `below_dbfs`, as fine as the `points` of about 10 ms."""
    # A point is a whole number of samples, which is not quite 10 ms at 22,050 Hz.
    step_s = (sample_rate // 100) / sample_rate
    quiet = np.abs(points.astype(np.int32)).max(axis=1) < 32768 * 10 ** (below_dbfs / 20)
    found = [(round(a * step_s, 6), round(b * step_s, 6)) for a, b in spans(quiet)]
    return [(start, end) for start, end in found if end - start >= at_least_s - step_s / 2]


def spans(holds: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Where a condition holds without a break: (first, one after the last)."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], holds, [False])).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def measure(
    run: Run,
    source: Sequence[str],
    mix: Mix,
    *,
    folder: Path,
    name: str = "whole",
    stream: str = "0:a:0",
    on_time: Callable[[float], None] | None = None,
    feed: Callable[[BinaryIO], None] | None = None,
    rendering: Rendering | None = None,
    profiled: bool = False,
    also: Callable[[Samples], None] | None = None,
    what: str = "The recording",
) -> Measured:
    """Decode `source` (ffmpeg's input arguments) once and measure it as `mix`; scratch files go to `folder`.

    `feed`, when given, writes the file into ffmpeg's standard input, from a thread of its own. `also` is shown the
    samples, (frames, channels), a second at a time. With a `rendering` it is that sound which is measured, while it is
    made. Raises `JobFailure`.
    """
    # Level 56 (trace) keeps the filter from printing every value on stderr, in all versions.
    files = [f"{name}.{key}" for key in "MS"]
    prints = [f"ametadata=mode=print:key=lavfi.r128.{file[-1]}:file={file}" for file in files]
    chain = ",".join(filter(None, (mix.filters, "ebur128=metadata=1:framelog=56", *prints)))
    heard = ["-map", stream, "-af", chain]
    if rendering is not None:
        graph = f"{rendering.graph};[edited]asplit[kept][heard];[heard]{chain}[metered]"
        heard = [*graph_args(run.engine, graph, folder / f"{name}.graph"), *rendering.keep, "-map", "[metered]"]
    argv = [
        *(*base_args(run.engine, loglevel="level+verbose"), *source, *heard),
        *(
            "-ar",
            str(mix.sample_rate),
            "-ac",
            str(mix.channels),
            "-f",
            "s16le" if mix.sixteen_bit else "f32le",
            "pipe:1",
        ),
    ]
    if rendering is not None:
        rendering.commands.append(shown(argv, run.work))
        run.report.log("debug", "ffmpeg starts", version=run.engine.version, argv=rendering.commands[-1])
    meter = Meter(mix, profiled=profiled, also=also)
    with run.processes.start(argv, cwd=folder, stdin=feed is not None, stdout=True) as child, _feeding(child, feed):
        assert child.stdout is not None
        with contextlib.suppress(OSError, AttributeError):  # a larger pipe only saves switches, and only Linux has it
            fcntl.fcntl(child.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        while meter.read(child.stdout):
            run.stop.check()
            if on_time:
                on_time(meter.samples / mix.sample_rate)
        ended = child.wait()
    if ended.returncode:
        raise explain(ended, what=what)
    if on_time:  # and of the end, which seldom is a whole number of steps
        on_time(meter.samples / mix.sample_rate)
    steps = meter.samples // (mix.sample_rate // 10)
    momentary, short_term = (_printed(folder / file)[:steps] for file in files)
    return Measured(
        sample_rate=mix.sample_rate,
        channels=mix.channels,
        samples=meter.samples,
        momentary=momentary,
        short_term=short_term,
        points=meter.points(),
        true_peak=meter.true_peak,
        sample_peak=meter.sample_peak,
        clipped_samples=meter.clipped_samples,
        damaged_frames=damaged_frames(ended),
        profile=meter.profile(),
    )


def halves(seconds: float, sample_rate: int) -> tuple[float, float]:
    """Where the first part of a long recording ends and the second begins, in seconds, so that `join` fits them.

    The second begins early enough to fill its windows, and both at whole steps and blocks.
    """
    unit = math.lcm(sample_rate // 10, block_samples(sample_rate)) / sample_rate
    cut = max(1, round(seconds / 2 / unit)) * unit
    return cut, cut - math.ceil(_LEAD_S / unit) * unit


def join(first: Measured, second: Measured) -> Measured:
    """One measurement from two, the second of which was begun before the first ended, as `halves` says."""
    unit = math.lcm(first.sample_rate // 10, block_samples(first.sample_rate))
    lead = math.ceil(_LEAD_S * first.sample_rate / unit) * unit
    steps, points = lead // (first.sample_rate // 10), lead // (first.sample_rate // 100)
    profile = None
    if first.profile is not None and second.profile is not None:
        skip = lead // first.profile.block
        peaks = np.concatenate((first.profile.peaks, second.profile.peaks[skip:]))
        profile = Profile(
            first.profile.block, peaks, np.concatenate((first.profile.energy, second.profile.energy[skip:]))
        )
    return replace(
        first,
        samples=first.samples + second.samples - lead,
        momentary=np.concatenate((first.momentary, second.momentary[steps:])),
        short_term=np.concatenate((first.short_term, second.short_term[steps:])),
        points=np.concatenate((first.points, second.points[points:])),
        true_peak=max(first.true_peak, second.true_peak),
        sample_peak=max(first.sample_peak, second.sample_peak),
        clipped_samples=(first.clipped_samples or 0) + (second.clipped_samples or 0),
        damaged_frames=first.damaged_frames + second.damaged_frames,
        profile=profile,
    )


def raised(of: Measured, gain_db: float) -> Measured:
    """What is measured in a sound that a player raises by so much."""
    ratio = 10 ** (gain_db / 20)
    peak = of.sample_peak * ratio
    return replace(
        of,
        momentary=np.where(of.momentary > SILENCE_LUFS, of.momentary + gain_db, SILENCE_LUFS),
        short_term=np.where(of.short_term > SILENCE_LUFS, of.short_term + gain_db, SILENCE_LUFS),
        points=np.clip(np.rint(of.points * ratio), -32768, 32767).astype(np.int16),
        true_peak=of.true_peak * ratio,
        sample_peak=peak,
        clipped_samples=0 if peak < 1 else of.clipped_samples,
        profile=None,
    )


@contextlib.contextmanager
def _feeding(child: Child, feed: Callable[[BinaryIO], None] | None) -> Iterator[None]:
    """Run `feed` into the child's standard input meanwhile; its errors are raised here, a reader's end is none."""
    if feed is None:
        yield
        return
    errors: list[BaseException] = []

    def work() -> None:
        assert child.stdin is not None
        try:
            with child.stdin as stdin:
                feed(stdin)
        except BrokenPipeError:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            errors.append(error)

    thread = threading.Thread(target=work, name="feed", daemon=True)
    thread.start()
    try:
        yield
    except BaseException:  # raised again: the program must not wait for us
        child.abandon()
        raise
    finally:
        thread.join()
    if errors:
        raise errors[0]


_VALUE = re.compile(rb"r128\.[MS]=(\S+)")


def _printed(path: Path) -> Floats:
    """The values that ffmpeg's ametadata wrote; a window without sound is silence."""
    values = np.array(_VALUE.findall(path.read_bytes()), dtype=np.float64)
    path.unlink()
    return np.nan_to_num(values, nan=SILENCE_LUFS, neginf=SILENCE_LUFS)


def _loudest(values: Floats) -> float:
    return float(values.max(initial=SILENCE_LUFS))


def _rounded(value: float) -> float | None:
    return round(value, 3) if value > SILENCE_LUFS + 1 else None
