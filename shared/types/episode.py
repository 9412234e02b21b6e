"""Parameters of `episode`: a whole show in one request, and the jobs that it is made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

from pydantic import Field, model_validator

from shared.errors import FieldError
from shared.presets import ChosenPreset, written
from shared.types.base import Member, Misplaced
from shared.types.render import MOST_TRACKS, Bed, Clip, RenderParams, Sting, Track

#: What a voice is mastered to when nobody says.
VOICE = "podcast"
#: The file between a track's mastering and the mix: lossless, and half of a WAV's size.
WORKING = "flac"
#: Less than this no job takes for a recording, in seconds.
SHORTEST_S = 0.4
#: What the parts cost beside each other. A check reads the beginning of a file, the others all of it.
CHECKING, MASTERING, MIXING_A_TRACK = 1.0, 20.0, 10.0


class EpisodeTrack(Track):
    """One track of the show, and what it is mastered to before it is mixed."""

    preset: ChosenPreset | None = Field(
        default=None,
        description="Master it to this preset's loudness first; a voice to `podcast` when left out, music and effects "
        "as they are recorded.",
    )

    @property
    def mastering(self) -> dict[str, Any] | None:
        """What of `ingest` says how loud it becomes; None for a track that is mixed as it is recorded."""
        preset = written(self.preset) if self.preset else VOICE if self.role == "speech" else None
        if self.loudness_lufs is not None:
            return {"preset": preset or VOICE, "target_lufs": self.loudness_lufs}
        return None if preset is None else {"preset": preset}


class EpisodeParams(RenderParams):
    """What `render` takes, and what each track is mastered to before."""

    tracks: tuple[EpisodeTrack, ...] = Field(
        min_length=1, max_length=MOST_TRACKS, description="What is mastered, each track by itself, and then mixed."
    )

    @model_validator(mode="after")
    def _names_are_keys(self) -> Self:
        keys = [_key(number, track) for number, track in enumerate(self.tracks, 1)]
        twice = [number for number, key in enumerate(keys) if key in keys[:number]]
        if twice:
            message = f"{keys[twice[0]]!r} is another track's; give each its own"
            raise Misplaced([FieldError(f"tracks.{twice[0]}.name", message)])
        return self

    @property
    def called(self) -> str | None:
        """Its title."""
        return self.title

    @property
    def members(self) -> tuple[Member, ...]:
        """`pre` looks at every file, `core` masters every track, `post` mixes."""
        return (*self._checks(), *self._masters(), self._mix())

    @property
    def _heard(self) -> dict[str, EpisodeTrack]:
        """The tracks that are not muted, by their keys."""
        return {_key(number, track): track for number, track in enumerate(self.tracks, 1) if not track.mute}

    def _checks(self) -> Iterator[Member]:
        """One for each file, however often it is used."""
        clips: dict[str, Clip] = {f"track.{key}": track for key, track in self._heard.items()}
        clips |= {
            at: clip for at, clip in (("music", self.music), ("intro", self.intro), ("outro", self.outro)) if clip
        }
        first: dict[str, str] = {}
        needed: dict[str, float] = {}
        for at, clip in clips.items():
            first.setdefault(clip.source, at)
            needed[clip.source] = max(needed.get(clip.source, SHORTEST_S), _needed_s(clip))
        for source, at in first.items():
            yield Member("pre", f"check.{at}", "check", {"source": source, "shortest_s": needed[source]}, CHECKING)
        if self.cover is not None:
            yield Member("pre", "check.cover", "check", {"source": self.cover, "expects": "picture"}, CHECKING)

    def _masters(self) -> Iterator[Member]:
        for key, track in self._heard.items():
            if track.mastering is not None:
                params = {"source": track.source, **track.mastering, "outputs": [{"format": WORKING}]}
                yield Member("core", f"track.{key}", "ingest", params, MASTERING)

    def _mix(self) -> Member:
        tracks = []
        for key, track in self._heard.items():
            params = track.model_dump(mode="json", exclude_unset=True, exclude={"preset", "loudness_lufs"})
            source = track.source if track.mastering is None else f"child:track.{key}/{WORKING}"
            tracks.append(params | {"name": key, "source": source})
        rest = self.model_dump(mode="json", exclude_unset=True, exclude={"tracks"})
        return Member("post", "mix", "render", {"tracks": tracks, **rest}, MIXING_A_TRACK * len(tracks), name="mix")


def _key(number: int, track: EpisodeTrack) -> str:
    return track.name or f"track-{number}"


def _needed_s(clip: Clip) -> float:
    """How long its file has to be at least, in seconds: what is asked for may not lie behind its end."""
    if clip.end_s is not None:
        return clip.end_s
    if isinstance(clip, Bed):  # how much of it is heard, the show decides
        return clip.start_s + SHORTEST_S
    blended = clip.crossfade_s if isinstance(clip, Sting) else 0.0
    return clip.start_s + max(blended, clip.fade_in_s + clip.fade_out_s, SHORTEST_S)
