"""An assistant over Spool's media tools: it understands a handful of requests, and asks back when something is missing.

It measures by itself, with the ffmpeg of the worker, and leaves the work that makes files to Spool's own jobs. Each
turn is a fresh process: what it knows is what was said.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from spool_program import Refused, Turn

HELP = (
    "I can tell how loud a recording is, make it a podcast (or ready for Spotify, YouTube or an audiobook), check its "
    "quality, and trim it: “keep 0:10 to 1:30”. Attach a recording and say what you need."
)
WHICH = "Which recording do you mean? Attach it to your answer."
FROM_TO = "Which part shall I keep? Say it like 0:10 to 1:30."
PRESETS = {
    "spotify": "spotify",
    "youtube": "youtube",
    "audiobook": "acx-audiobook",
    "podcast": "podcast",
    "master": None,
    "finish": None,
}
TARGETS = {"podcast": -16.0, "spotify": -14.0, "youtube": -14.0, "acx-audiobook": -20.0}
_TIME = r"(\d+(?::\d{1,2}){0,2}(?:\.\d+)?)"
_SPAN = re.compile(rf"{_TIME}\s*(?:s|sec|seconds)?\s*(?:to|until|till|-|–)\s*{_TIME}")


def wish(words: str) -> str | None:
    """What a message asks for, in one word; None for what is only an answer, or is not understood."""
    if re.search(r"\b(trim|cut|keep|shorten|crop)\b", words):
        return "trim"
    if re.search(r"\b(loud|loudness|quiet|lufs|volume)\b", words):
        return "loudness"
    if re.search(r"\b(report|quality|check|problems?|faults?)\b", words):
        return "report"
    return "master" if any(word in words for word in PRESETS) else None


def main() -> None:
    """One turn."""
    turn = Turn.begin()
    words = turn.text.lower()
    wanted = wish(words)
    if wanted is None and _was_asked(turn):  # an answer: what it answers was asked for before
        said = [message.text.lower() for message in turn.messages[:-1] if message.role == "user"]
        before = next((text for text in reversed(said) if wish(text)), "")
        words, wanted = f"{words} {before}", wish(before)
    if wanted is None:
        turn.ask(HELP)
    elif not turn.uploads:
        turn.ask(WHICH)
    else:
        try:
            tools = {"trim": trim, "loudness": loudness, "report": report, "master": master}
            tools[wanted](turn, turn.uploads[-1], words)
        except Refused as refused:
            turn.ask(f"That did not work: {refused}")
    turn.finish({"understood": wanted})


def loudness(turn: Turn, upload: dict[str, str], _: str) -> None:
    """Measure it here, and say what that means."""
    name = upload["filename"]
    turn.say(f"I am listening to {name}…")
    found = measure(turn, turn.fetch(upload["asset"]))
    if found is None:
        turn.ask(f"I cannot find any sound in {name}. Attach another recording?")
        return
    level, peak = found
    target = TARGETS[turn.params["preset"]]
    change = target - level
    turn.preview(f"{level:.1f} LUFS", {"integrated_lufs": level, "true_peak_dbtp": peak})
    way = "just right" if abs(change) < 0.5 else f"{abs(change):.1f} dB too {'quiet' if change > 0 else 'loud'}"
    turn.ask(
        f"{name} is at {level:.1f} LUFS with a true peak of {peak:.1f} dBTP: {way} for {turn.params['preset']} "
        f"({target:g} LUFS). Shall I finish it? Say “make it a {turn.params['preset']}”."
    )


def master(turn: Turn, upload: dict[str, str], words: str) -> None:
    """Leave it to `ingest`."""
    preset = next((name for word, name in PRESETS.items() if word in words and name), turn.params["preset"])
    turn.job("ingest", {"source": upload["asset"], "preset": preset}, key="master")
    turn.say(
        f"{upload['filename']} is being finished for {preset}, at exactly its loudness; the file is with this turn."
    )


def report(turn: Turn, upload: dict[str, str], _: str) -> None:
    """Leave it to `report`."""
    turn.job("report", {"source": upload["asset"], "preset": turn.params["preset"]}, key="report")
    turn.say(f"{upload['filename']} is being looked at from all sides; the report is with this turn.")


def trim(turn: Turn, upload: dict[str, str], words: str) -> None:
    """Leave it to `edit`, once it is known what to keep."""
    span = _SPAN.search(words)
    if span is None:
        turn.ask(FROM_TO)
        return
    start, end = seconds(span[1]), seconds(span[2])
    if end <= start:
        turn.ask(f"{span[2]} is not after {span[1]}. {FROM_TO}")
        return
    edit = {"op": "trim", "from_s": start, "to_s": end}
    turn.job("edit", {"source": upload["asset"], "edits": [edit]}, key="trim")
    turn.say(f"I keep {span[1]} to {span[2]} of {upload['filename']}; the file is with this turn.")


def measure(turn: Turn, path: Path) -> tuple[float, float] | None:
    """Integrated loudness and true peak; None for what has no sound."""
    words = ["-nostdin", "-hide_banner", "-protocol_whitelist", "file,pipe", "-i", str(path), "-map", "0:a:0"]
    measuring = ["-af", "ebur128=peak=true", "-progress", "pipe:1", "-f", "null", "-"]
    with (turn.folder / "ffmpeg.log").open("w+") as log:
        with subprocess.Popen(
            [os.environ["SPOOL_FFMPEG"], *words, *measuring], stdout=subprocess.PIPE, stderr=log, text=True
        ) as ffmpeg:
            assert ffmpeg.stdout is not None
            for line in ffmpeg.stdout:
                name, _, value = line.strip().partition("=")
                if name == "out_time_us" and value.isdigit():
                    turn.progress(int(value) / 1e6)
        log.seek(0)
        summary = log.read().rpartition("Summary:")[2]
    level, peak = (re.search(rf"{name}:\s+(-?[\d.]+)", summary) for name in ("I", "Peak"))
    return (float(level[1]), float(peak[1])) if ffmpeg.returncode == 0 and level and peak else None


def seconds(text: str) -> float:
    """1:30 as 90."""
    total = 0.0
    for part in text.split(":"):
        total = 60 * total + float(part)
    return total


def _was_asked(turn: Turn) -> bool:
    """Whether the last thing said before this message was a question of ours."""
    before = [message for message in turn.messages[:-1] if message.role == "assistant"]
    return bool(before) and ("?" in before[-1].text or before[-1].text.endswith(FROM_TO))


if __name__ == "__main__":
    main()
