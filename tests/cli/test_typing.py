"""What is typed, before anything is sent."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cli.console import own_command
from cli.drafts import Order, drafts
from cli.errors import USAGE, CommandError
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


@pytest.fixture
def here(tmp_path, monkeypatch) -> None:
    """Files are named as they lie in the working folder."""
    monkeypatch.chdir(tmp_path)


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
        drafts(order, {"ingest": {}, "edit": {}, "flow": {}})
    assert caught.value.exit_code == USAGE


def test_a_job_type_that_only_the_server_knows_is_left_to_it(take):
    """An older command line works with a newer API."""
    (draft,) = drafts(Order("newer", (str(take("take.wav")),), params=("anything=1",)), {"newer": {}})
    assert draft.body["params"]["anything"] == 1


def test_a_type_that_takes_one_file_gets_a_job_for_each(take):
    """Each with its own name."""
    made = drafts(Order("ingest", (str(take("a.wav")), str(take("b.wav")))), {"ingest": {}})
    assert [(draft.name, draft.files["params.source"].name) for draft in made] == [
        ("a.wav", "a.wav"),
        ("b.wav", "b.wav"),
    ]


@pytest.mark.parametrize(
    ("typed", "sent"),
    [("me@example.org", "mailto:me@example.org"), ("mailto:me@x.org", "mailto:me@x.org"), ("https://x.org/@me",) * 2],
)
def test_who_is_told_of_the_end_is_a_link_or_an_address(take, typed, sent):
    """An address alone is one of mail; a job in a file keeps its own where none is typed."""
    (draft,) = drafts(Order("ingest", (str(take("a.wav")),), notify=typed), {"ingest": {}})
    assert draft.body["webhook_url"] == sent
    show = take("show.toml")
    show.write_text('webhook_url = "https://x.org/own"\n[params]\nsource = "a.wav"')
    (draft,) = drafts(Order("ingest", (str(show),)), {"ingest": {}})
    assert draft.body["webhook_url"] == "https://x.org/own"


def test_a_type_that_takes_several_files_gets_one_job_for_all(take):
    """The edit list knows them by their names, made to fit and to differ."""
    typed = (str(take("a/Intro (1).wav")), str(take("b/Intro (1).wav")), "https://example.org/x/talk.mp3")
    (draft,) = drafts(Order("edit", typed, params=("edits.0.op=join",)), {"edit": {}})
    assert [file["name"] for file in draft.body["params"]["files"]] == ["Intro-1", "Intro-1-2", "talk"]
    assert sorted(draft.files) == ["params.files.0.source", "params.files.1.source"]
    (draft,) = drafts(Order("edit", typed[:1]), {"edit": {}})
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
    (draft,) = drafts(Order("edit", (str(show),), preset="podcast", tags=("x",)), {"edit": {}})
    assert draft.files == {"params.files.0.source": paths[0], "params.files.1.source": paths[1]}
    assert (draft.name, draft.body["type"], draft.body["tags"]) == ("show.toml", "edit", ["weekly", "x"])
    assert draft.body["params"]["preset"] == "podcast"
    assert draft.body["params"]["edits"][0]["to_s"] == 1.5


def test_a_job_in_a_file_may_have_children(take, tmp_path):
    """Their files are found in the same way, wherever they stand."""
    path = take("talk.wav")
    show = tmp_path / "show.json"
    show.write_text('{"children": [{"type": "edit", "params": {"source": "talk.wav"}}]}')
    (draft,) = drafts(Order("flow", (str(show),)), {"flow": {}, "edit": {}})
    assert draft.files == {"children.0.params.source": path}
    show.write_text('{"children": [{"type": "edit", "params": {"source": "talk.wav", "edits": [{"op": "trimm"}]}}]}')
    with pytest.raises(CommandError, match=r"children\.0\.params\.edits\.0\.op: should be one of"):
        drafts(Order("flow", (str(show),)), {"flow": {}, "edit": {}})


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
        drafts(Order("edit", (str(show),)), {"edit": {}, "ingest": {}})
    assert caught.value.exit_code == USAGE


#: What the API publishes of a program.
PROGRAM = {
    "properties": {
        "text": {"type": "string"},
        "images": {"type": "array", "maxItems": 3, "x-spool-file": True, "x-max-bytes": 100},
        "mask": {"anyOf": [{"type": "string", "x-spool-file": True}, {"type": "null"}]},
    },
    "required": ["text", "images"],
}
ONE_IMAGE = {"properties": {"images": {"type": "array", "maxItems": 1, "x-spool-file": True}}, "required": ["images"]}


@pytest.mark.usefixtures("here")
def test_files_of_a_program_go_where_its_schema_takes_them(take):
    """Those that are typed into the one place that is left, those of --param where they are named; links stay links."""
    a, b, mask = take("a.png"), take("b.png"), take("mask.png")
    typed = (str(a), "https://example.org/x.png", str(b))
    order = Order("workflow:x", typed, params=("text=hi", "mask=mask.png"))
    (draft,) = drafts(order, {"workflow:x": PROGRAM})
    assert {place: path.resolve() for place, path in draft.files.items()} == {
        "params.images.0": a,
        "params.images.2": b,
        "params.mask": mask,
    }
    assert draft.body["params"]["images"][1] == "https://example.org/x.png"


def test_files_of_a_program_may_have_as_many_bytes_as_it_says(take, tmp_path, monkeypatch):
    """All together, to the byte. `~` is one's home, and what is no name in a list is for the API to refuse."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("a.png", "b.png"):
        take(name).write_bytes(b"x" * 50)
    order = Order("workflow:x", (), params=("text=hi", 'images=["~/a.png", 7, "~/b.png"]'))
    (draft,) = drafts(order, {"workflow:x": PROGRAM})
    assert draft.files == {"params.images.0": tmp_path / "a.png", "params.images.2": tmp_path / "b.png"}


