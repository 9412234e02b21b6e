"""An edit list is checked as a whole before anything is queued; what is wrong is named by its entry."""

from __future__ import annotations

from typing import Any

import pytest

from tests.functions.api import counted, problem

SOURCE = "https://example.org/talk.mp3"


def one(*edits: dict[str, Any], **params: Any) -> dict[str, Any]:
    """Parameters about one file."""
    return {"source": SOURCE, "edits": list(edits)} | params


def two(*edits: dict[str, Any], **params: Any) -> dict[str, Any]:
    """Parameters about two files, a and b."""
    files = [{"name": name, "source": f"https://example.org/{name}.mp3"} for name in "ab"]
    return {"files": files, "edits": list(edits)} | params


def span(start: float, end: float) -> dict[str, float]:
    """A range."""
    return {"from_s": start, "to_s": end}


TRIM = {"op": "trim", "to_s": 10}
JOIN = {"op": "join"}
WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "no file": ({"edits": []}, "source", "is required"),
    "both ways to name files": (two(JOIN, source=SOURCE), "source", "never both"),
    "no op": (one({"to_s": 1}), "edits.0.op", "is required"),
    "unknown op": (one(TRIM, {"op": "trimm"}), "edits.1.op", "should be one of trim, cut"),
    "unknown field": (one({"op": "trim", "until_s": 1}), "edits.0.until_s", "is not a known field"),
    "missing field": (one({"op": "gain"}), "edits.0.db", "is required"),
    "out of range": (one({"op": "speed", "factor": 9}), "edits.0.factor", "less than or equal to 4"),
    "reversed trim": (one({"op": "trim"} | span(3, 2)), "edits.0.to_s", "must be later than from_s, which is 3"),
    "empty trim": (one({"op": "trim"} | span(3, 3)), "edits.0.to_s", "must be later"),
    "reversed range": (one({"op": "cut", "ranges": [span(1, 2), span(4, 3)]}), "edits.0.ranges.1.to_s", "later"),
    "reversed gain": (one({"op": "gain", "db": 1} | span(3, 2)), "edits.0.to_s", "must be later"),
    "overlap": (one({"op": "cut", "ranges": [span(1, 3), span(2, 4)]}), "edits.0.ranges", "number 1 begins at 2 s"),
    "wrong order": (one({"op": "keep", "ranges": [span(5, 6), span(1, 2)]}), "edits.0.ranges", "put them in order"),
    "no ranges": (one({"op": "cut", "ranges": []}), "edits.0.ranges", "at least 1 item"),
    "behind what was left": (one(TRIM, {"op": "trim"} | span(4, 12)), "edits.1.to_s", "has only 10.000 s"),
    "begins behind it": (one(TRIM, {"op": "trim", "from_s": 10}), "edits.1.from_s", "has only 10.000 s"),
    "a cut behind it": (one(TRIM, {"op": "cut", "ranges": [span(9, 11)]}), "edits.1.ranges.0.to_s", "only 10.000 s"),
    "after a change of speed": (one(TRIM, {"op": "speed", "factor": 2}, TRIM), "edits.2.to_s", "only 5.000 s"),
    "after a pad": (one(TRIM, {"op": "pad", "after_s": 2}, {"op": "trim", "to_s": 13}), "edits.2.to_s", "12.000 s"),
    "after keep and cut": (
        one({"op": "keep", "ranges": [span(0, 5)]}, {"op": "cut", "ranges": [span(1, 2)]}, TRIM),
        "edits.2.to_s", "only 4.000 s",
    ),
    "nothing left": (one(TRIM, {"op": "cut", "ranges": [span(0, 4), span(4, 10)]}), "edits.1", "leaves nothing"),
    "fades too long": (one(TRIM, {"op": "fade", "in_s": 6, "out_s": 6}), "edits.1.out_s", "only 10.000 s"),
    "a fade of nothing": (one({"op": "fade"}), "edits.0", "needs in_s, out_s or both"),
    "a pad of nothing": (one({"op": "pad"}), "edits.0", "needs before_s, after_s or both"),
    "more left than there was": (
        one({"op": "remove_silence", "at_least_s": 1, "leave_s": 2}), "edits.0.leave_s", "at most at_least_s",
    ),
    "unknown file": (two(TRIM | {"on": "c"}, JOIN), "edits.0.on", "there is no file 'c'; name one of a, b"),
    "no file named": (two(TRIM, JOIN), "edits.0.on", "is required before the files are joined"),
    "never joined": (two(), "edits", "need an entry that joins them"),
    "joined twice": (two(JOIN, JOIN), "edits.1.op", "one join is all"),
    "named after the join": (two(JOIN, TRIM | {"on": "a"}), "edits.1.on", "were joined by edits.0"),
    "join of one": (two(JOIN | {"on": "a"}), "edits.0.on", "is of all files"),
    "unknown in the order": (two(JOIN | {"order": ["a", "b", "x"]}), "edits.0.order.2", "there is no file 'x'"),
    "left out of the order": (two(JOIN | {"order": ["a"]}), "files.1.name", "'b' is not in the order of edits.0"),
    "crossfade too long": (
        two(TRIM | {"on": "b"}, JOIN | {"crossfade_s": 12}), "edits.1.crossfade_s", "longer than 'b'",
    ),
    "behind the joined whole": (
        two(TRIM | {"on": "a"}, TRIM | {"on": "b"}, JOIN | {"crossfade_s": 1}, {"op": "trim", "to_s": 20}),
        "edits.3.to_s", "only 19.000 s",
    ),
    "two files of one name": (
        two(JOIN, files=[{"name": "a", "source": SOURCE}] * 2), "files.1.name", "'a' is another file's",
    ),
    "a name of a file that is none": (two(JOIN, files=[{"name": "a b", "source": SOURCE}]), "files.0.name", "pattern"),
    "two outputs of one name": (one(outputs=[{"format": "mp3"}] * 2), "outputs.1.name", "share a name"),
    "the waveform's name": (one(outputs=[{"format": "mp3", "name": "peaks.json"}]), "outputs.0.name", "waveform's"),
    "a ceiling for no target": (one(ceiling_dbtp=-1), "ceiling_dbtp", "needs a preset or target_lufs"),
    "a title with a line break in it": (one(title="a\nb"), "title", ""),
    "unknown preset": (one(preset="podcats"), "preset", "there is no preset 'podcats'"),
    "a crop of no size": (one({"op": "crop"}), "edits.0", "needs width and height, or an aspect"),
    "a crop of half a size": (one({"op": "crop", "width": 64}), "edits.0", "needs width and height"),
    "a crop of two sizes": (one({"op": "crop", "width": 64, "height": 64, "aspect": "1:1"}), "edits.0", "instead"),
    "an odd crop": (one({"op": "crop", "width": 63, "height": 64}), "edits.0.width", "multiple of 2"),
    "a crop at an odd place": (one({"op": "crop", "aspect": "1:1", "x": 3}), "edits.0.x", "multiple of 2"),
    "a shape that is none": (one({"op": "crop", "aspect": "16:0"}), "edits.0.aspect", "pattern"),
    "a crop beyond a crop": (
        one({"op": "crop", "width": 64, "height": 64}, TRIM, {"op": "crop", "width": 32, "height": 66}),
        "edits.2.height", "is 66, and the picture at this point has 64 x 64 pixels",
    ),
    "a crop beyond a join": (
        two({"op": "scale", "on": "b", "width": 64, "height": 48, "fit": "pad"}, JOIN | {"order": ["b", "a"]},
            {"op": "rotate", "degrees": 90}, {"op": "crop", "width": 50, "height": 64}),
        "edits.3.width", "has 48 x 64 pixels",
    ),
    "a scale to nothing": (one({"op": "scale"}), "edits.0", "needs a width, a height, or both"),
    "half a size to fill": (one({"op": "scale", "width": 64, "fit": "cover"}), "edits.0", "needs both"),
    "a scale too large": (one({"op": "scale", "width": 4098}), "edits.0.width", "less than or equal to 4096"),
    "a turn of nothing": (one({"op": "rotate"}), "edits.0", "needs degrees, flip or both"),
    "a turn by any angle": (one({"op": "rotate", "degrees": 45}), "edits.0.degrees", "should be 90, 180 or 270"),
    "a picture that nobody sees": (
        one({"op": "rotate", "degrees": 90}, outputs=[{"format": "mp3"}]), "edits.0", "no output shows one",
    ),
    "too many entries": (one(*[{"op": "gain", "db": 1}] * 201), "edits", "at most 200"),
    "too many ranges": (
        one(*[{"op": "cut", "ranges": [span(n, n + 0.5) for n in range(500)]}] * 3), "edits", "more than 1000 ranges",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_an_edit_list_is_named_by_its_entry(api, name):
    """422, the path of the field as it was sent, and a sentence that says what to do; nothing is queued."""
    params, field, sentence = WRONG[name]
    answer = api.http.post("/api/jobs", json={"type": "edit", "params": params})
    found = problem(answer, 422, "invalid", f"params.{field}")
    said = [error["message"] for error in found["errors"] if error["field"] == f"params.{field}"]
    assert any(sentence in message for message in said), said
    assert api.http.get("/api/jobs").json()["items"] == []


def test_every_kind_of_entry_can_be_queued(api):
    """As it is written by hand, and it comes back as it was sent."""
    params = two(
        {"op": "trim", "on": "a", "from_s": 1.5, "to_s": 60},
        {"op": "cut", "on": "a", "ranges": [span(3, 4), span(4, 5.25)]},
        {"op": "keep", "on": "b", "ranges": [span(0, 30)]},
        {"op": "denoise", "on": "a"},
        {"op": "highpass", "on": "a", "hertz": 90},
        {"op": "deess", "on": "a"},
        {"op": "compress", "on": "a", "amount": "light"},
        {"op": "channels", "on": "b", "to": "mono"},
        {"op": "remove_silence", "on": "a", "below_dbfs": -45, "at_least_s": 1, "leave_s": 0.4},
        {"op": "crop", "on": "a", "aspect": "9:16", "y": 0},
        {"op": "scale", "on": "b", "width": 640, "height": 360, "fit": "pad"},
        {"op": "join", "order": ["b", "a", "b"], "crossfade_s": 0.5},
        {"op": "rotate", "degrees": 180, "flip": "vertical"},
        {"op": "gain", "db": -3, "from_s": 1, "to_s": 2},
        {"op": "speed", "factor": 1.1},
        {"op": "pad", "after_s": 1},
        {"op": "fade", "in_s": 1, "out_s": 2, "curve": "smooth"},
        preset="podcast",
        outputs=[{"format": "mp4"}, {"format": "wav"}],
    )
    answer = api.http.post("/api/jobs", json={"type": "edit", "params": params})
    assert answer.status_code == 201, answer.text
    assert answer.json()["params"] == params


def test_many_uploads_cost_no_more_round_trips_than_one(api, monkeypatch):
    """All of them are read at once; one that is missing is named."""
    assets = [api.upload() for _ in range(4)]
    trips: list[int] = []
    for name in ("_run", "_read"):
        monkeypatch.setattr(api.store, name, counted(getattr(api.store, name), trips))
    counts = []
    for wanted in (assets[:1], assets):
        files = [{"name": f"f{n}", "source": asset} for n, asset in enumerate(wanted)]
        trips.clear()
        answer = api.http.post(
            "/api/jobs", json={"type": "edit", "params": {"files": files, "edits": [{"op": "join"}]}}
        )
        assert answer.status_code == 201, answer.text
        counts.append(len(trips))
    assert counts[0] == counts[1] == 2
    files = [{"name": "there", "source": assets[0]}, {"name": "gone", "source": "0199aaaa"}]
    answer = api.http.post("/api/jobs", json={"type": "edit", "params": {"files": files, "edits": [{"op": "join"}]}})
    problem(answer, 422, "invalid", "params.files.1.source")
