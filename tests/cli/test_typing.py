"""What is typed, before anything is sent."""

from __future__ import annotations

import pytest

from cli.client import USAGE, CommandError
from cli.submit import check, file_name, parameters, sources


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
    ("job_type", "params", "with_source", "sentence"),
    [
        ("ingset", {}, True, "no job type 'ingset'"),
        ("ingest", {}, False, "needs a file or a link"),
        ("flow", {}, True, "takes no file"),
        ("ingest", {"preset": "podcats"}, True, "there is no preset 'podcats'"),
        ("ingest", {"target_lufs": 3}, True, "target_lufs"),
        ("ingest", {"typo": 1}, True, "typo"),
    ],
)
def test_what_the_api_would_refuse_is_refused_before_a_file_is_sent(job_type, params, with_source, sentence):
    """A wrong type, preset, range or name costs no upload."""
    with pytest.raises(CommandError, match=sentence) as caught:
        check(job_type, params, with_source=with_source, known=["ingest", "flow"])
    assert caught.value.exit_code == USAGE


def test_a_job_type_that_only_the_server_knows_is_left_to_it():
    """An older command line works with a newer API."""
    check("newer", {"anything": 1}, with_source=True, known=["newer"])


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
