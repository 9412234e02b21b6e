"""Which demuxer a file is read with, where its first bytes leave no doubt.

ffmpeg asks all demuxers and takes the one that is surest. A steady tone in samples of 16 bits repeats every 192 bytes,
as MPEG-TS does, and outbids the header of the file that it is in.
"""

from __future__ import annotations

import re
from pathlib import Path

_HEAD_BYTES = 40
#: The containers that carry bare samples, by how their files begin. All of them are on ffmpeg's list of sources anyway.
_BEGINNINGS = {
    "wav": rb"(RIFF|RF64|BW64).{4}WAVE",
    "w64": rb"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00.{8}wave\xf3\xac\xd3\x11\x8c\xd1\x00\xc0",
    "aiff": rb"FORM.{4}AIF[FC]",
    "caf": rb"caff\x00\x01\x00\x00",
    "au": rb"\.snd\x00\x00",
    "mov": rb"\x00\x00.{2}ftyp",
}
_KNOWN = {name: re.compile(beginning, re.DOTALL) for name, beginning in _BEGINNINGS.items()}


def certain_demuxer(path: Path) -> str | None:
    """ffmpeg's name of the demuxer; None where only ffmpeg can tell, or where the path is no file that can be read."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    return next((name for name, beginning in _KNOWN.items() if beginning.match(head)), None)
