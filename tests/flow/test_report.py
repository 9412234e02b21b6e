"""`report` from an uploaded file to the document and the page, against signals whose numbers are known."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from shared.errors import JobFailure
from shared.types import JOB_TYPES, QualityReport
from shared.types.report import ClippedSpan, SeriesFacts
from tests.flow.conftest import Done
from tests.media import judges, signals
from worker.page import page
from worker.quality import rounded, thinned
from worker.run import Run

pytestmark = pytest.mark.media

RATE = signals.RATE
Report = Callable[..., dict[str, Any]]


@pytest.fixture
def report(perform, tmp_path) -> Report:
    """Writes a sound, reports on it, and returns the document, which fits its published schema."""

    def made(sound: signals.Sound, *, rate: int = RATE, encoding: signals.Encoding = "f32", **params: Any) -> dict:
        path = signals.write(tmp_path / "sound.wav", sound, rate=rate, encoding=encoding)
        return document(perform("report", path, **params))

    return made


def document(done: Done) -> dict[str, Any]:
    """The JSON, checked by a library that is not ours against the schema that clients read."""
    found = json.loads(done.files["report.json"].read_text())
    schema = JOB_TYPES["report"].documents["report.json"].model_json_schema(mode="serialization")
    jsonschema.Draft202012Validator(schema).validate(found)
    QualityReport.model_validate(found)
    return found


def codes(found: dict[str, Any]) -> set[str]:
    """The findings by their codes."""
    return {one["code"] for one in found["findings"]}


# --- loudness and peaks -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["3341-6"])
def test_integrated_loudness_is_what_the_ebu_asks(report, name):
    """EBU Tech 3341: surround; the other cases are those of the meter itself (tests/worker/test_loudness.py)."""
    make, expected = signals.EBU_INTEGRATED[name]
    found = report(make(), encoding="s16", preset="ebu-r128")
    assert expected.holds(found["loudness"]["integrated_lufs"])
    assert not codes(found) & {"too_loud", "too_quiet"}
    assert (found["stereo"]["correlation"] or 0) > 0.99


@pytest.mark.parametrize("name", ["3342-1"])
def test_the_loudness_range_is_what_the_ebu_asks(report, name):
    """EBU Tech 3342."""
    make, expected = signals.EBU_RANGE[name]
    assert expected.holds(report(make(), encoding="s16")["loudness"]["range_lu"])


def test_the_loudest_moments_are_what_the_ebu_asks(report):
    """EBU Tech 3341, cases 9 and 12, in the numbers and in the values over time."""
    short, momentary = report(signals.EBU_SHORT_TERM["3341-9"][0]()), report(signals.EBU_MOMENTARY["3341-12"][0]())
    assert short["loudness"]["max_short_term_lufs"] == pytest.approx(-23, abs=0.1)
    assert momentary["loudness"]["max_momentary_lufs"] == pytest.approx(-23, abs=0.1)
    for found, name in ((short, "short_term_lufs"), (momentary, "momentary_lufs")):
        values = [value for value in found["series"][name] if value is not None]
        assert max(values) == pytest.approx(-23, abs=0.1)
    assert momentary["series"]["momentary_lufs"][:3] == [None] * 3
    assert short["series"]["short_term_lufs"][:29] == [None] * 29


@pytest.mark.parametrize("name", ["3341-16", "3341-19"])
def test_true_peaks_are_what_the_ebu_asks(report, name):
    """EBU Tech 3341: between the samples, and over full scale."""
    make, expected = signals.EBU_TRUE_PEAK[name]
    found = report(make())
    assert expected.holds(found["levels"]["true_peak_dbtp"])
    assert ("peak_over_ceiling" in codes(found)) == (expected.value > -1)


@pytest.mark.parametrize("name", ["speech", "video", "phone"])
def test_real_recordings_read_as_both_judges_do(perform, recordings, run: Run, name):
    """Two independent meters, speech, a film in 5.1, and a telephone; in one decode each."""
    path = getattr(recordings, name)
    done = perform("report", path)
    found = document(done)
    assert len(done.decodes) == 1
    for judge in (judges.libebur128, judges.ffmpeg_meter):
        verdict = judge(run.engine.ffmpeg, path)
        assert found["loudness"]["integrated_lufs"] == pytest.approx(verdict.lufs, abs=0.03)
        assert found["levels"]["true_peak_dbtp"] == pytest.approx(verdict.true_peak_dbtp, abs=0.15)
        assert found["source"]["duration_s"] == pytest.approx(verdict.duration_s, abs=0.001)
    samples = judges.decode(run.engine.ffmpeg, path).samples.astype(np.float64)
    levels = found["levels"]
    assert levels["rms_dbfs"] == pytest.approx(10 * np.log10((samples**2).mean()), abs=0.01)
    assert [one["dc_offset"] for one in levels["channels"]] == pytest.approx(samples.mean(axis=0).tolist(), abs=2e-6)
    assert [one["peak_dbfs"] for one in levels["channels"]] == pytest.approx(
        [20 * np.log10(peak) if peak else None for peak in np.abs(samples).max(axis=0)], abs=0.01
    )
    assert done.result["loudness"] == found["loudness"]


def test_values_over_time_lie_where_the_sound_does(report):
    """A louder second half begins in the middle, and the distribution holds as many seconds of each."""
    found = report(signals.stereo_steps((-40, 10), (-20, 10)))
    momentary = found["series"]["momentary_lufs"]
    assert found["series"]["step_s"] == 0.1
    assert momentary[95] == pytest.approx(-40, abs=0.1)
    assert momentary[104] == pytest.approx(-20, abs=0.1)
    spread = found["distribution"]
    assert sum(spread["seconds"]) == pytest.approx(19.7, abs=0.01)
    near = {level: sum(spread["seconds"][int(level - spread["from_lufs"]) - 1 :][:2]) for level in (-40, -20)}
    assert near == pytest.approx({-40: 9.7, -20: 9.7}, abs=0.2)


# --- what is wrong with a sound -----------------------------------------------------------------------------------
def test_an_offset_is_told_per_channel(report):
    """Half a percent is advice, two are a problem, and the sign stays."""
    found = report(signals.tone(3, -20, -20) + np.array([0.03, -0.01]))
    assert [one["dc_offset"] for one in found["levels"]["channels"]] == pytest.approx([0.03, -0.01], abs=1e-5)
    (finding,) = [one for one in found["findings"] if one["code"] == "dc_offset"]
    assert finding["weight"] == "problem"
    assert "3.0 %" in finding["message"]
    assert "dc_offset" not in codes(report(signals.tone(3, -20, -20) + 0.002))


def test_clipping_is_found_where_it_is(report):
    """Runs of three samples at full scale, also across the borders of a second; single samples are not damage."""
    sound = signals.tone(6, -20, -20)
    sound[RATE - 5 : RATE + 7, 0] = 1.0  # 12 samples over the border
    sound[2 * RATE : 2 * RATE + 3, 1] = -1.0
    sound[2 * RATE + 100 : 2 * RATE + 104] = 1.0  # the same place, on both channels
    sound[4 * RATE : 4 * RATE + 2] = 1.0  # two samples
    sound[6 * RATE - 3 :, 0] = 1.0  # up to the end
    found = report(sound)["clipping"]
    assert (found["samples"], found["runs"], found["longest_run_samples"], found["places"]) == (26, 5, 12, 3)
    assert [one["start_s"] for one in found["first_places"]] == pytest.approx([1 - 5 / RATE, 2, 6 - 3 / RATE], abs=1e-4)
    assert [one["samples"] for one in found["first_places"]] == [12, 11, 3]
    assert found["first_places"][1]["end_s"] == pytest.approx(2 + 104 / RATE, abs=1e-4)


def test_a_sound_without_clipping_has_none(report):
    """Full scale that is only touched is a peak."""
    found = report(signals.tone(2, -0.0001, hertz=997) * (32767 / 32768), encoding="s16")
    assert found["clipping"] == {"samples": 0, "runs": 0, "longest_run_samples": 0, "places": 0, "first_places": []}


@pytest.mark.parametrize(
    ("sides", "correlation", "mono_db", "said"),
    [
        ((1.0, 1.0), 1.0, 0.0, "dual_mono"),
        ((1.0, -1.0), -1.0, None, "out_of_phase"),
        ((1.0, 0.5), 1.0, -0.46, "unbalanced"),
        ((1.0, 0.0), None, -3.01, "one_sided"),
    ],
)
def test_left_and_right_are_told_apart(report, sides, correlation, mono_db, said):
    """The same, inverted, one half as loud, one silent."""
    found = report(signals.podcast(6, channels=1) * np.array(sides))
    stereo = found["stereo"]
    assert stereo["correlation"] == correlation
    assert stereo["mono_change_db"] == mono_db
    assert codes(found) & {"dual_mono", "out_of_phase", "unbalanced", "one_sided"} == {said}
    assert stereo["dual_mono"] == (said == "dual_mono")


def test_independent_sides_fold_to_half(report):
    """Noise that has nothing in common: correlation 0, and 3 dB less in mono."""
    noise = np.random.default_rng(3).normal(0, 0.05, (10 * RATE, 2))
    stereo = report(noise)["stereo"]
    assert stereo["correlation"] == pytest.approx(0, abs=0.01)
    assert stereo["mono_change_db"] == pytest.approx(-3.01, abs=0.1)


def test_a_passage_out_of_phase_is_found_where_it_is(report):
    """Ten seconds in the middle, to half a second, and once, in words."""
    sound = signals.tone(30, -20, -20)
    sound[10 * RATE : 20 * RATE, 1] *= -1
    found = report(sound)
    ((start, end),) = found["stereo"]["out_of_phase"]
    assert (start, end) == (pytest.approx(10, abs=0.6), pytest.approx(20, abs=0.6))
    assert found["stereo"]["lowest_correlation"] == -1
    assert [one["at_s"] for one in found["findings"] if one["code"] == "phase_places"] == [start]
    assert found["series"]["correlation"][150] == -1
    assert found["series"]["correlation"][50] == 1


def test_silence_is_found_to_the_hundredth(report):
    """At the head, at the tail, in the middle; and the mean of the noise below the words."""
    quiet, loud = signals.silence, signals.tone(4, -20, -20)
    found = report(np.concatenate([quiet(3.5), loud, quiet(9.25), loud, quiet(6.2)]), encoding="s16")
    silence = found["silence"]
    assert (silence["head_s"], silence["tail_s"]) == (pytest.approx(3.5, abs=0.01), pytest.approx(6.2, abs=0.01))
    assert np.array(silence["spans"]) == pytest.approx(np.array([[0, 3.5], [7.5, 16.75], [20.75, 26.95]]), abs=0.011)
    assert {"silent_head", "silent_tail", "gap"} <= codes(found)
    assert found["noise"]["floor_dbfs"] == pytest.approx(-23, abs=0.1)  # a sine's RMS; digital silence is no noise


@pytest.mark.parametrize("rate", [44_100, 22_050, 11_025])
def test_places_are_exact_at_rates_that_no_block_divides(report, rate):
    """Ten milliseconds are no whole number of samples at 11025 Hz."""
    sound = np.concatenate([signals.tone(40, -20, rate=rate), signals.silence(5, channels=1, rate=rate)])
    found = report(sound, rate=rate, encoding="s16")
    assert found["silence"]["spans"] == [pytest.approx([40, 45], abs=0.011)]
    assert found["silence"]["tail_s"] == pytest.approx(5, abs=0.011)


def test_the_noise_floor_is_that_of_the_pauses(report):
    """Speech over noise of -70 dBFS, with pauses."""
    random = np.random.default_rng(5)
    sound = signals.podcast(4, channels=1)
    sound = np.concatenate([sound, signals.silence(2, channels=1), sound]) + random.normal(
        0, signals.db(-70), (10 * RATE, 1)
    )
    assert report(sound)["noise"]["floor_dbfs"] == pytest.approx(-70, abs=0.4)


@pytest.mark.parametrize("mains", [50, 60])
def test_hum_is_told_from_speech(report, mains):
    """A hum of -57 dBFS under speech is found, at its frequency and level; speech alone has none."""
    speech = signals.podcast(10, channels=1)
    found = report(speech + signals.tone(10, -54, hertz=mains))
    assert found["noise"]["hum_hz"] == mains
    assert found["noise"]["hum_dbfs"] == pytest.approx(-57, abs=1)
    assert "hum" in codes(found)
    assert report(speech)["noise"]["hum_hz"] is None


def test_nothing_to_hear_is_said_and_not_refused(report):
    """Digital silence, and a sound of 50 ms: a report tells, it does not fail."""
    found = report(signals.silence(4), encoding="s16")
    assert codes(found) == {"silent"}
    assert found["loudness"]["integrated_lufs"] is None
    assert found["stereo"]["correlation"] is None
    assert report(signals.tone(0.05, -20))["source"]["duration_s"] == 0.05


# --- against a preset ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("level", "said", "words"),
    [(-12.0, "too_loud", "4.0 LU too loud"), (-20.0, "too_quiet", "Raise it by 4.0 dB."), (-16.5, None, "")],
)
def test_a_preset_decides_what_is_too_loud(report, level, said, words):
    """By how much, and what to do; within one LU all is well."""
    found = report(signals.tone(5, level, level))
    assert codes(found) & {"too_loud", "too_quiet"} == ({said} if said else set())
    assert words in " ".join(one["message"] for one in found["findings"])


def test_what_is_too_quiet_is_not_told_to_be_lowered(report):
    """Soft speech with one hard click: raise it, and limit the click."""
    sound = signals.tone(5, -22, -22)
    sound[RATE : RATE + 24] = 0.99
    said = {one["code"]: one["message"] for one in report(sound)["findings"]}
    assert "Raise it by" in said["too_quiet"]
    assert "limit it" in said["peak_over_ceiling"]
    assert "lower it" not in said["peak_over_ceiling"]


def test_mono_may_have_the_loudness_that_mono_is_given(report):
    """-19 LUFS in mono sounds as -16 in stereo; another preset does not know that."""
    sound = signals.podcast(10, channels=1)
    sound *= signals.db(-19 - judges.libebur128_of(sound, RATE).lufs)
    assert not codes(report(sound)) & {"too_loud", "too_quiet"}
    assert "too_quiet" in codes(report(sound, preset="spotify"))


def test_an_audiobook_is_judged_by_level_and_noise(report):
    """RMS, peak and floor as ACX publishes them."""
    random = np.random.default_rng(6)
    talk = np.concatenate([signals.podcast(8, channels=1), signals.silence(1, channels=1)])
    level = 10 * np.log10((talk**2).mean())
    clean = talk * signals.db(-21 - level) + random.normal(0, signals.db(-66), talk.shape)
    found = report(np.clip(clean, -0.7, 0.7), preset="acx-audiobook")
    assert not codes(found) & {"rms", "noise_floor", "too_loud", "too_quiet"}
    assert found["levels"]["rms_dbfs"] == pytest.approx(-21, abs=0.4)
    noisy = report(clean * signals.db(-4) + random.normal(0, signals.db(-55), talk.shape), preset="acx-audiobook")
    assert {"rms", "noise_floor"} <= codes(noisy)
    assert not noisy["passed"]


def test_odd_rates_and_bits_are_advice(perform, report, recordings, make):
    """A telephone's rate, a rate of nobody's, and eight bits."""
    assert "low_sample_rate" in codes(document(perform("report", recordings.phone)))
    assert "odd_sample_rate" in codes(report(signals.tone(2, -16, rate=37_800), rate=37_800))
    eight = make("eight.wav", "-i", recordings.speech, "-t", "2", "-c:a", "pcm_u8")
    assert "low_bit_depth" in codes(document(perform("report", eight)))


# --- the file -----------------------------------------------------------------------------------------------------
@pytest.fixture
def hostile(make, tmp_path) -> Path:
    """A film with two sound tracks, chapters, and tags that would be markup."""
    notes = tmp_path / "notes.txt"
    notes.write_text(
        ";FFMETADATA1\ntitle=<script>alert('title')</script>\nartist=\"><img src=x onerror=alert(2)>\n"
        "comment=</style><svg onload\\=alert(3)>\n"
        "[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=1500\ntitle=Intro\n"
        "[CHAPTER]\nTIMEBASE=1/1000\nSTART=1500\nEND=3000\ntitle=<b onclick\\=alert(4)>Two</b>\n"
    )
    return make(
        "hostile.mkv",
        *("-f", "lavfi", "-i", "testsrc2=s=320x240:r=25:d=3", "-f", "lavfi", "-i", "sine=f=440:d=3"),
        *("-f", "lavfi", "-i", "sine=f=1000:d=3:r=48000", "-i", notes, "-map_metadata", "3", "-map_chapters", "3"),
        *("-map", "0", "-map", "1", "-map", "2", "-c:v", "libx264", "-c:a:0", "libopus", "-c:a:1", "flac"),
        *("-metadata:s:a:1", "language=fra", "-metadata:s:a:1", "title=<i>Voix</i>"),
    )


def test_every_track_tag_and_chapter_is_told(perform, hostile):
    """And the track that was chosen is the one that was measured."""
    found = document(perform("report", hostile, track=2))
    video, first, second = found["source"]["tracks"]
    assert (video["kind"], video["codec"], video["width"], video["height"], video["fps"]) == (
        "video",
        "h264",
        320,
        240,
        25,
    )
    assert (first["codec"], first["measured"]) == ("opus", False)
    assert (second["codec"], second["measured"], second["language"], second["title"]) == (
        "flac",
        True,
        "fra",
        "<i>Voix</i>",
    )
    assert second["sample_rate"] == 48_000
    assert [(one["start_s"], one["end_s"]) for one in found["source"]["chapters"]] == [(0, 1.5), (1.5, 3)]
    assert found["source"]["chapters"][1]["title"] == "<b onclick=alert(4)>Two</b>"
    assert found["source"]["tags"]["title"] == "<script>alert('title')</script>"


def test_a_track_that_is_not_there_is_named(perform, hostile):
    """The parameter, and how many there are."""
    with pytest.raises(JobFailure, match=r"params\.track is 3, and the recording has 2 sound tracks") as caught:
        perform("report", hostile, track=3)
    assert caught.value.kind == "permanent"


class Read(HTMLParser):
    """What a page consists of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.given: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        """Collect elements and attributes."""
        self.tags.append(tag)
        self.given += attrs

    def handle_data(self, data):
        """Collect words."""
        self.text += data


