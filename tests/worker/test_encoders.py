"""What encoders do to loudness, measured on this engine; and the rates and bit rates they are given."""

from __future__ import annotations

import dataclasses

import pytest

from shared.types import OutputSpec
from worker.encoders import delivery_rate, derive, encoding

pytestmark = pytest.mark.media


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    "spec",
    [
        *[OutputSpec(format="mp3", bitrate_kbps=kbps) for kbps in (64, 96, 128, 160, 192, 224, 256, 320)],
        OutputSpec(format="m4a", bitrate_kbps=192),
        OutputSpec(format="opus", bitrate_kbps=128),
        OutputSpec(format="flac"),
        OutputSpec(format="wav"),
    ],
    ids=lambda spec: f"{spec.format}-{spec.bitrate_kbps}",
)
def test_the_table_is_what_this_engine_does(run, spec, channels):
    """The loss of each encoder, derived again, is the one in the table."""
    made = encoding(spec, channels=channels, sample_rate=48_000, deep=True)
    assert derive(run, made) == pytest.approx(made.loss_db, abs=0.03)


@pytest.mark.parametrize(("kind", "kbps"), [("mp3", 128), ("mp3", 192), ("m4a", 128)])
def test_haste_costs_no_loudness(run, kind, kbps):
    """The loss of an encoder that saves time is the same as of one that does not."""
    made = encoding(OutputSpec(format=kind, bitrate_kbps=kbps), channels=2, sample_rate=48_000, deep=False, fast=True)
    assert made.codec_args() != dataclasses.replace(made, fast=False).codec_args()
    assert derive(run, made) == pytest.approx(made.loss_db, abs=0.03)


@pytest.mark.parametrize(
    ("kind", "source", "file"),
    [
        ("mp3", 8_000, 48_000),
        ("mp3", 11_025, 44_100),
        ("mp3", 32_000, 32_000),
        ("mp3", 44_100, 44_100),
        ("mp3", 96_000, 48_000),
        ("m4a", 88_200, 44_100),
        ("opus", 44_100, 48_000),
        ("flac", 8_000, 8_000),
        ("wav", 384_000, 192_000),
    ],
)
def test_files_get_a_rate_that_their_format_takes(kind, source, file):
    """The source's own rate where it can be kept, else the next of its family."""
    assert delivery_rate(kind, source) == file


def test_surround_is_folded_and_mono_is_kept():
    """A file has one or two channels, whatever the source has."""
    spec = OutputSpec(format="mp3")
    assert encoding(spec, channels=6, sample_rate=48_000, deep=False).channels == 2
    assert encoding(spec, channels=1, sample_rate=48_000, deep=False).channels == 1
    mono = OutputSpec(format="opus", channels="mono", bitrate_kbps=320)
    assert encoding(mono, channels=2, sample_rate=48_000, deep=False).kbps == 256
