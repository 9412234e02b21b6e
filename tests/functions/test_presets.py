"""Presets: published with a deployment's own, and kept in numbers by the jobs that name them."""

from __future__ import annotations

import re
from pathlib import Path

import jsonschema
import pytest

from shared.errors import ConfigurationError
from shared.presets import PRESETS
from shared.settings import load_settings
from shared.types import JOB_TYPES
from tests.functions.api import problem

EXAMPLE = re.findall(
    r"<!-- file: presets.toml -->\n```toml\n(.*?)```",
    (Path(__file__).parents[2] / "docs/operating.md").read_text(),
    re.DOTALL,
)[0]
SOURCE = "https://example.org/talk.mp3"


@pytest.fixture
def written(tmp_path):
    """Writes a file of presets."""

    def write(text: str) -> Path:
        path = tmp_path / "presets.toml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def house(api_with, written):
    """An API whose deployment has the presets of docs/operating.md."""
    return api_with(presets=written(EXAMPLE))


def test_a_deployments_presets_are_published_in_forms_and_in_numbers(house):
    """New ones come after those of Spool; a changed one keeps what its table does not name."""
    answer = house.http.get("/api/job-types").json()
    told = {one["name"]: one for one in answer["presets"]}
    assert [*told] == [*PRESETS, "house"]
    assert (told["house"]["title"], told["house"]["target_lufs"], told["house"]["ceiling_dbtp"]) == (
        "Our show",
        -17,
        -1.5,
    )
    changed = PRESETS["podcast"].model_copy(update={"target_lufs": -18.0, "published": None})
    assert told["podcast"] == changed.model_dump(mode="json", exclude_none=True)
    kinds = {kind["name"]: kind["params"] for kind in answer["items"]}
    for schema in (
        kinds["ingest"]["properties"]["preset"],
        kinds["report"]["properties"]["preset"],
        kinds["edit"]["properties"]["preset"]["anyOf"][0],
        kinds["collect"]["$defs"]["Mastering"]["properties"]["preset"],
    ):
        titles = {one["const"]: one["title"] for one in schema["oneOf"] if "const" in one}
        assert [*titles] == [*PRESETS, "house"]
        assert titles["house"] == "Our show, -17 LUFS"


@pytest.mark.parametrize(
    ("kind", "params", "where"),
    [
        ("ingest", {"preset": "house"}, ("preset",)),
        ("ingest", {}, ("preset",)),
        ("report", {"preset": "podcast"}, ("preset",)),
        ("edit", {"preset": "house"}, ("preset",)),
        ("collect", {"ingest": {"preset": "house"}}, ("ingest", "preset")),
        ("collect", {}, ("ingest", "preset")),
    ],
)
def test_a_job_keeps_the_numbers_it_was_made_with(house, api_with, kind, params, where):
    """Named or by default; a worker without the file reads them, and another API takes them as they came back."""
    kept = house.submit(type=kind, params={"source": SOURCE} | params)["params"]
    found = kept
    for name in where:
        found = found[name]
    assert (found["name"], found["target_lufs"]) in {("house", -17), ("podcast", -18)}
    read = JOB_TYPES[kind].params.model_validate(kept)
    assert read.model_dump(mode="json", exclude_unset=True) == kept
    published = {one["name"]: one for one in house.http.get("/api/job-types").json()["items"]}
    jsonschema.validate(kept, published[kind]["params"])
    assert api_with().submit(type=kind, params=kept)["params"] == kept


def test_a_preset_of_spool_stays_a_name(house, api):
    """What a job was made with is told as it was sent, where it says all."""
    for one in (house, api):
        assert one.submit(params={"source": SOURCE, "preset": "spotify"})["params"]["preset"] == "spotify"
    assert api.submit(params={"source": SOURCE})["params"] == {"source": SOURCE}


def test_an_unknown_preset_is_refused_with_the_names_there_are(house, api):
    """A deployment's own are among them, and elsewhere they are unknown."""
    body = {"type": "ingest", "params": {"source": SOURCE, "preset": "hause"}}
    (error,) = problem(house.http.post("/api/jobs", json=body), 422, "invalid", "params.preset")["errors"]
    assert error["message"].endswith("music, house")
    body["params"]["preset"] = "house"
    problem(api.http.post("/api/jobs", json=body), 422, "invalid", "params.preset")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[house]\ntarget_lufs = -60\nceiling_dbtp = -1", "house.target_lufs should be greater than or equal to -40"),
        ("[house]\ntarget_lufs = -16\nceiling_dbtp = 2", "house.ceiling_dbtp should be less than or equal to 0"),
        ("[house]\ntarget_lufs = -16", "house.ceiling_dbtp is required"),
        ("[house]\ntarget_lufs = '-16'\nceiling_dbtp = -1", "house.target_lufs should be a valid number"),
        ("[house]\ntarget_lufs = nan\nceiling_dbtp = -1", "house.target_lufs should be a finite number"),
        ("[podcast]\nlufs = -16", "podcast.lufs is not a known field"),
        ("[podcast]\nname = 'x'", "podcast.name is what stands in the brackets"),
        ("[podcast]\nrms_dbfs = [-18, -23]", "podcast rms_dbfs is the lowest level and then the highest"),
        (
            "['Our Show']\ntarget_lufs = -16\nceiling_dbtp = -1",
            "Our Show.name should be 1 to 32 small letters, digits and dashes",
        ),
        ("target_lufs = -16", "target_lufs stands outside of any preset"),
        ("[house", "is no TOML"),
    ],
)
def test_a_wrong_file_stops_the_start_with_a_sentence(written, text, sentence):
    """It names the setting, the file, the key and the limit."""
    path = written(text)
    with pytest.raises(ConfigurationError) as caught:
        load_settings(_env_file=None, presets=path)
    assert caught.value.message.startswith(f"SPOOL_PRESETS: {path}")
    assert sentence in caught.value.message


def test_a_file_that_is_not_there_stops_the_start(tmp_path):
    """As a wrong one does."""
    with pytest.raises(ConfigurationError, match=r"SPOOL_PRESETS: .*gone.toml cannot be read \(No such file"):
        load_settings(_env_file=None, presets=tmp_path / "gone.toml")
