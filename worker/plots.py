"""The plots of a report: inline SVG without script, in the colours of the page, with its content told in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from shared.types.report import QualityReport
from worker.findings import clock
from worker.markup import Markup, join, tag
from worker.meter import Floats, Points

#: The drawing's width, the margins of the plots in it, and how many columns a recording is drawn with.
WIDTH, LEFT, RIGHT, TOP, BOTTOM = 960, 52, 12, 14, 28
COLUMNS = 720
_TICKS_S = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)


class _Axes:
    """A plot's frame: where a time and a value lie in it."""

    def __init__(self, seconds: float, low: float, high: float, height: int, *, width: int = WIDTH) -> None:
        self.seconds, self.low, self.high = max(seconds, 1e-3), low, high
        self.width, self.height = width, height
        self.right, self.bottom = width - RIGHT, height - BOTTOM
        #: Digits behind the point on the value axis.
        self.digits = 0 if high - low > 4 else 1

    def x(self, seconds: float) -> float:
        return LEFT + (self.right - LEFT) * min(1.0, max(0.0, seconds / self.seconds))

    def y(self, value: float) -> float:
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.bottom - (self.bottom - TOP) * share

    def columns(self, values: Floats) -> list[tuple[float, float]]:
        """Values spread evenly over the time, as points."""
        step = (self.right - LEFT) / max(1, values.size)
        return [(LEFT + (n + 0.5) * step, self.y(float(value))) for n, value in enumerate(values)]

    def frame(self, values: Sequence[float], unit: str) -> Markup:
        """Grid lines with their values, and the time below."""
        lines = [
            join(
                tag("line", x1=LEFT, x2=self.right, y1=_n(self.y(value)), y2=_n(self.y(value)), class_="grid"),
                tag("text", number(value, self.digits), x=LEFT - 8, y=_n(self.y(value) + 4), class_="end"),
            )
            for value in values
        ]
        unit_text = tag("text", unit, x=LEFT - 8, y=self.bottom + 19, class_="end quiet")
        return join(*lines, unit_text, self.times())

    def times(self) -> Markup:
        """The time axis."""
        every = next((one for one in _TICKS_S if self.seconds / one <= self.width / 75), 14_400)
        ticks = [every * n for n in range(int(self.seconds / every + 1e-9) + 1)]
        return join(
            *(
                tag(
                    "text",
                    clock(at) if every >= 1 else f"{at:g} s",
                    x=_n(self.x(at)),
                    y=self.bottom + 19,
                    class_="end" if at and self.x(at) > self.right - 20 else "middle" if at else None,
                )
                for at in ticks
            )
        )

    def level(self, value: float, words: str, kind: str, *, below: bool = False) -> Markup:
        """A marked line across the plot."""
        at = self.y(value)
        return join(
            tag("line", x1=LEFT, x2=self.right, y1=_n(at), y2=_n(at), class_=kind),
            tag("text", words, x=self.right - 4, y=_n(at + (14 if below else -5)), class_=f"end {kind}"),
        )


