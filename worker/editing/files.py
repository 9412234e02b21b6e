"""From the rendered edit to finished files: encoded and proven, or copied where no more than that is asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from worker.deliverable import Delivery, Source
from worker.delivery import Master
from worker.editing.copies import copies_sound
from worker.editing.encodings import encodings, specs
from worker.editing.foretold import foretell
from worker.editing.state import Copy, EditState
from worker.editing.steps import Take
from worker.encoders import Encoding, mix_for
from worker.examine import refuse_unmasterable
from worker.ffmpeg import input_args, shown, tags, transcode
from worker.loudness import Measured, decibels, measure
from worker.meter import Mix
from worker.run import Run
from worker.wav import read_header


def master_of(run: Run, state: EditState, path: Path, whole: Take) -> Master:
    """What makes and proves the files: at the loudness asked for, or as the edit left it."""
    assert state.before is not None
    asked = state.params.loudness
    native = Mix(whole.sound.channels, whole.sound.rate)
    wanted = [(made, mix_for(native, made)) for made in encodings(state, whole)]
    stream = f"0:{1 if whole.picture else 0}"
    measured = {native: state.before}
    if asked is not None:
        for mix in dict.fromkeys(mix for _, mix in wanted if mix != native):
            measured[mix] = _told(state, whole, mix) or measure(
                run, input_args(path), mix, folder=run.work, name="mix", stream=stream, profiled=True
            )
        refuse_unmasterable(measured.values(), asked[0])
    elif state.before.sample_peak > 1.0:
        over_db = decibels(state.before.sample_peak)
        state.warnings.append(
            f"The edit is up to {over_db:.1f} dB over full scale, and what is over it is cut off in the files; "
            "lower a gain, or give a preset or target_lufs."
        )
    return Master(
        run=run,
        source=Source(
            path,
            stream,
            "0:0" if whole.picture else None,
            exact_rate=whole.sound.rate if _sought(state, whole) else None,
            making=state.making,
        ),
        ceiling_dbtp=0.0 if asked is None else asked[1],
        deliveries=[
            Delivery(
                made,
                mix,
                measured.get(mix, state.before),
                run.work / f"out-{number}",
                None if asked is None else asked[0],
            )
            for number, (made, mix) in enumerate(wanted)
        ],
        metadata=tags(state.params.title, state.params.artist),
        warnings=state.warnings,
    )


def _told(state: EditState, whole: Take, mix: Mix) -> Measured | None:
    """What the edit will measure at a file's own rate, when it is made only then."""
    if state.making is None:
        return None
    sound = whole.sound
    return foretell(sound.score, state.ledgers, rate=sound.rate, channels=sound.channels, to_rate=mix.sample_rate)


def _sought(state: EditState, whole: Take) -> bool:
    """Whether parts of the sound can be made at the same time: not where each of them would decode a source anew."""
    plain = state.making is None or all(read_header(path) is not None for path in state.making.paths)
    return whole.picture is None and whole.sound.rate % 100 == 0 and plain


def copies_of(run: Run, state: EditState) -> dict[str, Copy]:
    """The files for which no more than another container is asked: the source's tracks as they are, proven like all."""
    assert state.master is not None
    assert state.before is not None
    (source, path), *others = state.paths.items()
    media, audio = state.media[source], state.audio(source)
    if others or state.params.edits or state.params.loudness is not None or audio is None:
        return {}
    found = {}
    for item, spec in zip(state.master.deliveries, specs(state), strict=True):
        seen = spec.format == "mp4"
        if not copies_sound(spec, audio) or (seen and not state.picture_copied):
            continue
        target = item.path.with_suffix(".copy")
        tracks = ["-map", f"0:{media.picture.index}"] if seen and media.picture else []
        args = [*input_args(path), *tracks, "-map", f"0:{audio.index}", "-c", "copy", *item.made.muxer_args()]
        args += [*state.master.metadata, str(target)]
        state.master.commands.append(shown([str(run.engine.ffmpeg), *args], run.work))
        transcode(run, args)
        after = measure(
            run, ["-xerror", "-i", str(target)], Mix(item.mix.channels, audio.sample_rate), folder=run.work, name="copy"
        )
        if after.samples == state.decoded_samples.get(source, state.before.samples):
            found[item.made.name] = Copy(item.made, target, after, ("picture", "sound") if seen else ("sound",))
    return found


def made_files(state: EditState) -> Iterator[tuple[Path, Encoding, dict[str, Any]]]:
    """Every finished file: where it lies, how it was made, and its facts; `copied` names its untouched tracks."""
    assert state.master is not None
    for copy in state.copies.values():
        yield copy.path, copy.made, copy.after.facts() | {"copied": list(copy.tracks)}
    for item in state.master.deliveries:
        kept = ["picture"] if item.made.kind == "mp4" and state.picture_copied else []
        yield item.path, item.made, item.facts() | {"copied": kept}
