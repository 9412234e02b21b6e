"""What encoders do to loudness, and which rates and bit rates they take.

LAME scales its input down at low constant bit rates. What AAC does depends on the sound: worker/excerpts.py hears it.
Nobody else here changes loudness by more than a few hundredths.
The table is published by no one, so `derive` measures it again on the engine at hand and a test compares.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shared.types import LOSSY, OutputSpec
from worker.ffmpeg import BITEXACT, OUTPUTS, SAME_BYTES, OutputFormat, transcode
from worker.loudness import measure
from worker.meter import Mix

if TYPE_CHECKING:
    from worker.run import Run

#: Bit rates in kbit/s that LAME knows (it takes the nearest) and how many dB it takes away there.
LAME_LOSS_DB: dict[int, float] = {
    **dict.fromkeys((32, 40, 48, 56, 64, 80, 96, 112, 128, 160), 0.4455),
    192: 0.2646,
    224: 0.1755,
    256: 0.0,
    320: 0.0,
}
#: And the others, whatever the bit rate: AAC where no excerpts of the recording were heard.
LOSS_DB: dict[str, float] = {"libopus": 0.0, "aac": 0.02, "flac": 0.0}
#: How an encoder saves time on detail. The others take little of it as they are.
HASTY: dict[str, tuple[str, ...]] = {"libmp3lame": ("-compression_level", "7"), "aac": ("-aac_coder", "fast")}
#: Rates that every lossy encoder and every player takes, at all of our bit rates.
_COMMON_RATES = (32_000, 44_100, 48_000)
_HIGHEST_RATE = 192_000


@dataclass(frozen=True, slots=True)
class Encoding:
    """One file to make, with every choice made."""

    name: str
    kind: str
    format: OutputFormat
    kbps: int | None
    channels: int
    sample_rate: int
    deep: bool
    fast: bool = False

    @property
    def lossy(self) -> bool:
        """Whether the encoder changes the sound."""
        return self.kind in LOSSY

    @property
    def appended(self) -> bool:
        """Whether the file only grows while it is made, so that it can be decoded meanwhile.

        How much padding ends an MP3 is known at its end: at low rates that is too long to be left in the count.
        """
        return self.kind in {"opus", "flac"} or (self.kind == "mp3" and self.sample_rate >= 44_100)

    @property
    def loss_db(self) -> float:
        """By how much the encoder will make the sound softer."""
        if self.format.encoder == "libmp3lame" and self.kbps is not None:
            return LAME_LOSS_DB[min(LAME_LOSS_DB, key=lambda known: abs(known - (self.kbps or 0)))]
        return LOSS_DB.get(self.format.encoder, 0.0)

    def codec_args(self) -> list[str]:
        """The encoder and its settings."""
        args = ["-ar", str(self.sample_rate), "-ac", str(self.channels)]
        if self.kind == "wav":
            return [*args, "-c:a", "pcm_s24le" if self.deep else "pcm_s16le"]
        if self.kind == "flac":
            depth = ["-sample_fmt", "s32", "-bits_per_raw_sample", "24"] if self.deep else ["-sample_fmt", "s16"]
            return [*args, "-c:a", "flac", *depth]
        hasty = HASTY.get(self.format.encoder, ()) if self.fast else ()
        return [*args, "-c:a", self.format.encoder, *hasty, "-b:a", f"{self.kbps}k"]

    def muxer_args(self, *, worded: bool = False) -> list[str]:
        """The container and its settings; `worded` leaves it to others to say which words come along."""
        return [*(SAME_BYTES if worded else BITEXACT), *self.format.muxer_args, "-f", self.format.muxer]


def encoding(spec: OutputSpec, *, channels: int, sample_rate: int, deep: bool, fast: bool = False) -> Encoding:
    """Choose what the request leaves open, from the source's channels, rate and depth (`deep`: over 16 bits)."""
    made = OUTPUTS[spec.format]
    folded = {"mono": 1, "stereo": 2, "source": min(channels, 2)}[spec.channels]
    kbps = (spec.bitrate_kbps or made.default_kbps) if spec.format in LOSSY else None
    if spec.format == "opus" and kbps is not None:
        kbps = min(kbps, 256 * folded)
    rate = delivery_rate(spec.format, sample_rate)
    return Encoding(spec.name or spec.format, spec.format, made, kbps, folded, rate, deep, fast)


def mix_for(native: Mix, made: Encoding) -> Mix:
    """The source's sound with a file's channels and rate; the very same mix when nothing changes."""
    filters = []
    if made.channels != native.channels:
        # In floats, so that adding channels cannot clip.
        filters.append(f"aformat=sample_fmts=fltp,aformat=channel_layouts={'mono' if made.channels == 1 else 'stereo'}")
    if made.sample_rate != native.sample_rate:
        filters.append(f"aresample={made.sample_rate}")
    return Mix(made.channels, made.sample_rate, ",".join(filters)) if filters else native


def delivery_rate(kind: str, sample_rate: int) -> int:
    """The sample rate a file gets: the source's where the format allows, else the next of its family."""
    if kind not in LOSSY:
        return min(sample_rate, _HIGHEST_RATE)
    if kind == "opus":
        return 48_000
    if sample_rate in _COMMON_RATES:
        return sample_rate
    return 44_100 if sample_rate % 11_025 == 0 else 48_000


def derive(run: Run, made: Encoding) -> float:
    """By how many dB this engine's encoder makes a test signal softer; takes well under a second."""
    plain, coded = run.work / "plain", run.work / "coded"
    # Five tones that swell and fade: an encoder codes them well, so that what is missing is what it took away.
    tones = "+".join(f"sin(2*PI*{hertz}*t)" for hertz in (210, 440, 1010, 2300, 4100))
    wave = f"0.05*({tones})*(1+0.5*sin(6*t))"
    sound = f"aevalsrc={'|'.join([wave] * made.channels)}:s={made.sample_rate}:d=4"
    transcode(run, ["-f", "lavfi", "-i", sound, "-c:a", "pcm_f32le", "-f", "wav", str(plain)], expected_s=4)
    transcode(run, ["-i", str(plain), *made.codec_args(), *made.muxer_args(), str(coded)], expected_s=4)
    mix = Mix(made.channels, made.sample_rate)
    before, after = (_loudness(run, path, mix) for path in (plain, coded))
    return before - after


def _loudness(run: Run, path: Path, mix: Mix) -> float:
    return measure(run, ["-i", str(path)], mix, folder=run.work).integrated_lufs
