"""A recording is looked into and measured; a WAV is measured while it is still being looked into."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import JobFailure
from worker.ffmpeg import input_args
from worker.loudness import Measured, halves, join, measure
from worker.meter import Mix
from worker.probe import AudioStream, Media, VideoStream, probe
from worker.wav import read_header

if TYPE_CHECKING:
    from worker.run import Run

LONGEST_S = 12 * 3600
MOST_CHANNELS = 8
#: Below, the filters of a loudness meter are not defined; above, nobody records, and a header of 24 bytes would decide
#: how much memory a second of sound takes.
LOWEST_RATE, HIGHEST_RATE = 4_000, 768_000
#: Decoders whose samples 16 bits hold exactly.
SIXTEEN_BIT = ("pcm_s16", "pcm_u8", "pcm_s8", "pcm_alaw", "pcm_mulaw")
#: Decoders whose samples may need more.
_DEEP = ("pcm_", "flac", "alac", "wavpack", "tta", "ape")
SHORTEST_S = 0.4
MOST_GAIN_DB = 45.0
#: Recordings in floats may be over full scale, by what a careless mix adds up to.
MOST_OVER_DB = 60.0
#: Containers whose pictures can be copied.
_COPYABLE = ("mov", "mp4", "matroska", "webm", "mpegts", "flv")
_PLAYABLE = {"Constrained Baseline", "Baseline", "Main", "High"}
#: Writers of headers may be off by a little.
_UNHEARD_S = 0.1
#: From this length on a recording is measured in two halves at once.
_WORTH_TWO_S = 60.0
#: Containers in which ffmpeg finds the very sample when it seeks in PCM.
_SEEKABLE = ("wav", "w64", "aiff", "caf")

#: Which mixes of a sound track are to be measured. Raises `JobFailure` for a file that is not wanted.
Wanted = Callable[[Media, AudioStream], Sequence[Mix]]
#: What else is begun with a measurement; whether anything is.
Meanwhile = Callable[[Media, AudioStream], bool]


@dataclass(frozen=True, slots=True)
class Examined:
    """What a file is, the sound track that counts, and what each wanted mix of it measures."""

    media: Media
    audio: AudioStream
    measured: dict[Mix, Measured]


def examine(run: Run, path: Path, wanted: Wanted, meanwhile: Meanwhile = lambda _media, _audio: False) -> Examined:
    """Probe and measure in one go; progress is told in seconds of sound. Raises `JobFailure` for what cannot be.

    `meanwhile` hears what is being measured when that begins: again, when it turns out to be something else.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="probe") as pool:
        looking = pool.submit(probe, run, path)
        guess = _guess(path)
        early = None if guess is None else _early(run, path, guess, wanted, meanwhile)
        media = looking.result()
    audio = sound_track(media)
    mixes = wanted(media, audio)
    if early is None or not _agree(guess, media):
        early = _measure(run, path, media, audio, mixes, alone=not meanwhile(media, audio))
    return Examined(media, audio, early)


def sound_track(media: Media, number: int = 1) -> AudioStream:
    """The sound track that is worked on: the first, or that of this number.

    Raises `JobFailure` where there is none, or too much of it.
    """
    if not media.audio:
        raise JobFailure("bad_input.no_audio", "The recording has no sound in it; upload a file with a sound track.")
    if number > len(media.audio):
        count = f"{len(media.audio)} sound track{'s' if len(media.audio) > 1 else ''}"
        raise JobFailure(
            "bad_input.no_track", f"params.track is {number}, and the recording has {count}; choose one of them."
        )
    if media.duration_s is not None and not media.duration_estimated:
        refuse_too_long(media.duration_s)
    track = media.audio[number - 1]
    if not 1 <= track.channels <= MOST_CHANNELS:
        raise JobFailure(
            "unsupported.format",
            f"The sound track has {track.channels} channels; export it with at most {MOST_CHANNELS}.",
        )
    if not LOWEST_RATE <= track.sample_rate <= HIGHEST_RATE:
        raise JobFailure(
            "unsupported.format",
            f"The sound track has {track.sample_rate} samples a second, and Spool takes {LOWEST_RATE} to "
            f"{HIGHEST_RATE}; export it with an ordinary rate such as 48000.",
        )
    return track


