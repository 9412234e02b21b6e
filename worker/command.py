"""The one ffmpeg that makes all files of a source: its inputs, its graph, and an encoder for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from worker.ffmpeg import graph_args, input_args

if TYPE_CHECKING:
    from worker.deliverable import Delivery, Limited, Source
    from worker.ffmpeg import Engine
    from worker.limiter import Solved
    from worker.meter import Mix


def command(
    engine: Engine,
    source: Source,
    items: Sequence[Delivery],
    fds: Mapping[Limited, int],
    *,
    beside: Sequence[str] = (),
    metadata: Sequence[str] = (),
    span: tuple[int, int | None] = (0, None),
    path: Path | None = None,
) -> list[str]:
    """ffmpeg's arguments: each mix is made once, limited once, and given to every file with that file's gain.

    `fds` are the pipes of the limiters' envelopes, `beside` input arguments of more files, `span` is the part of the
    source in samples, and `path` where that part of a lone file goes.
    """
    inputs, cut = _input(source, *span)
    inputs += beside
    graph, outputs = list[str](), list[str]()
    groups: dict[tuple[Mix, Solved | None], list[int]] = {}
    for number, item in enumerate(items):
        groups.setdefault((item.mix, item.solved), []).append(number)
    streams = [source.stream] * len(groups)
    if source.making is not None:
        streams = [f"g{place}" for place in range(len(groups))]
        graph += [
            source.making.graph,
            f"[edited]asplit={len(groups)}{''.join(f'[{name}]' for name in streams)}",
        ]
    for place, ((mix, solved), numbers) in enumerate(groups.items()):
        mixed = f"[{streams[place]}]{','.join([*cut, mix.filters or 'anull'])}"
        if solved is not None:
            index = inputs.count("-i")
            pipe = f"pipe:{fds[mix, solved]}"
            inputs += [
                "-protocol_whitelist",
                "pipe",
                "-f",
                "f32le",
                "-ar",
                str(mix.sample_rate),
                "-ac",
                "1",
                "-i",
                pipe,
            ]
            floats = f"aformat=sample_fmts=fltp:channel_layouts={mix.layout}"
            graph.append(f"{mixed},{floats}[m{place}]")
            graph.append(f"[{index}:a]pan={mix.layout}|c0=c0{'|c1=c0' if mix.channels == 2 else ''},{floats}[e{place}]")
            mixed = f"[m{place}][e{place}]amultiply"
        graph.append(f"{mixed},asplit={len(numbers)}" + "".join(f"[s{number}]" for number in numbers))
    for number, item in enumerate(items):
        seen = item.made.kind == "mp4" and source.picture is not None
        # Beside a picture the sound keeps its time; alone it begins at 0, whatever the source's clock says.
        clock = "" if seen else ",asetpts=N/SR/TB"
        graph.append(f"[s{number}]volume={item.gain_db + item.trim_db:.4f}dB:precision=float{clock}[o{number}]")
        outputs += ["-map", f"[o{number}]"]
        if seen:
            outputs += ["-map", str(source.picture), *source.picture_codec]
        outputs += [*item.made.codec_args(), *item.made.muxer_args(worded=bool(item.attached))]
        outputs += [*metadata, *item.attached]
        outputs.append(str(path or item.part))
    kept = (path or items[0].part).with_suffix(".graph")
    return [*inputs, *graph_args(engine, ";".join(graph), kept), *outputs]


def _input(source: Source, begin: int, end: int | None) -> tuple[list[str], list[str]]:
    """The input arguments and filters that give the sound's samples from `begin` to `end`."""
    if source.making is not None:
        inputs = [arg for path in source.making.paths for arg in input_args(path)]
        until = "" if end is None else f":end_sample={end}"
        whole = begin == 0 and end is None
        return inputs, [] if whole else [f"atrim=start_sample={begin}{until}", "asetpts=N/SR/TB"]
    if begin == 0 and end is None:
        return input_args(source.path), []
    rate = source.exact_rate
    assert rate is not None
    # Tenths of a second are whole samples and whole microseconds: there it seeks, and the rest it counts.
    tenths = 10 * begin // rate
    skipped = begin - tenths * rate // 10
    length = None if end is None else end - begin
    duration_s = None if length is None else length / rate + 1.0
    until = "" if length is None else f":end_sample={skipped + length}"
    return (
        input_args(source.path, start_s=tenths / 10 if tenths else None, duration_s=duration_s),
        [f"atrim=start_sample={skipped}{until}", "asetpts=N/SR/TB"],
    )
