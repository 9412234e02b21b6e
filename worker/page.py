"""The report as one page: it needs no script and no other file, and a recording's words are only ever text."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from datetime import date
from functools import cache
from pathlib import Path

from shared.types.report import Finding, QualityReport, TrackFacts
from worker import plots
from worker.findings import clock
from worker.markup import Markup, join, tag
from worker.meter import Points
from worker.plots import number

#: Rows of a table beyond which a page is no longer read.
_MOST_ROWS = 50
#: A minus as a keyboard has it, before a number.
_MINUS = re.compile(r"(?<!\w)-(?=\d)")
#: A row of the table of numbers: name, value with unit, what is wanted, and whether it is so (None: nobody asks).
_Row = tuple[str, str, str, bool | None]


def write_page(path: Path, report: QualityReport, points: Points, day: date) -> None:
    """Write the page; `points` are the waveform's, `day` is when the report was asked for."""
    path.write_text(page(report, points, day), encoding="utf-8")


def page(report: QualityReport, points: Points, day: date) -> str:
    """The whole document."""
    style = _style()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    # Opened from a disk there is no server to say so: nothing but this very style sheet may be used.
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="robots", content="noindex"),
        tag("title", f"Sound report: {report.title}"),
        Markup(f"<style>{style}</style>"),
    )
    main = tag(
        "main",
        _header(report, day),
        _verdict(report),
        _figures(report),
        _findings(report.findings),
        _plots(report, points),
        _numbers(report),
        _channels(report),
        _file(report),
        _footer(report),
    )
    return "<!doctype html>\n" + tag("html", head, tag("body", main), lang="en") + "\n"


@cache
def _style() -> str:
    return Path(__file__).with_name("page.css").read_text(encoding="utf-8")


def _header(report: QualityReport, day: date) -> Markup:
    track = _measured(report)
    channels = {1: "mono", 2: "stereo"}.get(track.channels or 0, f"{track.channels} channels")
    facts = [
        clock(report.source.duration_s),
        f"{track.codec}, {(track.sample_rate or 0) / 1000:g} kHz, {channels}",
        _bytes(report.source.size_bytes),
        f"{day.day} {day:%B %Y}",
    ]
    return tag(
        "header",
        tag("p", "Sound report", class_="kicker"),
        tag("h1", tag("bdi", report.title)),
        tag("p", " · ".join(facts), class_="quiet"),
    )


def _verdict(report: QualityReport) -> Markup:
    count = sum(one.weight == "problem" for one in report.findings)
    shape = "M8 12.5l2.8 2.8L16.2 9.5" if report.passed else "M12 7v6.2M12 16.6v.2"
    sign = tag(
        "svg",
        tag("circle", cx=12, cy=12, r=10.2, fill="none", stroke="currentColor", stroke_width=1.6),
        tag("path", d=shape, fill="none", stroke="currentColor", stroke_width=2, stroke_linecap="round"),
        viewBox="0 0 24 24",
        aria_hidden="true",
    )
    problems = "One thing keeps" if count == 1 else f"{count} things keep"
    headline = (
        f"Ready for {report.preset.title}"
        if report.passed
        else f"{problems} it from being ready for {report.preset.title}"
    )
    return tag(
        "section",
        sign,
        tag("div", tag("strong", headline), tag("p", _wanted(report))),
        class_=f"verdict {'passed' if report.passed else 'failed'}",
        aria_label="Verdict",
    )


def _wanted(report: QualityReport) -> str:
    preset = report.preset
    if preset.rms_dbfs is None:
        return f"Wanted: {number(preset.target_lufs, 0)} LUFS, true peak at most {number(preset.ceiling_dbtp, 0)} dBTP."
    low, high = preset.rms_dbfs
    floor = "" if preset.floor_dbfs is None else f", noise at most {number(preset.floor_dbfs, 0)} dB RMS"
    peak = f"peaks at most {number(preset.ceiling_dbtp, 0)} dB"
    return f"Wanted: {number(low, 0)} to {number(high, 0)} dB RMS, {peak}{floor}."


