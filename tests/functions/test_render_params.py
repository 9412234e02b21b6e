"""A show is checked as a whole before anything is queued; what is wrong is named by its field."""

from __future__ import annotations

from typing import Any

import pytest

from tests.functions.api import problem

SOURCE = "https://example.org/talk.mp3"


def show(*tracks: dict[str, Any], **params: Any) -> dict[str, Any]:
    """Parameters; every track has a source."""
    return {"tracks": [{"source": SOURCE} | track for track in tracks or ({},)]} | params


def chapter(start_s: float, title: str = "A", **more: Any) -> dict[str, Any]:
    """One chapter."""
    return {"start_s": start_s, "title": title} | more


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "no tracks": ({}, "tracks", "is required"),
    "too many tracks": (show(*[{}] * 33), "tracks", "at most 32"),
    "all muted": (show({"mute": True}, {"mute": True}), "tracks", "are all muted"),
    "no source": ({"tracks": [{}]}, "tracks.0.source", "is required"),
    "unknown field": (show({"volume": 3}), "tracks.0.volume", "is not a known field"),
    "unknown role": (show({"role": "noise"}), "tracks.0.role", "'speech', 'music' or 'effect'"),
    "reversed": (show({}, {"start_s": 3, "end_s": 2}), "tracks.1.end_s", "must be later than start_s, which is 3"),
    "too far to a side": (show({"pan": 1.5}), "tracks.0.pan", "less than or equal to 1"),
    "two of one name": (show({"name": "a"}, {"name": "a"}), "tracks.1.name", "'a' is another track's"),
    "fades too long": (show({"end_s": 2, "fade_in_s": 1, "fade_out_s": 2}), "tracks.0.fade_out_s", "only 2.000 s"),
    "a show too long": (show({"offset_s": 43_000, "end_s": 1000}), "tracks.0.offset_s", "longer than 12 hours"),
    "crossfade too long": (
        show(intro={"source": SOURCE, "end_s": 2, "crossfade_s": 3}), "intro.crossfade_s", "it has only 2.000 s",
    ),
    "two outputs of one name": (show(outputs=[{"format": "mp3"}] * 2), "outputs.1.name", "share a name"),
    "our name": (show(outputs=[{"format": "mp3", "name": "chapters.json"}]), "outputs.0.name", "another output"),
    "a picture for sound": (
        show(outputs=[{"format": "mp3", "picture": "waveform"}]), "outputs.0.picture", "is for mp4",
    ),
    "no cover to show": (show(outputs=[{"format": "mp4", "picture": "cover"}]), "outputs.0.picture", "needs a cover"),
    "unknown preset": (show(preset="podcats"), "preset", "there is no preset 'podcats'"),
    "chapters out of order": (show(chapters=[chapter(5), chapter(3)]), "chapters.1.start_s", "begins at 5; put them"),
    "chapters at once": (show(chapters=[chapter(5), chapter(5)]), "chapters.1.start_s", "put them in order"),
    "a chapter before all": (show(chapters=[chapter(-1)]), "chapters.0.start_s", "greater than or equal to 0"),
    "a chapter without title": (show(chapters=[chapter(0, "")]), "chapters.0.title", "at least 1 character"),
    "too many bytes": (show(chapters=[chapter(0, "שלום" * 32)]), "chapters.0.title", "255 bytes of UTF-8, and has 256"),
    "a link that is none": (show(chapters=[chapter(0, url="javascript:x")]), "chapters.0.url", "pattern"),
    "too many chapters": (show(chapters=[chapter(n) for n in range(256)]), "chapters", "at most 255"),
    "a line break": (show(title="a\nb"), "title", "control characters"),
    "a day that is none": (show(date="2026-13-01"), "date", "pattern"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_show_is_named_by_its_field(api, name):
    """422, the path of the field as it was sent, and a sentence that says what to do; nothing is queued."""
    params, field, sentence = WRONG[name]
    answer = api.http.post("/api/jobs", json={"type": "render", "params": params})
    found = problem(answer, 422, "invalid", f"params.{field}")
    said = [error["message"] for error in found["errors"] if error["field"] == f"params.{field}"]
    assert any(sentence in message for message in said), said
    assert api.http.get("/api/jobs").json()["items"] == []


def test_a_whole_show_can_be_queued(api):
    """It comes back as it was sent, and every file it reads has to be there."""
    asset = api.upload()
    params = show(
        {"name": "host", "source": asset, "loudness_lufs": -20, "pan": -0.2},
        {"role": "music", "offset_s": 61.5, "start_s": 2, "end_s": 30, "fade_in_s": 0.5, "fade_out_s": 2},
        {"role": "effect", "mute": True},
        music={"source": SOURCE, "below_speech_lu": None, "gain_db": -3, "loop": False},
        ducking={"by_db": 15, "attack_s": 0.2, "hold_s": 0.4, "release_s": 0.8},
        intro={"source": SOURCE, "crossfade_s": 2},
        outro={"source": SOURCE},
        preset="spotify",
        outputs=[{"format": "mp3"}, {"format": "mp4", "picture": "waveform"}],
        chapters=[chapter(0), chapter(12.5, url="https://example.org/")],
        chapters_from="show",
        cover=asset,
        title="Episode 7",
        number=7,
        date="2026",
    )
    answer = api.http.post("/api/jobs", json={"type": "render", "params": params})
    assert answer.status_code == 201, answer.text
    assert answer.json()["params"] == params
    gone = api.http.post("/api/jobs", json={"type": "render", "params": show(cover="0199aaaa")})
    problem(gone, 422, "invalid", "params.cover")