def test_a_program_that_takes_one_file_gets_a_job_for_each(take):
    """Also where it takes a list of one."""
    order = Order("workflow:x", (str(take("a.png")), str(take("b.png"))))
    made = drafts(order, {"workflow:x": ONE_IMAGE})
    assert [(draft.name, list(draft.files)) for draft in made] == [(n, ["params.images.0"]) for n in ("a.png", "b.png")]


@pytest.mark.parametrize(
    ("files", "params", "sentence"),
    [
        (["a.png"], ["text=hi"], "several places.*--param images=FILE --param mask=FILE"),
        ([], ["text=hi", 'images=["gone.png"]'], "There is no file gone.png"),
        (["a.png"], ["mask=a.png"], "needs text: --param text=VALUE"),
        ([], ["text=hi"], "needs images: --param images=FILE"),
        (["a.png"], ["text=hi", "mask=a.png", "typo=1"], "no parameter 'typo'; it has text, images, mask"),
        (["a.png"] * 4, ["text=hi", "mask=a.png"], "images: takes at most 3 files, and 4"),
        (["large.png"], ["text=hi", "mask=a.png"], "images: may be at most 0.0001 MB"),
        (
            ["half.png"] * 2,
            ["text=hi", "mask=a.png"],
            "images: may be at most 0.0001 MB, and these files have 0.000102 MB",
        ),
        (["a.png"], ["text=hi", "mask=a.png", 'images=["a.png"]'], "takes no more files; leave a.png out"),
    ],
)
@pytest.mark.usefixtures("here")
def test_what_a_program_does_not_take_is_refused_before_a_file_is_sent(take, files, params, sentence):
    """What is missing, unknown, too much, too large, or in a place that nobody can guess."""
    take("a.png")
    take("half.png").write_bytes(b"x" * 51)
    take("large.png").write_bytes(b"x" * 101)
    with pytest.raises(CommandError, match=sentence) as caught:
        drafts(Order("workflow:x", tuple(files), params=tuple(params)), {"workflow:x": PROGRAM})
    assert caught.value.exit_code == USAGE


def test_a_job_in_a_file_may_be_one_of_a_program(take, tmp_path):
    """Also as a child: its files are found beside the job's file."""
    path = take("a.png")
    show = tmp_path / "show.json"
    child = '{"type": "workflow:x", "params": {"text": "hi", "images": ["a.png", "job:1/b.png"]}}'
    show.write_text(f'{{"children": [{child}]}}')
    (draft,) = drafts(Order("flow", (str(show),)), {"flow": {}, "workflow:x": PROGRAM})
    assert draft.files == {"children.0.params.images.0": path}


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


def test_hints_name_the_command_as_it_can_be_typed(here, monkeypatch, tmp_path):
    """In a clone it is a path, on a machine where it is installed one word, and away from both the whole path."""
    (tmp_path / ".venv/bin").mkdir(parents=True)
    command = tmp_path / ".venv/bin/spool"
    command.touch(mode=0o755)
    monkeypatch.setattr(sys, "argv", [str(command)])
    monkeypatch.setenv("PATH", "/usr/bin")
    assert own_command() == ".venv/bin/spool"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert own_command() == str(command)
    monkeypatch.setenv("PATH", str(command.parent))
    assert own_command() == "spool"