def refuse_too_long(seconds: float) -> None:
    """Raise `JobFailure` for a recording of more than `LONGEST_S`."""
    if seconds > LONGEST_S:
        raise JobFailure(
            "bad_input.too_long",
            f"The recording is longer than {LONGEST_S // 3600} hours; split it and upload the parts.",
        )


def native_mix(audio: AudioStream) -> Mix:
    """The sound track as it is."""
    return Mix(audio.channels, audio.sample_rate, sixteen_bit=audio.codec.startswith(SIXTEEN_BIT))


def is_deep(audio: AudioStream) -> bool:
    """Whether its samples may need more than 16 bits."""
    return audio.codec.startswith(_DEEP) and not audio.codec.startswith(SIXTEEN_BIT)


def refuse_unmasterable(measured: Iterable[Measured], target_lufs: float) -> None:
    """Raise `JobFailure` for what has too little sound to be brought to a loudness."""
    for found in measured:
        if found.seconds < SHORTEST_S:
            raise JobFailure(
                "bad_input.too_short",
                f"The recording has {found.seconds * 1000:.0f} ms of sound; loudness needs at least 400 ms.",
            )
        refuse_no_sound(found)
        if found.sample_peak < 10 ** (-80 / 20):
            raise JobFailure(
                "bad_input.silent",
                "The recording is silent; check that the right track or microphone was recorded and upload it again.",
            )
        gain = target_lufs - found.integrated_lufs
        if gain > MOST_GAIN_DB:
            raise JobFailure(
                "bad_input.too_quiet",
                f"The recording is too quiet: it would have to be raised by more than {MOST_GAIN_DB:g} dB, which would "
                "raise its noise above its sound; record it again with a higher level.",
            )


def refuse_no_sound(found: Measured) -> None:
    """Raise `JobFailure` for values that nobody ever recorded."""
    if found.sample_peak > 10 ** (MOST_OVER_DB / 20):
        raise JobFailure(
            "bad_input.corrupt",
            f"The recording holds values more than {MOST_OVER_DB:g} dB over full scale, which are no sound; "
            "export it again from the program that made it.",
        )


def damage(media: Media, decoded: Measured) -> list[str]:
    """Sentences about what of a file could not be decoded."""
    found = []
    if count := damaged_pieces(media, decoded):
        pieces = "1 damaged piece of the recording" if count == 1 else f"{count} damaged pieces of the recording"
        found.append(f"{pieces} could not be decoded and {'was' if count == 1 else 'were'} left out.")
    if missing := missing_s(media, decoded):
        found.append(cut_short(decoded.seconds, missing))
    elif media.promised_s is None and media.duration_s is not None and not media.duration_estimated:
        # A film may go on when its sound has ended: what the tracks say of themselves counts.
        declared = min((track.duration_s for track in media.audio if track.duration_s), default=media.duration_s)
        if decoded.seconds < 0.98 * declared - 0.5:
            found.append(
                f"The file says it is {declared:.0f} s long, and only {decoded.seconds:.0f} s of sound could be "
                "decoded; its end may be missing."
            )
    return found


def damaged_pieces(media: Media, decoded: Measured) -> int:
    """How many pieces could not be decoded.

    Plain samples can be missing and not damaged: what ffmpeg calls a corrupt packet is where such a file ends.
    """
    return 0 if all(_plain(media, track) for track in media.audio) else decoded.damaged_frames


def missing_s(media: Media, decoded: Measured) -> float:
    """How much sound a file certainly promises and does not have."""
    missing = 0.0 if media.promised_s is None else media.promised_s - decoded.seconds
    return missing if missing > _UNHEARD_S else 0.0