def _figures(report: QualityReport) -> Markup:
    loudness, levels, codes = report.loudness, report.levels, {one.code for one in report.findings}
    off = loudness.to_target_lu
    told = (
        "silence" if off is None else "on target" if abs(off) < 0.05 else f"{number(off, 1, sign=True)} LU from target"
    )
    shown: list[tuple[str, str, str, str, bool]] = [
        (
            "Integrated loudness",
            number(loudness.integrated_lufs),
            "LUFS",
            told,
            not codes.isdisjoint({"too_loud", "too_quiet"}),
        ),
        (
            "True peak",
            number(levels.true_peak_dbtp, sign=(levels.true_peak_dbtp or 0) > 0),
            "dBTP",
            f"ceiling {number(report.preset.ceiling_dbtp, 0)}",
            "peak_over_ceiling" in codes,
        ),
        ("Loudness range", number(loudness.range_lu), "LU", "soft to loud", False),
        ("Noise floor", number(report.noise.floor_dbfs), "dBFS", "quietest half second", "noise_floor" in codes),
    ]
    if report.stereo is None:
        shown.append(("Clipped places", str(report.clipping.places), "", "cut off at full scale", "clipped" in codes))
    else:
        shown.append(
            ("Correlation", number(report.stereo.correlation, 2), "", "left with right", "out_of_phase" in codes)
        )
    return tag(
        "dl",
        *(
            tag(
                "div",
                tag("dt", name),
                tag("dd", value, " ", tag("small", unit)),
                tag("dd", note, class_="note"),
                class_="off" if wrong else None,
            )
            for name, value, unit, note, wrong in shown
        ),
        class_="figures",
    )


def _findings(found: Sequence[Finding]) -> Markup:
    words = {"problem": "To mend", "advice": "To consider"}
    if not found:
        content = tag(
            "p", "Nothing stands out: no clipping, no hum, no phase trouble, no long silence.", class_="quiet"
        )
    else:
        content = tag(
            "ul",
            *(
                tag("li", tag("b", f"{words[one.weight]}. "), _MINUS.sub("−", one.message), class_=one.weight)
                for one in found
            ),
            class_="findings",
        )
    return _card("What to do", content)


def _plots(report: QualityReport, points: Points) -> Markup:
    keys = tag(
        "ul",
        _key("short", "M0 6h22", "short-term loudness (3 s)"),
        _key("momentary", "M0 12V4l11-3 11 4v7z", "momentary loudness (0.4 s)"),
        _key("peaks", "M0 6h22", "peak level, dBFS"),
        class_="keys",
    )
    phase = plots.phase(report)
    mono = tag("p", "The recording is mono: it sounds the same on every speaker.", class_="quiet")
    stereo = (
        _figure("Phase correlation", "Over 3 s each; what dips into the red half fades on one speaker.", phase)
        if phase is not None
        else join(tag("h2", "Phase correlation"), mono)
    )
    return join(
        tag(
            "section",
            _figure(
                "Loudness over time",
                "By ITU-R BS.1770, with the target and the ceiling of the peaks.",
                plots.loudness(report, points),
            ),
            keys,
            class_="card wide",
        ),
        tag(
            "section",
            _figure("Waveform", "Silence is shaded; red lines mark clipping.", plots.waveform(report, points)),
            class_="card wide",
        ),
        tag(
            "div",
            tag(
                "section",
                _figure(
                    "Distribution of loudness",
                    "Share of the time at each momentary loudness, in LUFS.",
                    plots.distribution(report),
                ),
                class_="card",
            ),
            tag("section", stereo, class_="card"),
            class_="pair",
        ),
    )


def _key(kind: str, shape: str, words: str) -> Markup:
    drawn = tag("svg", tag("path", d=shape, class_=kind), viewBox="0 0 22 12", aria_hidden="true")
    return tag("li", drawn, words)


def _figure(title: str, caption: str, drawing: Markup) -> Markup:
    return tag("figure", tag("h2", title), tag("figcaption", caption), tag("div", drawing, class_="plot"))


