"""What is typed, before anything is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.client import USAGE, CommandError
from cli.drafts import Order, drafts
from cli.params import parameters
from cli.saving import file_name
from cli.sources import sources


@pytest.fixture
def take(tmp_path):
    """Makes a small file by its name."""

    def made(name: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"RIFF")
        return path

    return made


def test_params_take_dotted_paths_and_json_values():
    """Numbers, truth values and lists arrive as such, other words as text, numbers in a path as places in a list."""
    typed = ["a.b=1", "a.c=true", "name=Episode 7", "list=[1, 2]", "outputs.0.format=flac", "outputs.0.name=x", "t=a=b"]
    assert parameters(None, typed, []) == {
        "a": {"b": 1, "c": True},
        "name": "Episode 7",
        "list": [1, 2],
        "outputs": [{"format": "flac", "name": "x"}],
        "t": "a=b",
    }


def test_outputs_name_format_and_bitrate():
    """`mp3:192` is a format and a bit rate; two of one format get names that differ."""
    assert parameters("spotify", [], ["mp3:192", "flac"]) == {
        "preset": "spotify",
        "outputs": [{"format": "mp3", "bitrate_kbps": 192}, {"format": "flac"}],
    }
    names = [spec["name"] for spec in parameters(None, [], ["mp3:128", "mp3:192k", "mp3"])["outputs"]]
    assert names == ["mp3-128", "mp3-192", "mp3-default"]


def test_a_param_may_refine_an_output():
    """`--param outputs.0.channels=mono` adds to what `--output` has begun."""
    made = parameters(None, ["outputs.0.channels=mono"], ["mp3:96"])
    assert made["outputs"] == [{"format": "mp3", "bitrate_kbps": 96, "channels": "mono"}]


@pytest.mark.parametrize("typed", ["novalue", "=1", "a..b=1", "outputs.3.format=mp3", "preset.x=1"])
def test_a_param_that_cannot_be_read_is_a_matter_of_usage(typed):
    """Each gets a sentence that repeats what was typed."""
    with pytest.raises(CommandError, match="--param") as caught:
        parameters("podcast", [typed], [])
    assert caught.value.exit_code == USAGE
    assert typed in caught.value.message


def test_an_output_without_a_number_for_its_bitrate_is_refused():
    """`mp3:high` says how to write it."""
    with pytest.raises(CommandError, match=r"format:kbps, such as --output mp3:192"):
        parameters(None, [], ["mp3:high"])


@pytest.mark.parametrize(
    ("job_type", "params", "file", "sentence"),
    [
        ("ingset", [], True, "no job type 'ingset'"),
        ("ingest", [], False, "needs a file or a link"),
        ("edit", [], False, "needs a file or a link"),
        ("flow", [], True, "takes no file"),
        ("ingest", ["preset=podcats"], True, "there is no preset 'podcats'"),
        ("ingest", ["target_lufs=3"], True, "target_lufs"),
        ("ingest", ["typo=1"], True, "typo: is not a known field"),
        ("edit", ["edits.0.op=trim", "edits.0.from_s=2", "edits.0.to_s=1"], True, "edits.0.to_s: must be later"),
    ],
)
def test_what_the_api_would_refuse_is_refused_before_a_file_is_sent(take, job_type, params, file, sentence):
    """A wrong type, preset, range or name costs no upload."""
    order = Order(job_type, (str(take("take.wav")),) if file else (), params=tuple(params))
    with pytest.raises(CommandError, match=sentence) as caught:
        drafts(order, ["ingest", "edit", "flow"])
    assert caught.value.exit_code == USAGE


def test_a_job_type_that_only_the_server_knows_is_left_to_it(take):
    """An older command line works with a newer API."""
    (draft,) = drafts(Order("newer", (str(take("take.wav")),), params=("anything=1",)), ["newer"])
    assert draft.body["params"]["anything"] == 1


def test_a_type_that_takes_one_file_gets_a_job_for_each(take):
    """Each with its own name."""
    made = drafts(Order("ingest", (str(take("a.wav")), str(take("b.wav")))), ["ingest"])
    assert [(draft.name, draft.files["params.source"].name) for draft in made] == [
        ("a.wav", "a.wav"),
        ("b.wav", "b.wav"),
    ]


def test_a_type_that_takes_several_files_gets_one_job_for_all(take):
    """The edit list knows them by their names, made to fit and to differ."""
    typed = (str(take("a/Intro (1).wav")), str(take("b/Intro (1).wav")), "https://example.org/x/talk.mp3")
    (draft,) = drafts(Order("edit", typed, params=("edits.0.op=join",)), ["edit"])
    assert [file["name"] for file in draft.body["params"]["files"]] == ["Intro-1", "Intro-1-2", "talk"]
    assert sorted(draft.files) == ["params.files.0.source", "params.files.1.source"]
    (draft,) = drafts(Order("edit", typed[:1]), ["edit"])
    assert list(draft.files) == ["params.source"]


TOML = """
tags = ["weekly"]