def test_the_page_holds_hostile_words_as_text_only(perform, hostile):
    """No element, attribute or address comes out of the recording, its name, or the title it is given."""
    done = perform("report", hostile, name="</title><script>alert(0)</script>.mkv", title="<img src=//evil.example>")
    html = done.files["report.html"].read_text()
    read = Read(html)
    assert set(read.tags).isdisjoint(
        {"script", "img", "iframe", "link", "object", "embed", "a", "form", "base", "b onclick"}
    )
    assert [name for name, _ in read.given if name.startswith("on") or name in {"style", "src", "href"}] == []
    assert "default-src 'none'" in next(value for name, value in read.given if name == "content" and "src" in value)
    assert not re.search(r"url\(|@import|https?://", html.replace("https://evil", ""))
    for words in (
        "<script>alert('title')</script>",
        "<b onclick=alert(4)>Two</b>",
        "<img src=//evil.example>",
        "<i>Voix</i>",
    ):
        assert words in read.text
    assert "alert(0)" in read.text


def test_the_page_can_be_read_without_seeing_it(perform, recordings):
    """Every plot has a title and a sentence, every table its heads, and the numbers are in words."""
    done = perform("report", recordings.music, preset="spotify")
    html, found = done.files["report.html"].read_text(), document(done)
    read = Read(html)
    drawn = re.findall(r"<svg [^>]*role=\"img\"[^>]*>", html)
    assert len(drawn) == 4
    for svg in drawn:
        title, sentence = re.search(r'aria-labelledby="(\S+) (\S+)"', svg).groups()
        assert re.search(f'<title id="{title}">[^<]+</title>', html)
        assert re.search(f'<desc id="{sentence}">[^<]+</desc>', html)
    assert read.tags.count("th") > 20
    assert ("lang", "en") in read.given
    assert read.tags.count("h1") == 1
    lufs = f"{found['loudness']['integrated_lufs']:.2f} LUFS".replace("-", "−")
    assert lufs in read.text
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html


