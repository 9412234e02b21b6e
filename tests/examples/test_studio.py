"""examples/studio: what a machine with a graphics card would offer, through the whole path, with its limits."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.job import NewJob, Status, new_id
from shared.settings import load_settings
from tests.worker.talk import Talk

EXAMPLES = Path(__file__).parents[2] / "examples"
pytestmark = pytest.mark.media


@pytest.fixture
def studio(tmp_path, engine) -> Iterator[Callable[..., Any]]:
    """Does a job of one of the programs: `studio("i2v", picture, prompt="zoom in")`."""
    talk = Talk(tmp_path, engine=engine, registered=EXAMPLES / "programs.toml", only={"i2v", "svi", "qwen"}).start()

    def done(program: str, *pictures: Path, **params: Any) -> Any:
        images = [talk.upload(picture).id for picture in pictures]
        new = NewJob(id=new_id(), type=f"workflow:{program}", params={"images": images} | params)
        job = talk.ended(talk.store.create([new])[0])
        return talk, job

    yield done
    talk.close()


def pictures(engine, folder: Path, *colours: str) -> list[Path]:
    """PNG files of one colour with a pattern."""
    made = []
    for colour in colours:
        made.append(folder / f"{colour}.png")
        words = ["-f", "lavfi", "-i", f"color={colour}:s=320x200,drawgrid=w=40:h=40:c=white", "-frames:v", "1"]
        subprocess.run([engine.ffmpeg, "-v", "error", "-y", *words, made[-1]], check=True)
    return made


def saved(talk: Talk, job: Any) -> Path:
    """The job's one file."""
    (output,) = job.outputs
    path = talk.folder / output.name
    talk.storage.fetch(output.key, path, lambda _done, _total: None)
    return path


def frames(engine, path: Path) -> int:
    """How many frames decode without an error."""
    words = ["-v", "error", "-xerror", "-i", path, "-f", "framemd5", "-"]
    text = subprocess.run([engine.ffmpeg, *words], check=True, capture_output=True, text=True).stdout
    return sum(not line.startswith("#") for line in text.splitlines())


def test_the_limits_are_those_of_the_models():
    """Prompt, images together, steps and cfg_scale, and the defaults of each."""
    types = load_settings(_env_file=None, programs=EXAMPLES / "programs.toml").job_types
    for name, steps in (("i2v", 8), ("svi", 8), ("qwen", 4)):
        properties = types[f"workflow:{name}"].params.model_json_schema()["properties"]
        assert properties["prompt"]["maxLength"] == 500
        assert properties["images"]["x-max-bytes"] == 10_000_000
        assert (properties["steps"]["minimum"], properties["steps"]["maximum"]) == (1, 100)
        assert (properties["cfg_scale"]["minimum"], properties["cfg_scale"]["maximum"]) == (0.1, 20)
        assert (properties["steps"]["default"], properties["cfg_scale"]["default"]) == (steps, 1.0)


def test_a_picture_becomes_a_video_and_several_become_one(studio, engine, tmp_path):
    """The films have all their frames, one preview each, and true progress to the last frame."""
    red, blue = pictures(engine, tmp_path, "red", "blue")
    talk, one = studio("i2v", red, prompt="zoom in slowly", steps=2)
    assert one.status is Status.COMPLETED, one.error
    assert frames(engine, saved(talk, one)) == 3 * 12
    assert one.result["result"] == {"seconds": 3, "frames_per_second": 12}
    previews = [event for event in talk.store.events(one.id) if event.kind == "preview"]
    assert [event.data["preview"]["image"][:23] for event in previews] == ["data:image/jpeg;base64,"]
    talk, both = studio("svi", red, blue, prompt="pan right", steps=1)
    assert both.status is Status.COMPLETED, both.error
    assert frames(engine, saved(talk, both)) == 2 * 3 * 9


def test_a_picture_is_edited_by_the_words_of_its_prompt(studio, engine, tmp_path):
    """Black and white has no colour left; a prompt without any edit, and what is no picture, say what to do."""
    (red,) = pictures(engine, tmp_path, "red")
    talk, job = studio("qwen", red, prompt="make it black and white", steps=2, cfg_scale=2.0)
    assert job.status is Status.COMPLETED, job.error
    words = ["-v", "error", "-i", saved(talk, job), "-vf", "scale=1:1", "-pix_fmt", "rgb24", "-f", "rawvideo", "-"]
    pixel = subprocess.run([engine.ffmpeg, *words], check=True, capture_output=True).stdout
    assert max(pixel) - min(pixel) <= 12
    _, lost = studio("qwen", red, prompt="make it sing")
    assert (lost.status, lost.error["code"]) == (Status.FAILED, "program.prompt")
    (tmp_path / "no.png").write_text("no picture")
    _, unread = studio("qwen", tmp_path / "no.png", prompt="blur")
    assert (unread.status, unread.error["code"]) == (Status.FAILED, "program.bad_image")
