"""Every source becomes a take of exactly known length, which only decoding tells, but for a plain WAV."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from shared.errors import JobFailure
from shared.types import EditParams
from worker import ledger
from worker.editing import picture as pictures
from worker.editing import sound as sounds
from worker.editing.copies import frames_of
from worker.editing.picture import Picture
from worker.editing.rendering import render
from worker.editing.sound import Sound
from worker.editing.state import EditState
from worker.editing.steps import Take, predicted_s
from worker.examine import damage, plays_everywhere, sound_track
from worker.loudness import Measured
from worker.probe import AudioStream, Media
from worker.run import Run
from worker.wav import read_header

#: What a picture without sound gets.
_SILENT_RATE, _SILENT_CHANNELS = 48_000, 2


def takes_of(run: Run, state: EditState, parts: Path, *, seen: bool) -> dict[str, Take]:
    """Every file as a take of exactly known length."""
    if not seen and state.params.loudness is not None:
        _recall(run, state)
    state.total_s = _total_s(run, state, seen=seen)
    decoded: dict[str, Take] = {}
    for name, source in state.params.named.items():
        if source not in decoded:
            with about(state.params, name):
                decoded[source] = _take(run, state, parts, source, seen=seen)
    return {name: replace(decoded[source], name=name) for name, source in state.params.named.items()}


def _take(run: Run, state: EditState, parts: Path, source: str, *, seen: bool) -> Take:
    media, path, audio = state.media[source], state.paths[source], state.audio(source)
    picture = _picture(run, state, source) if seen else None
    if audio is None:
        if picture is None:
            sound_track(media)  # says that there is no sound
        assert picture is not None
        state.warnings.append("A recording has no sound; its picture got a silent track.")
        samples = round(picture.frames * _SILENT_RATE / picture.fps)
        return Take("", sounds.silent(samples, rate=_SILENT_RATE, channels=_SILENT_CHANNELS), picture)
    header = read_header(path)
    left = state.ledgers.get(path)
    if picture is None and header is not None and _tells_its_length(media, audio):
        samples = round(header.duration_s * header.sample_rate)
        sound = sounds.read(path, audio.index, rate=audio.sample_rate, channels=audio.channels, samples=samples)
        return Take("", sound, points=left.points if left is not None and left.samples == samples else None)
    if left is not None:
        _tell_damage(run, state, media, left)
        sound = sounds.read(path, audio.index, rate=left.sample_rate, channels=left.channels, samples=left.samples)
        return Take("", sound, points=left.points)
    sound, measured = _decode(run, state, parts, source, audio, timed=picture is not None)
    state.decoded_samples[source] = measured.samples
    _tell_damage(run, state, media, measured)
    if picture is None:
        ledger.keep(run, source, measured)
        return Take("", sound, points=measured.points)
    # What is beside a picture is as long as the picture.
    sound = sound.exactly(round(picture.frames * sound.rate / picture.fps))
    points = np.zeros((-(-sound.samples // (sound.rate // 100)), 2), np.int16)
    known = measured.points[: len(points)]
    points[: len(known)] = known
    return Take("", sound, picture, points)


def _recall(run: Run, state: EditState) -> None:
    """What earlier jobs have left of the sources: with it nothing has to be decoded before the edit is made."""
    for source, path in state.paths.items():
        audio = state.audio(source)
        found = None if audio is None else ledger.recall(run, source, audio)
        if found is not None:
            state.ledgers[path] = found
            state.believed.append(source)


def _tell_damage(run: Run, state: EditState, media: Media, measured: Measured) -> None:
    for sentence in damage(media, measured):
        state.warnings.append(sentence)
        run.report.log("warn", sentence)


def _decode(
    run: Run, state: EditState, parts: Path, source: str, audio: AudioStream, *, timed: bool
) -> tuple[Sound, Measured]:
    """The sound track as a WAV file of floats, and what it measures; `timed` keeps its place beside a picture."""
    path = parts / f"source-{list(state.paths).index(source)}.wav"
    sound = sounds.read(
        state.paths[source], audio.index, rate=audio.sample_rate, channels=audio.channels, samples=0, timed=timed
    )
    measured = render(run, state, sound, path)
    if not measured.samples:
        raise JobFailure("bad_input.no_audio", "The recording has no sound in it; upload a file with a sound track.")
    state.ledgers[path] = measured
    return sounds.read(path, 0, rate=sound.rate, channels=sound.channels, samples=measured.samples), measured


def _picture(run: Run, state: EditState, source: str) -> Picture | None:
    """The picture track of a source at a constant rate; None where there is none."""
    path, media = state.paths[source], state.media[source]
    video = media.picture
    if video is None:
        return None
    fps = Fraction(video.fps).limit_denominator(1001) if video.fps else Fraction(25)
    if source not in state.frames:
        state.frames[source] = frames_of(run, path, video.index, fps)
    found = state.frames[source]
    steady = found is not None and found.steady
    if found is not None and steady:
        frames = found.count
    else:
        frames = round((found.end_s if found else video.duration_s or media.duration_s or 0.0) * fps)
    copyable = steady and plays_everywhere(media, video) and video.rotation == 0
    return pictures.read(
        path,
        video.index,
        fps=fps,
        size=video.shown,
        frames=max(1, frames),
        keys=found.keys if found and copyable else frozenset(),
    )


def _tells_its_length(media: Media, audio: AudioStream) -> bool:
    """Whether the header's word about the length is the truth: a WAV file, all of it there."""
    return media.format_name == "wav" and audio.codec.startswith("pcm_") and not media.video


def _total_s(run: Run, state: EditState, *, seen: bool) -> float | None:
    """About how many seconds of sound the stage will pass; None where a file does not tell its length."""
    takes, decoding_s = {}, 0.0
    for name, source in state.params.named.items():
        media, audio = state.media[source], state.audio(source)
        if media.duration_s is None:
            return None
        rate = audio.sample_rate if audio else _SILENT_RATE
        samples = max(1, round(media.duration_s * rate))
        takes[name] = Take(
            name, sounds.silent(samples, rate=rate, channels=1), _picture(run, state, source) if seen else None
        )
        path = state.paths[source]
        plain = not seen and audio is not None and read_header(path) and _tells_its_length(media, audio)
        direct = audio is None or path in state.ledgers or plain
        decoding_s += 0.0 if direct else media.duration_s
    left_s = predicted_s(state.params, takes)
    return None if left_s is None else decoding_s + left_s


@contextmanager
def about(params: EditParams, name: str) -> Iterator[None]:
    """With several files, a failure says which of them it is about."""
    try:
        yield
    except JobFailure as failure:
        if len(params.named) == 1:
            raise
        raise JobFailure(failure.failure_code, f"The file {name!r}: {failure.message}", kind=failure.kind) from None