def test_the_worst_hour_is_a_small_page(perform, recordings):
    """Noise over a full hour with as many silences and clipped places as are kept: below 300 kB, both files."""
    random = np.random.default_rng(7)
    found = QualityReport.model_validate(document(perform("report", recordings.counting)))
    together, values = thinned(random.normal(-20, 8, 36_000), 7200)
    lufs = list(rounded(values, 2))
    spots = sorted(random.uniform(0, 3590, 500).round(2).tolist())
    hour = found.model_copy(
        update={
            "source": found.source.model_copy(update={"duration_s": 3600.0}),
            "series": SeriesFacts(
                step_s=together / 10,
                momentary_lufs=lufs,
                short_term_lufs=lufs,
                correlation=list(rounded(values / 30, 3)),
            ),
            "silence": found.silence.model_copy(update={"spans": [(at, at + 2) for at in spots]}),
            "clipping": found.clipping.model_copy(
                update={"first_places": [ClippedSpan(start_s=at, end_s=at, samples=3) for at in spots[:200]]}
            ),
        }
    )
    assert (together, len(lufs)) == (5, 7200)
    points = random.integers(-32768, 32767, (360_000, 2)).astype(np.int16)
    assert len(page(hour, points, date(2026, 11, 22)).encode()) < 300_000
    assert len(hour.model_dump_json().encode()) < 300_000