[params]
files = [{ name = "intro", source = "intro.wav" }, { name = "talk", source = "takes/talk.wav" }, %s]
edits = [{ op = "trim", on = "talk", to_s = 1.5 }, { op = "join" }]
"""
LINK = '{ name = "link", source = "https://example.org/x.mp3" }'


def test_a_job_in_a_file_names_its_files_as_they_lie_beside_it(take, tmp_path):
    """Links stay links; what was typed besides goes on top."""
    paths = [take("intro.wav"), take("takes/talk.wav")]
    show = tmp_path / "show.toml"
    show.write_text(TOML % LINK)
    (draft,) = drafts(Order("edit", (str(show),), preset="podcast", tags=("x",)), ["edit"])
    assert draft.files == {"params.files.0.source": paths[0], "params.files.1.source": paths[1]}
    assert (draft.name, draft.body["type"], draft.body["tags"]) == ("show.toml", "edit", ["weekly", "x"])
    assert draft.body["params"]["preset"] == "podcast"
    assert draft.body["params"]["edits"][0]["to_s"] == 1.5


def test_a_job_in_a_file_may_have_children(take, tmp_path):
    """Their files are found in the same way, wherever they stand."""
    path = take("talk.wav")
    show = tmp_path / "show.json"
    show.write_text('{"children": [{"type": "edit", "params": {"source": "talk.wav"}}]}')
    (draft,) = drafts(Order("flow", (str(show),)), ["flow", "edit"])
    assert draft.files == {"children.0.params.source": path}
    show.write_text('{"children": [{"type": "edit", "params": {"source": "talk.wav", "edits": [{"op": "trimm"}]}}]}')
    with pytest.raises(CommandError, match=r"children\.0\.params\.edits\.0\.op: should be one of"):
        drafts(Order("flow", (str(show),)), ["flow", "edit"])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (TOML % '{ name = "gone", source = "gone.wav" }', "There is no file .*gone.wav"),
        ("[params", "cannot be read"),
        ("params = 1", "holds no job"),
        ('type = "ingest"\n[params]\nsource = "intro.wav"', "type 'ingest', not 'edit'"),
        ('[params]\nsource = "intro.wav"\nedits = [{ op = "gain" }]', r"edits\.0\.db: is required"),
    ],
)
def test_a_job_file_that_cannot_be_used_is_told_before_anything_is_sent(take, tmp_path, text, sentence):
    """What is missing, wrong or unreadable, with its place."""
    take("intro.wav")
    take("takes/talk.wav")
    show = tmp_path / "show.toml"
    show.write_text(text)
    with pytest.raises(CommandError, match=sentence) as caught:
        drafts(Order("edit", (str(show),)), ["edit", "ingest"])
    assert caught.value.exit_code == USAGE


def test_sources_with_one_name_get_names_that_differ(tmp_path):
    """Two files called take.wav must not overwrite one another's results."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "take.wav").write_bytes(b"RIFF")
    found = sources(
        [str(tmp_path / "a" / "take.wav"), str(tmp_path / "b" / "take.wav"), "https://example.org/x/My%20Talk.mp3?k=1"]
    )
    assert [source.name for source in found] == ["take.wav", "take-2.wav", "My Talk.mp3"]


@pytest.mark.parametrize(("make", "sentence"), [("none", "no file"), ("folder", "is a folder"), ("empty", "is empty")])
def test_a_file_that_cannot_be_sent_is_named_at_once(tmp_path, make, sentence):
    """Missing, a folder, or empty: a sentence before the first byte."""
    path = tmp_path / "take.wav"
    if make == "folder":
        path.mkdir()
    elif make == "empty":
        path.touch()
    with pytest.raises(CommandError, match=sentence) as caught:
        sources([str(path)])
    assert caught.value.exit_code == USAGE


@pytest.mark.parametrize(
    ("source", "output", "content_type", "expected"),
    [
        ("talk.wav", "mp3", "audio/mpeg", "talk.mp3"),
        ("talk.wav", "mp3-192", "audio/mpeg", "talk.mp3-192.mp3"),
        ("talk.wav", "cut.mp3", "audio/mpeg", "talk.cut.mp3"),
        ("talk.wav", "poster", "image/jpeg", "talk.poster.jpg"),
        ("talk.wav", "thing", "application/x-unknown", "talk.thing"),
        ("../../etc/x", "../../../passwd", "text/plain", "x..._.._.._passwd"),
        ("talk.wav", "a/b\\c\n", "audio/mpeg", "talk.a_b_c_.mp3"),
    ],
)
def test_a_finished_file_is_called_after_its_source_and_is_never_a_path(source, output, content_type, expected):
    """The server's names cannot lead out of the folder."""
    made = file_name(
        source, {"name": output, "content_type": content_type, "size_bytes": 1, "sha256": "", "url": "", "facts": {}}
    )
    assert made == expected
    assert "/" not in made
    assert not made.startswith(".")