def _numbers(report: QualityReport) -> Markup:
    rows = [
        tag(
            "tr",
            tag("th", name, scope="row"),
            tag("td", value, class_="n"),
            tag("td", wanted),
            tag(
                "td",
                "" if good is None else "yes" if good else "no",
                class_=None if good is None else "right" if good else "wrong",
            ),
        )
        for name, value, wanted, good in _measures(report)
    ]
    heads = (("Measure", None), ("Value", "n"), ("Wanted", None), ("Met", None))
    head = tag("thead", tag("tr", *(tag("th", one, scope="col", class_=kind) for one, kind in heads)))
    return _card("All numbers", tag("div", tag("table", head, tag("tbody", *rows)), class_="scroll"))


def _measures(report: QualityReport) -> Iterator[_Row]:
    preset, loudness, levels, codes = (
        report.preset,
        report.loudness,
        report.levels,
        {one.code for one in report.findings},
    )

    def met(*wrong: str) -> bool:
        return codes.isdisjoint(wrong) and "silent" not in codes

    by_rms = preset.rms_dbfs is not None
    target = "" if by_rms else f"{number(preset.target_lufs, 0)} ± 1"
    yield (
        "Integrated loudness",
        _unit(loudness.integrated_lufs, "LUFS", 2),
        target,
        None if by_rms else met("too_loud", "too_quiet"),
    )
    yield "Loudness range", _unit(loudness.range_lu, "LU"), "", None
    yield "Loudest 0.4 s (momentary)", _unit(loudness.max_momentary_lufs, "LUFS"), "", None
    yield "Loudest 3 s (short-term)", _unit(loudness.max_short_term_lufs, "LUFS"), "", None
    ceiling = f"{number(preset.ceiling_dbtp, 0)} at most"
    yield "True peak", _unit(levels.true_peak_dbtp, "dBTP", 2), ceiling, met("peak_over_ceiling")
    yield "Sample peak", _unit(levels.sample_peak_dbfs, "dBFS", 2), "", None
    rms = "" if preset.rms_dbfs is None else " to ".join(number(one, 0) for one in preset.rms_dbfs)
    yield "Level (RMS)", _unit(levels.rms_dbfs, "dBFS"), rms, met("rms") if by_rms else None
    clipping = report.clipping
    clipped = f"{clipping.samples} samples in {clipping.places} places" if clipping.runs else "none"
    yield "Clipping", clipped, "none", not clipping.runs
    floor = "" if preset.floor_dbfs is None else f"{number(preset.floor_dbfs, 0)} at most"
    yield "Noise floor", _unit(report.noise.floor_dbfs, "dBFS"), floor, met("noise_floor") if floor else None
    noise = report.noise
    yield (
        "Mains hum",
        "none" if noise.hum_hz is None else f"{noise.hum_hz} Hz, {_unit(noise.hum_dbfs, 'dBFS')}",
        "none",
        met("hum"),
    )
    offset = max((abs(channel.dc_offset) for channel in levels.channels), default=0.0)
    yield "DC offset", f"{100 * offset:.3f} %", "below 0.5 %", met("dc_offset")
    silence = report.silence
    yield "Silence at the beginning", f"{silence.head_s:.2f} s", "2 s at most", met("silent_head")
    yield "Silence at the end", f"{silence.tail_s:.2f} s", "5 s at most", met("silent_tail")
    yield "Silence of 1 s and more", f"{silence.total_s:.1f} s", "", None
    if report.stereo is not None:
        stereo = report.stereo
        yield "Phase correlation", number(stereo.correlation, 3), "above −0.3", met("out_of_phase")
        yield "Lowest correlation over 3 s", number(stereo.lowest_correlation, 3), "", None
        yield "Out of phase", f"{stereo.out_of_phase_s:.1f} s", "", met("out_of_phase", "phase_places")
        folded = (
            "nothing is left" if stereo.mono_change_db is None else f"{number(stereo.mono_change_db, sign=True)} dB"
        )
        yield "Folded to mono", folded, "", None
        yield "Right against left", _unit(stereo.balance_db, "dB", sign=True), "± 3", met("unbalanced", "one_sided")


