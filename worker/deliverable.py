"""What is mastered, and one finished file of it on its way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.encoders import Encoding
from worker.limiter import Holds, Solved
from worker.loudness import Measured
from worker.meter import Mix

#: How far below the ceiling to aim: two meters read a click half a dB apart, and among the thousands of peaks that a
#: limiter levels in ten minutes, an MP3 of 128 kbit/s raises one by 0.7 dB. To be too low costs nothing audible, to
#: be too high costs a second encode.
LOSSLESS_ROOM_DB, LOSSY_ROOM_DB = 0.5, 0.9
#: One limiter: what it works on and how.
Limited = tuple[Mix, Solved]


@dataclass(frozen=True, slots=True)
class Making:
    """A sound that is made while it is encoded: `graph` reads the tracks of `paths` and ends in `[edited]`."""

    paths: tuple[Path, ...]
    graph: str
    #: The uploads of which it was believed what their ledgers say.
    believed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """The file that is mastered; `stream` and `picture` are ffmpeg's names of its tracks, such as `0:1`.

    `exact_rate` is its sample rate when ffmpeg can begin to read it at any sample. With `making` it is no file yet.
    """

    path: Path
    stream: str
    picture: str | None = None
    picture_codec: tuple[str, ...] = ("-c:v", "copy")
    exact_rate: int | None = None
    making: Making | None = None


@dataclass(slots=True)
class Delivery:
    """One file on its way: how it is made, how loud, and what was measured in it."""

    made: Encoding
    mix: Mix
    before: Measured
    path: Path
    #: None leaves the loudness as it is.
    target_lufs: float | None
    gain_db: float = 0.0
    #: Added to make up for what the encoder takes away.
    trim_db: float = 0.0
    room_db: float = LOSSLESS_ROOM_DB
    #: Where the encoder was seen to raise a peak over the ceiling.
    holds: Holds | None = None
    solved: Solved | None = None
    after: Measured | None = None
    #: Output arguments for what it carries beside the sound, out of the master's `inputs`: pictures, and all its words.
    attached: tuple[str, ...] = ()

    @property
    def part(self) -> Path:
        """Where it lies until it is proven."""
        return self.path.with_name(self.path.name + ".part")

    @property
    def goal_lufs(self) -> float | None:
        """The loudness it must have: the target, or as near to it as the limiter may come; None for any."""
        return self.solved.integrated_lufs if self.solved and not self.solved.landed else self.target_lufs

    def facts(self) -> dict[str, Any]:
        """What was measured in the finished file, and how it was made."""
        assert self.after is not None
        facts = self.after.facts() | {"gain_db": round(self.gain_db, 3), "limited": self.solved is not None}
        if self.solved is not None:
            facts |= {
                "deepest_reduction_db": round(self.solved.deepest_db, 2),
                "limited_share": round(self.solved.limited_share, 4),
            }
        return facts | ({"bitrate_kbps": self.made.kbps} if self.made.kbps else {})
