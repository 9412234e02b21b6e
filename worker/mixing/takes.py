"""Every source is decoded once: into a file of plain samples at the rate of the mix, and measured meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from shared.errors import JobFailure
from worker.examine import damage, refuse_no_sound, refuse_too_long, sound_track
from worker.ffmpeg import BITEXACT, input_args
from worker.loudness import Measured, Rendering, measure
from worker.meter import Mix
from worker.probe import AudioStream, Media, probe

if TYPE_CHECKING:
    from worker.run import Run

Answer = TypeVar("Answer")
#: Programs at once: what one waits for, the other computes.
_AT_ONCE = 2
#: Nothing is mixed at a higher rate.
_HIGHEST_RATE = 192_000


@dataclass(frozen=True, slots=True)
class Found:
    """A source as it was found: what the file is, and its sound track. `at` is the first entry that names it."""

    at: str
    path: Path
    media: Media
    audio: AudioStream

    @property
    def channels(self) -> int:
        """How many it has in the mix: more than two are folded."""
        return min(self.audio.channels, 2)


@dataclass(frozen=True, slots=True)
class Take:
    """A source, decoded: interleaved 32-bit floats at `path`, and what they measure."""

    path: Path
    measured: Measured

    @property
    def channels(self) -> int:
        """One or two."""
        return self.measured.channels

    @property
    def samples(self) -> int:
        """How many it has in each channel."""
        return self.measured.samples


def look(run: Run, paths: Mapping[str, Path], first: Mapping[str, str]) -> dict[str, Found]:
    """Look into every source; `first` tells which entry names it first. Raises `JobFailure` that names it."""

    def found(source: str) -> Found:
        with about(first[source]):
            media = probe(run, paths[source])
            return Found(first[source], paths[source], media, sound_track(media))

    return _each(paths, found)


def common_rate(found: Mapping[str, Found]) -> int:
    """The rate of the mix: the highest of the sources'."""
    return min(_HIGHEST_RATE, max(one.audio.sample_rate for one in found.values()))


@dataclass(frozen=True, slots=True)
class Decoder:
    """Decodes sources into a folder; where one is needed no further, up to `until_s`.

    `on_time` hears how far each of them is, `warn` what of it is damaged.
    """

    run: Run
    rate: int
    folder: Path
    until_s: Mapping[str, float]
    on_time: Callable[[str, float], None]
    warn: Callable[[str], None]
    commands: list[list[str]]

    def takes(self, found: Mapping[str, Found]) -> dict[str, Take]:
        """Every source, some at once. Raises `JobFailure` that names the entry."""
        names = {source: f"take-{number}" for number, source in enumerate(found)}
        return _each(found, lambda source: self._take(source, found[source], names[source]))

    def _take(self, source: str, one: Found, name: str) -> Take:
        until_s = self.until_s.get(source)
        with about(one.at):
            take = self._decoded(source, one, self.folder / f"{name}.f32", until_s)
        if until_s is None:
            for sentence in damage(one.media, take.measured):
                self.warn(f"{one.at}: {sentence}")
        return take

    def _decoded(self, source: str, one: Found, path: Path, until_s: float | None) -> Take:
        filters = ["aformat=sample_fmts=fltp"]
        if one.audio.channels > 2:
            filters.append("aformat=channel_layouts=stereo")
        if one.audio.sample_rate != self.rate:
            filters.append(f"aresample={self.rate}")
        filters.append("asetpts=N/SR/TB")
        if until_s is not None:
            # One sample more tells whether the source has as many as are wanted.
            filters.append(f"atrim=end_sample={round(until_s * self.rate) + 1}")

        def heard(seconds: float) -> None:
            refuse_too_long(seconds)
            self.on_time(source, seconds)

        measured = measure(
            self.run,
            input_args(one.path),
            Mix(one.channels, self.rate),
            folder=self.run.work,
            name=path.stem,
            on_time=heard,
            rendering=Rendering(
                f"[0:{one.audio.index}]{','.join(filters)}[edited]",
                ("-map", "[kept]", "-c:a", "pcm_f32le", *BITEXACT, "-f", "f32le", str(path)),
                self.commands,
            ),
        )
        refuse_no_sound(measured)
        if not measured.samples:
            raise JobFailure(
                "bad_input.no_audio", "The recording has no sound in it; upload a file with a sound track."
            )
        return Take(path, measured)


@contextmanager
def about(at: str) -> Iterator[None]:
    """A failure says which entry it is about."""
    try:
        yield
    except JobFailure as failure:
        raise JobFailure(failure.failure_code, f"{at}: {failure.message}", kind=failure.kind) from None


def _each(sources: Mapping[str, object], work: Callable[[str], Answer]) -> dict[str, Answer]:
    """Do it for every source, some at once; after a failure none is begun any more."""
    with ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="take") as pool:
        begun = {source: pool.submit(work, source) for source in sources}
        try:
            return {source: future.result() for source, future in begun.items()}
        except BaseException:  # raised again
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def needed_until_s(clips: Sequence[tuple[str, float | None]]) -> dict[str, float]:
    """(source, where its clip ends) of all clips: the sources that no clip needs to their end, and how far they are."""
    ends: dict[str, list[float | None]] = {}
    for source, end_s in clips:
        ends.setdefault(source, []).append(end_s)
    known = {source: [end for end in each if end is not None] for source, each in ends.items()}
    return {source: max(known[source]) for source, each in ends.items() if len(known[source]) == len(each)}