def _channels(report: QualityReport) -> Markup:
    rows = [
        (
            channel.name,
            _unit(channel.rms_dbfs, "dBFS"),
            _unit(channel.peak_dbfs, "dBFS"),
            f"{number(100 * channel.dc_offset, 3)} %",
        )
        for channel in report.levels.channels
    ]
    return _card("Channels", _table(("Channel", "Level (RMS)", "Sample peak", "DC offset"), rows, numbers=True))


def _file(report: QualityReport) -> Markup:
    source = report.source
    facts = [
        ("Name", source.name),
        ("Container", source.format),
        ("Size", _bytes(source.size_bytes)),
        ("Bit rate", "–" if source.bit_rate_bps is None else f"{source.bit_rate_bps / 1000:.0f} kbit/s"),
        ("Damaged pieces", str(source.damaged_frames)),
        *((name.replace("_", " ").capitalize(), value) for name, value in source.tags.items()),
    ]
    if source.sha256 is not None:
        facts.append(("SHA-256", source.sha256))
    listed = tag(
        "table",
        tag("tbody", *(tag("tr", tag("th", name, scope="row"), tag("td", tag("bdi", value))) for name, value in facts)),
    )
    tracks = [(str(one.index), one.kind, one.codec or "unknown", _track(one)) for one in source.tracks]
    chapters = [(clock(one.start_s), one.title or "–") for one in source.chapters[:_MOST_ROWS]]
    more = len(source.chapters) - _MOST_ROWS
    return join(
        _card("The file", tag("div", listed, class_="scroll")),
        _card("Tracks", _table(("No.", "Kind", "Codec", "Facts"), tracks)),
        _card(
            "Chapters",
            _table(("Begins", "Title"), chapters),
            tag("p", f"and {more} more", class_="quiet") if more > 0 else Markup(),
        )
        if chapters
        else Markup(),
    )


def _track(track: TrackFacts) -> str:
    facts = [
        "measured here" if track.measured else None,
        None if track.readable else "cannot be decoded",
        None if track.sample_rate is None else f"{track.sample_rate} Hz",
        None if track.bit_depth is None else f"{track.bit_depth} bit",
        None if track.channels is None else (track.layout or f"{track.channels} channels"),
        None if track.width is None else f"{track.width} × {track.height}",
        None if not track.fps else f"{track.fps:g} pictures a second",
        track.pixel_format,
        "cover" if track.cover else None,
        f"turned by {track.rotation_deg}°" if track.rotation_deg else None,
        None if track.bit_rate_bps is None else f"{track.bit_rate_bps / 1000:.0f} kbit/s",
        track.language,
        track.title,
    ]
    return ", ".join(fact for fact in facts if fact) or "–"


def _footer(report: QualityReport) -> Markup:
    return tag(
        "footer",
        tag(
            "p",
            "Measured by Spool in one pass over the decoded sound: loudness by ITU-R BS.1770-4 and EBU R 128, range by "
            "EBU Tech 3342, true peak between the samples. The same numbers are in report.json. "
            f"Decoded by ffmpeg {report.engine}.",
        ),
    )


def _card(title: str, *content: str) -> Markup:
    return tag("section", tag("h2", title), *content, class_="card")


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = False) -> Markup:
    kinds = [None, *(["n" if numbers else None] * (len(heads) - 1))]
    head = tag("tr", *(tag("th", one, scope="col", class_=kind) for one, kind in zip(heads, kinds, strict=True)))
    body = (
        tag("tr", *(tag("td", tag("bdi", one), class_=kind) for one, kind in zip(row, kinds, strict=True)))
        for row in rows
    )
    return tag("div", tag("table", tag("thead", head), tag("tbody", *body)), class_="scroll")


def _measured(report: QualityReport) -> TrackFacts:
    return next(track for track in report.source.tracks if track.measured)


def _unit(value: float | None, unit: str, digits: int = 1, *, sign: bool = False) -> str:
    return "–" if value is None else f"{number(value, digits, sign=sign)} {unit}"


def _bytes(size: int) -> str:
    """A size as people say it."""
    for unit, least in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= least:
            return f"{size / least:.1f} {unit}"
    return f"{size} bytes"