def test_the_same_job_makes_the_same_bytes(perform, recordings):
    """A retry gives the same hashes."""
    first, second = perform("report", recordings.counting), perform("report", recordings.counting)
    assert {name: one.sha256 for name, one in first.outputs.items()} == {
        name: one.sha256 for name, one in second.outputs.items()
    }
    assert set(first.outputs) == {"report.html", "report.json"}


def test_a_damaged_recording_is_reported_and_said_so(perform, recordings, make, tmp_path):
    """What can be heard is measured."""
    data = bytearray(make("whole.mp3", "-i", recordings.lena("lena.mp3"), "-c:a", "libmp3lame").read_bytes())
    for at in range(40_000, 60_000, 4_000):
        data[at : at + 300] = b"\xff" * 300
    (tmp_path / "damaged.mp3").write_bytes(data)
    found = document(perform("report", tmp_path / "damaged.mp3"))
    assert found["source"]["damaged_frames"] > 0
    assert "damaged" in codes(found)


def test_a_wav_that_was_broken_off_is_cut_short_and_not_damaged(perform, tmp_path):
    """The missing second is told; a recorder that left no length loses nothing by it."""
    whole = signals.write(tmp_path / "whole.wav", signals.tone(2, -20, -20)).read_bytes()
    (tmp_path / "half.wav").write_bytes(whole[: len(whole) // 2 - 1])
    found = document(perform("report", tmp_path / "half.wav"))
    assert (found["source"]["damaged_frames"], found["source"]["missing_s"]) == (0, pytest.approx(1, abs=0.01))
    assert "cut_short" in codes(found)
    assert not found["passed"]
    (tmp_path / "streamed.wav").write_bytes(whole[:40] + bytes(4) + whole[44:])
    found = document(perform("report", tmp_path / "streamed.wav"))
    assert (found["source"]["damaged_frames"], found["source"]["missing_s"]) == (0, 0)
    assert not {"cut_short", "damaged"} & set(codes(found))