def cut_short(there_s: float, missing_s: float) -> str:
    """The sentence about a file that ends before it says it does."""
    return (
        f"The file says it is {there_s + missing_s:.1f} s long, and {there_s:.1f} s of sound are in it: its end is "
        "missing; copy or upload it again."
    )


def plays_everywhere(media: Media, video: VideoStream) -> bool:
    """Whether a picture track can be copied into an MP4 that every player plays."""
    playable = video.codec == "h264" and video.pix_fmt == "yuv420p" and video.profile in _PLAYABLE
    return playable and any(name in media.format_name.split(",") for name in _COPYABLE)


def seeks_exactly(media: Media, audio: AudioStream) -> bool:
    """Whether ffmpeg finds the very sample when it seeks in this file."""
    return _plain(media, audio) and audio.sample_rate % 100 == 0


def _plain(media: Media, audio: AudioStream) -> bool:
    return audio.codec.startswith("pcm_") and any(name in media.format_name.split(",") for name in _SEEKABLE)


def _guess(path: Path) -> Media | None:
    """What a file is by its first bytes, for the usual recording; `probe` has the last word."""
    header = read_header(path)
    if header is None:
        return None
    track = AudioStream(0, header.codec, header.sample_rate, header.channels, "", header.duration_s, None)
    return Media("wav", header.duration_s, path.stat().st_size, None, (track,), (), {})


def _agree(guess: Media | None, media: Media) -> bool:
    """Whether the measurement that followed from the guess is the one that follows from what was found."""
    if guess is None or media.format_name != guess.format_name or media.duration_s is None:
        return False
    told, found = guess.audio[0], media.audio[0]
    same = (told.index, told.codec, told.sample_rate, told.channels) == (
        *(found.index, found.codec, found.sample_rate, found.channels),
    )
    return same and not media.video and abs(media.duration_s - (guess.duration_s or 0.0)) < 1e-3


def _early(run: Run, path: Path, guess: Media, wanted: Wanted, meanwhile: Meanwhile) -> dict[Mix, Measured] | None:
    """Begin to measure before it is known what the file is; None where that leads nowhere."""
    try:
        audio = sound_track(guess)
        mixes = wanted(guess, audio)
        return _measure(run, path, guess, audio, mixes, alone=not meanwhile(guess, audio))
    except JobFailure:
        return None


def _measure(
    run: Run, path: Path, media: Media, audio: AudioStream, wanted: Sequence[Mix], *, alone: bool
) -> dict[Mix, Measured]:
    """Measure every mix; a long WAV in two halves at once, on two cores, when it is alone: an encoder that has begun
    takes longer than all of this, and must not wait for a core."""
    known = media.duration_s
    mixes = list(dict.fromkeys(wanted))
    spans: list[tuple[float | None, float | None]] = [(None, None)]
    if alone and known is not None and known >= _WORTH_TWO_S and seeks_exactly(media, audio):
        cut, again = halves(known, audio.sample_rate)
        spans = [(None, cut), (again, None)]
    done = [0.0] * (len(mixes) * len(spans))

    def part(place: int) -> Measured:
        start_s, duration_s = spans[place % len(spans)]

        def on_time(seconds: float) -> None:
            refuse_too_long(seconds)
            done[place] = seconds
            run.report.progress(sum(done), total)

        return measure(
            run,
            input_args(path, start_s=start_s, duration_s=duration_s),
            mixes[place // len(spans)],
            folder=run.work,
            name=f"part-{place}",
            stream=f"0:{audio.index}",
            on_time=on_time,
            profiled=True,
        )

    total = None if known is None else len(mixes) * (known + (spans[0][1] or 0.0) - (spans[-1][0] or 0.0))
    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="measure") as pool:
        parts: list[Future[Measured]] = [pool.submit(part, place) for place in range(len(done))]
        found = [future.result() for future in parts]
    if len(spans) == 1:
        return dict(zip(mixes, found, strict=True))
    return {mix: join(found[2 * n], found[2 * n + 1]) for n, mix in enumerate(mixes)}
