"""From the mix to finished files: each with its words, its chapters and its pictures."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from shared.types.render import CHAPTERS, RenderOutput
from worker import id3
from worker.deliverable import Delivery, Source
from worker.delivery import Master
from worker.encoders import encoding, mix_for
from worker.examine import is_deep, refuse_unmasterable
from worker.ffmpeg import input_args
from worker.loudness import Measured, measure
from worker.meter import Mix
from worker.mixing.covers import draw_waveform, make_film
from worker.mixing.state import RenderState
from worker.mixing.words import comments, picture_comment, words_of, write_chapters, write_words
from worker.transfer import Finished

if TYPE_CHECKING:
    from worker.run import Run

#: Formats that carry the cover as a track; Opus carries it in a comment, MP3 in the tag.
_WITH_COVER = ("m4a", "mp4", "flac")


def master_of(run: Run, state: RenderState) -> Master:
    """What makes and proves the files, each at the loudness asked for."""
    assert state.before is not None
    native = Mix(state.before.channels, state.before.sample_rate)
    deep = any(is_deep(one.audio) for one in state.found.values())
    encodings = [
        encoding(spec, channels=native.channels, sample_rate=native.sample_rate, deep=deep)
        for spec in state.params.files
    ]
    wanted = [(made, mix_for(native, made)) for made in encodings]
    measured = {native: state.before} | _others(run, state, [mix for _, mix in wanted if mix != native])
    refuse_unmasterable(measured.values(), state.target_lufs)
    return Master(
        run=run,
        source=Source(state.mix, "0:0", exact_rate=native.sample_rate if native.sample_rate % 100 == 0 else None),
        ceiling_dbtp=state.ceiling_dbtp,
        deliveries=[
            Delivery(made, mix, measured[mix], run.work / f"out-{number}", state.target_lufs)
            for number, (made, mix) in enumerate(wanted)
        ],
        warnings=state.warnings,
    )


def _others(run: Run, state: RenderState, mixes: Sequence[Mix]) -> dict[Mix, Measured]:
    """The mix as files with other channels or another rate have it, measured."""
    assert state.before is not None
    found, seconds = dict[Mix, Measured](), state.before.seconds
    distinct = list(dict.fromkeys(mixes))
    for number, mix in enumerate(distinct):

        def on_time(at: float, before: float = number * seconds) -> None:
            run.report.progress(before + at, len(distinct) * seconds)

        found[mix] = measure(
            run, input_args(state.mix), mix, folder=run.work, name="mix", on_time=on_time, profiled=True
        )
    return found


@dataclass(slots=True)
class _Inputs:
    """Files of ours that ffmpeg reads beside the mix, which is its input 0."""

    args: list[str] = field(default_factory=list)
    _paths: list[Path] = field(default_factory=list)

    def number(self, kind: str, path: Path) -> int:
        """The number of an input of this kind; a file is opened once, however often it is asked for."""
        if path not in self._paths:
            self._paths.append(path)
            self.args += ["-protocol_whitelist", "file,pipe", "-f", kind, "-i", str(path.absolute())]
        return self._paths.index(path) + 1


def films(run: Run, state: RenderState) -> dict[str, Path]:
    """What the MP4s show, by its name; progress is told in seconds of film, and those of the sound come behind it."""
    assert state.before is not None
    kinds = dict.fromkeys(_shown(spec, state) for spec in state.params.files if spec.format == "mp4")
    found, seconds = dict[str, Path](), state.before.seconds
    for number, shown in enumerate(kinds):

        def on_time(at: float, before: float = number * seconds) -> None:
            run.report.progress(before + at, (1 + len(kinds)) * seconds)

        found[shown] = make_film(run, _picture(run, state, shown), run.work / f"shown-{shown}.mp4", seconds, on_time)
    return found


def attach(run: Run, state: RenderState, shown: Mapping[str, Path]) -> None:
    """Give every file its words, its chapters and its pictures; `shown` are the films."""
    assert state.master is not None
    inputs = _Inputs()
    for item, spec in zip(state.master.deliveries, state.params.files, strict=True):
        if spec.format == "mp3":  # gets its words when it is done
            item.attached = ("-map_metadata", "-1", "-id3v2_version", "0")
            continue
        pictures = [inputs.number("mp4", shown[_shown(spec, state)])] if spec.format == "mp4" else []
        item.attached = _words_args(run, state, spec.format, inputs)
        if state.cover is not None and spec.format in _WITH_COVER:
            track = f"v:{len(pictures)}"
            kind = (f"-metadata:s:{track}", "comment=Cover (front)")
            item.attached += (f"-disposition:{track}", "attached_pic", *kind)
            pictures.append(inputs.number("jpeg_pipe", state.cover.path))
        item.attached += tuple(arg for number in pictures for arg in ("-map", f"{number}:v:0"))
        item.attached += ("-c:v", "copy") if pictures else ()
    state.master.inputs = inputs.args


def _words_args(run: Run, state: RenderState, kind: str, inputs: _Inputs) -> tuple[str, ...]:
    """The output arguments that take words and chapters out of a file that holds them."""
    words = list(words_of(state.params).items())
    if kind in ("opus", "flac"):
        words += comments(state.chapters)
    if kind == "opus" and state.cover is not None:
        words.append(picture_comment(state.cover.path.read_bytes(), state.cover.size))
    chapters = state.chapters if kind in ("m4a", "mp4") else ()
    number = inputs.number("ffmetadata", write_words(run.work / f"words-{kind}.txt", words, chapters))
    # What is said of chapters comes along with them, but not where all words of all inputs were ever left out.
    words_args = ("-map_metadata:g", f"{number}:g", "-map_metadata:s", "-1")
    return (*words_args, "-map_chapters", str(number if chapters else -1))


def finish(run: Run, state: RenderState) -> None:
    """The proven files as outputs, and the chapters beside them."""
    assert state.master is not None
    state.files = []
    for item in state.master.deliveries:
        path = _tagged(item, state) if item.made.kind == "mp3" else item.path
        state.files.append(Finished(path, item.made.name, item.made.format.content_type, item.facts()))
    if state.chapters:
        path = write_chapters(run.work / CHAPTERS, state.params, state.chapters)
        facts = {"chapters": len(state.chapters)}
        state.files.append(Finished(path, CHAPTERS, "application/json+chapters", facts))


def _tagged(item: Delivery, state: RenderState) -> Path:
    """A proven MP3 behind a tag of ours: not one of its frames is another."""
    cover = None if state.cover is None else state.cover.path.read_bytes()
    tag = id3.tag(words_of(state.params), state.chapters, cover)
    if not tag:
        return item.path
    path = item.path.with_suffix(".tagged")
    with item.path.open("rb") as frames, path.open("wb") as file:
        file.write(tag)
        shutil.copyfileobj(frames, file, 1 << 20)
    return path


def _shown(spec: RenderOutput, state: RenderState) -> str:
    return spec.picture or ("waveform" if state.cover is None else "cover")


def _picture(run: Run, state: RenderState, shown: str) -> Path:
    """The picture that a film is made of."""
    assert state.before is not None
    if shown == "cover":
        assert state.cover is not None
        return state.cover.path
    return draw_waveform(run.work / "waveform.png", state.before)