def loudness(report: QualityReport, points: Points) -> Markup:
    """Loudness over time with target and ceiling; the thin line above is the level of the peaks."""
    target, ceiling = _target(report), report.preset.ceiling_dbtp
    top = max(0.0, math.ceil((report.levels.true_peak_dbtp or 0.0) + 0.5))
    axes = _Axes(report.source.duration_s, 6 * math.floor((target - 24) / 6), top, 300)
    momentary = _extremes(_floats(report.series.momentary_lufs))
    short_term = _extremes(_floats(report.series.short_term_lufs))
    peaks = _extremes(np.abs(points.astype(np.float64)).max(axis=1, initial=0.0), COLUMNS // 3)
    peaks = 20 * np.log10(np.maximum(peaks, 1) / 32768)
    drawn = [
        axes.frame(range(int(axes.low), int(top) + 1, 6), "LUFS"),
        _area(axes, momentary, "momentary"),
        _line(axes.columns(np.nan_to_num(peaks, nan=axes.low)), "peaks"),
        _lines(axes, short_term, "short"),
        axes.level(target, f"target {number(target, 0)} LUFS", "target"),
        axes.level(ceiling, f"ceiling {number(ceiling, 0)} dBTP", "ceiling", below=True),
    ]
    integrated = report.loudness.integrated_lufs
    told = "nothing was heard" if integrated is None else f"{number(integrated)} LUFS over all"
    return _drawing("loudness", "Loudness over time", f"{told}, target {number(target, 0)} LUFS.", axes, drawn)


def waveform(report: QualityReport, points: Points) -> Markup:
    """The sound's outline; silence is shaded, and what is cut off is marked."""
    axes = _Axes(report.source.duration_s, -1.0, 1.0, 190)
    low = _extremes(points[:, 0] / 32768, highest=False)
    high = _extremes(points[:, 1] / 32768)
    shape = _path([*axes.columns(high), *reversed(axes.columns(low))]) + "Z" if len(points) else ""
    quiet = [
        tag(
            "rect",
            x=_n(axes.x(start)),
            y=TOP,
            width=_n(axes.x(end) - axes.x(start)),
            height=axes.bottom - TOP,
            class_="silence",
        )
        for start, end in report.silence.spans[:200]
    ]
    marks = [
        tag("path", d=f"M{_n(axes.x(one.start_s))} {TOP}v{axes.bottom - TOP}", class_="clip")
        for one in report.clipping.first_places
    ]
    chapters = [
        join(
            tag("path", d=f"M{_n(axes.x(one.start_s))} {TOP}v{axes.bottom - TOP}", class_="chapter"),
            tag("title", one.title),
        )
        for one in report.source.chapters[:50]
        if 0 < one.start_s < axes.seconds
    ]
    drawn = [
        *quiet,
        axes.frame([-1, 0, 1], "level"),
        tag("path", d=shape, class_="wave"),
        *(tag("g", one) for one in chapters),
        *marks,
    ]
    said = f"Clipped places: {report.clipping.places}. Silences of a second or more: {len(report.silence.spans)}."
    return _drawing("waveform", "Waveform", said, axes, drawn)


def distribution(report: QualityReport) -> Markup:
    """How long the sound was how loud."""
    given = report.distribution
    shares = np.array(given.seconds) / max(0.1, sum(given.seconds)) * 100
    most = max(1.0, float(shares.max(initial=0.0)))
    step = next(one for one in (1, 2, 5, 10, 20, 50) if most / one <= 5)
    top = step * math.ceil(most / step)
    axes = _Axes(len(shares) * given.bin_lu, 0, top, 240, width=WIDTH // 2)
    width = (axes.right - LEFT) / len(shares)
    bars = [
        tag(
            "rect",
            x=_n(LEFT + n * width + 0.5),
            y=_n(axes.y(float(share))),
            width=_n(width - 1),
            height=_n(axes.bottom - axes.y(float(share))),
            class_="bar",
        )
        for n, share in enumerate(shares)
        if share > 0
    ]
    target = _target(report)
    at = LEFT + (target - given.from_lufs) * width
    grid = [
        join(
            tag("line", x1=LEFT, x2=axes.right, y1=_n(axes.y(value)), y2=_n(axes.y(value)), class_="grid"),
            tag("text", f"{value:g} %", x=LEFT - 8, y=_n(axes.y(value) + 4), class_="end"),
        )
        for value in range(0, top + 1, step)
    ]
    scale = [
        tag(
            "text",
            number(value, 0),
            x=_n(LEFT + (value - given.from_lufs) * width),
            y=axes.bottom + 19,
            class_="middle",
        )
        for value in range(int(given.from_lufs), 1, 10)
    ]
    mark = join(
        tag("line", x1=_n(at), x2=_n(at), y1=TOP, y2=axes.bottom, class_="target"),
        tag("text", "target", x=_n(at + 5), y=TOP + 10, class_="target"),
    )
    peak = given.from_lufs + given.bin_lu * int(shares.argmax())
    said = f"Most often between {number(peak, 0)} and {number(peak + given.bin_lu, 0)} LUFS."
    return _drawing("distribution", "Distribution of loudness", said, axes, [*grid, *scale, *bars, mark])


def phase(report: QualityReport) -> Markup | None:
    """The correlation of left and right over time; None for mono."""
    if report.stereo is None or report.series.correlation is None:
        return None
    axes = _Axes(report.source.duration_s, -1.0, 1.0, 240, width=WIDTH // 2)
    values = _extremes(_floats(report.series.correlation), COLUMNS // 2, highest=False)
    drawn = [
        tag(
            "rect",
            x=LEFT,
            y=_n(axes.y(0)),
            width=axes.right - LEFT,
            height=_n(axes.bottom - axes.y(0)),
            class_="against",
        ),
        axes.frame([-1, -0.5, 0, 0.5, 1], ""),
        _lines(axes, values, "short"),
    ]
    told = report.stereo.correlation
    said = "One side is silent." if told is None else f"{number(told, 2)} over all; 1 is mono, below 0 is out of phase."
    return _drawing("phase", "Phase correlation", said, axes, drawn)


def number(value: float | None, digits: int = 1, *, sign: bool = False) -> str:
    """A number with a real minus; a dash where there is none."""
    if value is None:
        return "–"
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", "−")


def _drawing(name: str, title: str, said: str, axes: _Axes, drawn: Sequence[str]) -> Markup:
    return tag(
        "svg",
        tag("title", title, id=f"{name}-title"),
        tag("desc", said, id=f"{name}-desc"),
        *drawn,
        viewBox=f"0 0 {axes.width} {axes.height}",
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
    )


def _target(report: QualityReport) -> float:
    """The target that the recording was compared with."""
    loudness = report.loudness
    if loudness.integrated_lufs is None or loudness.to_target_lu is None:
        return report.preset.target_lufs
    return round(loudness.integrated_lufs - loudness.to_target_lu, 1)


def _floats(values: Sequence[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values])


def _extremes(values: Floats, most: int = COLUMNS, *, highest: bool = True) -> Floats:
    """One value per column, all of one width in time: the highest or lowest that falls into it."""
    if values.size <= most:
        return values
    extreme = np.fmax if highest else np.fmin
    return extreme.reduceat(values, (np.arange(most) * values.size) // most)


def _area(axes: _Axes, values: Floats, kind: str) -> Markup:
    """The values as an area that stands on the axis."""
    if not values.size:
        return Markup()
    points = axes.columns(np.nan_to_num(values, nan=axes.low))
    ground = [(points[-1][0], float(axes.bottom)), (points[0][0], float(axes.bottom))]
    return tag("path", d=_path([*points, *ground]) + "Z", class_=kind)


def _line(points: Sequence[tuple[float, float]], kind: str) -> Markup:
    return tag("path", d=_path(points), class_=kind) if points else Markup()


def _lines(axes: _Axes, values: Floats, kind: str) -> Markup:
    """The values as lines, broken where there are none."""
    points = axes.columns(np.nan_to_num(values))
    known = np.isfinite(values)
    pieces: list[list[tuple[float, float]]] = []
    for n, point in enumerate(points):
        if known[n]:
            if not n or not known[n - 1]:
                pieces.append([])
            pieces[-1].append(point)
    return tag("path", d="".join(_path(piece) for piece in pieces), class_=kind) if pieces else Markup()


def _path(points: Sequence[tuple[float, float]]) -> str:
    head, *rest = points
    if not rest:
        return f"M{_n(head[0])} {_n(head[1])}h.1"
    return f"M{_n(head[0])} {_n(head[1])}L" + " ".join(f"{_n(x)} {_n(y)}" for x, y in rest)


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
