"""The error taxonomy: what the end of a tool means for the job, in one sentence a creator understands.

Our own flag comes first (`Child.wait` raises `Stopped`, so what arrives here ended by itself), then the signal or
exit code (ffmpeg 7 and newer exit with the low byte of a negative errno), then what ffmpeg 5 only says in words.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import JobFailure
from shared.job import FailureKind
from shared.text import cleaned

if TYPE_CHECKING:
    from worker.process import Ended


#: The subject of most sentences: what the creator gave us.
SOURCE = "The recording"


@dataclass(frozen=True, slots=True)
class Meaning:
    """One row of the taxonomy; `{what}` in the sentence is the file the tool was working on."""

    code: str
    sentence: str
    kind: FailureKind = "permanent"

    def failure(self, what: str) -> JobFailure:
        """This row as the end of an attempt."""
        return JobFailure(self.code, self.sentence.format(what=what), kind=self.kind)


CORRUPT = Meaning(
    "bad_input.corrupt",
    "{what} is damaged and cannot be played; export it again from the program that made it and upload that.",
)
NOT_MEDIA = Meaning(
    "bad_input.not_media",
    "{what} is not a sound or video file, whatever its name says; upload the recording itself.",
)
INCOMPLETE = Meaning(
    "bad_input.truncated",
    "{what} is incomplete: its end, which says where everything is, is missing; upload the whole file again.",
)
EMPTY = Meaning("bad_input.empty", "{what} is empty (0 bytes); export it again and upload that.")
NO_AUDIO = Meaning("bad_input.no_audio", "{what} has no sound in it; upload a file with a sound track.")
TOO_LARGE = Meaning(
    "bad_input.too_large",
    "{what} needs more room than one job may use; split it or export it with a lower resolution or bit rate.",
)
BOMB = Meaning(
    "bad_input.too_large",
    "{what} claims sizes that need more memory than one job may use; export it again with ordinary settings.",
)
UNREADABLE = Meaning(
    "unsupported.format",
    "{what} is of a kind Spool does not read; convert it to WAV, MP3, M4A, FLAC or MP4 and upload that.",
)
UNWRITABLE = Meaning(
    "unsupported.format",
    "{what} cannot be written in the requested format with its sample rate and channels; choose another output format.",
)
CODEC = Meaning(
    "unsupported.codec",
    "{what} uses a codec Spool cannot decode; convert it to WAV, MP3, M4A, FLAC or MP4 and upload that.",
)
DRM = Meaning(
    "unsupported.drm",
    "{what} is copy-protected (DRM) and cannot be decoded; upload a version without protection.",
)
NO_SPACE = Meaning(
    "out_of_disk", "The worker ran out of disk space; it is tried again while it has tries left.", "transient"
)
NO_MEMORY = Meaning(
    "out_of_memory", "The worker ran out of memory; it is tried again while it has tries left.", "transient"
)
CRASHED = Meaning(
    "tool.crashed",
    "The media tool crashed while working on it; it is tried again while it has tries left.",
    "transient",
)
KILLED = Meaning(
    "tool.crashed",
    "Something outside Spool ended the media tool before it was done; it is tried again while it has tries left.",
    "transient",
)
LACKING = Meaning(
    "tool.missing",
    "This worker's ffmpeg lacks a part that the job needs; run `spool doctor` and install a complete ffmpeg.",
)
CPU_SPENT = Meaning(
    "timeout",
    "{what} took more computing time than one job may use; it is tried again while it has tries left.",
    "timeout",
)
LOST_FILE = Meaning(
    "internal", "A working file of the job disappeared; it is tried again while it has tries left.", "transient"
)
UNREADABLE_DISK = Meaning(
    "internal",
    "The worker could not read or write its own disk; it is tried again while it has tries left.",
    "transient",
)
UNKNOWN = Meaning(
    "internal",
    "The media tool stopped for a reason Spool does not know; the job's log has its last words.",
    "transient",
)

_SIGNALS: dict[int, Meaning] = {
    signal.SIGKILL: NO_MEMORY,  # nobody but the kernel's memory killer sends it unasked
    signal.SIGXCPU: CPU_SPENT,
    signal.SIGXFSZ: TOO_LARGE,
    signal.SIGTERM: KILLED,
    signal.SIGINT: KILLED,
    signal.SIGHUP: KILLED,
}

#: Exit codes of ffmpeg 7 and newer: 256 - errno, or the low byte of one of its own error tags.
_EXIT_CODES: dict[int, Meaning] = {
    69: CORRUPT,  # more than two thirds of the frames could not be decoded
    123: CPU_SPENT,  # more than three signals: only the kernel's reminders of spent time come so often
    183: CORRUPT,
    228: NO_SPACE,
    229: TOO_LARGE,
    244: NO_MEMORY,
    245: NO_MEMORY,  # no further thread
    251: UNREADABLE_DISK,
    254: LOST_FILE,
    255: KILLED,
}

#: Tried in order on the tool's last words: before the exit code where these say more, after it where it says nothing.
_WORDS: tuple[tuple[re.Pattern[str], Meaning], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), meaning)
    for pattern, meaning in (
        (r"Format not on whitelist|Number of streams exceeds", UNREADABLE),
        (r"No space left on device", NO_SPACE),
        (r"Cannot allocate memory|Error allocating|Failed to allocate|Resource temporarily unavailable", NO_MEMORY),
        (r"File too large", TOO_LARGE),
        (r"activation_bytes option is missing|DRM protected stream", DRM),
        (r"Decoder .{0,60}not found|no decoder found|Unknown decoder|Unsupported codec", CODEC),
        (r"Unknown encoder|Encoder not found|No such filter|Filter not found|Unrecognized option", LACKING),
        (r"Option not found|not a suitable output format|Unable to find a suitable output", LACKING),
        (r"matches no streams|does not contain any stream|Output file #?\d* ?does not contain", NO_AUDIO),
        (r"Error while opening encoder|Could not write header|Unsupported .*(sample rate|channel layout)", UNWRITABLE),
        (r"moov atom not found", INCOMPLETE),
        (r"Invalid data found|Header missing|Could not find codec parameters|Decode error rate", CORRUPT),
        (r"No such file or directory", LOST_FILE),
        (r"Permission denied|Read-only file system|Input/output error", UNREADABLE_DISK),
        (r"Error opening input.*Invalid argument", CORRUPT),
    )
)
#: What the tool says for certain, even when a later error decided its exit code.
_CERTAIN = (NO_SPACE, NO_MEMORY, TOO_LARGE, DRM, UNREADABLE, CODEC, LACKING, NO_AUDIO, INCOMPLETE)


#: ffmpeg's mark of a line's gravity, at its beginning: elsewhere in a line it is quoted out of the file.
_MARKED = re.compile(r"(\[[^\]]+\] )*\[(panic|fatal|error|warning|info|verbose|debug)\] ")
_GRAVE = frozenset({"panic", "fatal", "error", "warning"})
#: A signal that it caught in order to end in good order, which hides the signal from its exit code.
_CAUGHT = re.compile(r"^\[info\] Exiting normally, received signal (\d+)\.", re.MULTILINE)
#: The memory addresses in its lines mean nothing to anybody.
_ADDRESS = re.compile(r" @ 0x[0-9a-f]+")


def explain(ended: Ended, *, what: str = SOURCE) -> JobFailure:
    """What the end of a tool means. `what` is the subject of the sentence: the file the tool was working on."""
    caught = _CAUGHT.search(ended.stderr_tail)
    returncode = -int(caught[1]) if caught and ended.returncode > 0 else ended.returncode
    return meaning(returncode, "\n".join(last_words(ended, 400))).failure(what)


def last_words(ended: Ended, count: int = 20) -> list[str]:
    """The last warnings and errors of the tool, for the job's log.

    Where the tool marks its lines only marked ones count: the others quote names and tags out of the file.
    """
    lines = [_ADDRESS.sub("", line).rstrip() for line in ended.stderr_tail.splitlines()]
    marks = [_MARKED.match(line) for line in lines]
    if any(marks):
        lines = [line for line, mark in zip(lines, marks, strict=True) if mark and mark[2] in _GRAVE]
    return [line for line in (cleaned(line[:500]) for line in lines) if line][-count:]


def meaning(returncode: int, words: str) -> Meaning:
    """The row of the taxonomy for an exit code (negative for a signal) and the tool's last words."""
    if returncode > 128 and returncode - 128 in (
        *_SIGNALS,
        signal.SIGSEGV,
        signal.SIGABRT,
        signal.SIGBUS,
        signal.SIGILL,
    ):
        returncode = 128 - returncode  # a launcher or shell says 128 + signal
    if returncode < 0:
        return _SIGNALS.get(-returncode, CRASHED)
    said = next((found for pattern, found in _WORDS if pattern.search(words)), None)
    if said in _CERTAIN:
        return said
    return _EXIT_CODES.get(returncode) or said or UNKNOWN
