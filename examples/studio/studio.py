"""The programs of a machine with a graphics card, done on a CPU: videos by camera moves, pictures by filters.

`studio.py i2v|svi|qwen` is one long-lived program. What a model would do with its prompt is here done by words in it;
the rest is as it would be: the same parameters and limits, true progress, a look at the first picture, and files.
"""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

from spool_program import Job, serve

WIDTH, HEIGHT, SECONDS = 640, 360, 3
#: Where the camera goes, from 0 to 1 over the shot: the centre of the view as a share of what is out of it.
MOVES = {"left": ("1-{t}", "0.5"), "right": ("{t}", "0.5"), "up": ("0.5", "1-{t}"), "down": ("0.5", "{t}")}
EDITS = {
    "black and white": "hue=s={keep:.3f}",
    "brighter": "eq=brightness={part:.3f}",
    "darker": "eq=brightness=-{part:.3f}",
    "sepia": "colorchannelmixer=.393:.769:.189:0:.349:.686:.168:0:.272:.534:.131",
    "blur": "gblur=sigma={sigma:.2f}",
    "sharpen": "unsharp=5:5:{sharp:.2f}",
    "mirror": "hflip",
    "turn": "transpose=1",
}
#: Done once, however many steps there are.
ONCE = {"sepia", "mirror", "turn"}
#: No file but the ones that are given to it, whatever a picture pretends to be.
SAFE = ["-nostdin", "-hide_banner", "-loglevel", "error", "-protocol_whitelist", "file,pipe"]
PICTURES = ["-format_whitelist", "image2,png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,gif,gif_pipe"]


class Unreadable(Exception):
    """A picture that cannot be read."""


def ffmpeg(*words: str) -> list[str]:
    """The worker's ffmpeg with these words."""
    return [os.environ["SPOOL_FFMPEG"], *SAFE, *words]


def camera(job: Job) -> str:
    """The filter that moves over a picture; words of the prompt choose the move."""
    words, frames = job.params["prompt"].lower(), SECONDS * rate(job)
    far = min(1.0, 0.15 * job.params["cfg_scale"])
    t = f"on/{max(1, frames - 1)}"
    zoom = f"{1 + far}-{far}*{t}" if "out" in words else f"1+{far}*{t}"
    x, y = "0.5", "0.5"
    for word, (to_x, to_y) in MOVES.items():
        if word in words:
            zoom, x, y = f"{1 + far}", to_x.format(t=t), to_y.format(t=t)
    size = f"{4 * WIDTH}:{4 * HEIGHT}"
    return (
        f"scale={size}:force_original_aspect_ratio=increase,crop={size},"
        f"zoompan=z='{zoom}':x='(iw-iw/zoom)*({x})':y='(ih-ih/zoom)*({y})':d={frames}:s={WIDTH}x{HEIGHT}:fps={rate(job)},"
        "format=yuv420p"
    )


def rate(job: Job) -> int:
    """Frames a second: more steps move more smoothly."""
    return min(30, 6 + 3 * int(job.params["steps"]))


def video(job: Job) -> None:
    """One shot for each picture, then all of them in one file."""
    images = [Path(path) for path in job.params["images"]]
    frames, shots = SECONDS * rate(job), []
    job.stage("moving")
    for number, image in enumerate(images):
        shots.append(job.folder / f"shot-{number}.mp4")
        words = [
            "-i",
            str(image),
            "-vf",
            camera(job),
            "-frames:v",
            str(frames),
            "-c:v",
            "libx264",
            "-preset",
            "veryfast",
        ]
        with subprocess.Popen(
            ffmpeg("-y", *PICTURES, *words, "-progress", "pipe:1", str(shots[-1])), stdout=subprocess.PIPE, text=True
        ) as moving:
            assert moving.stdout is not None
            try:
                for line in moving.stdout:
                    name, _, value = line.strip().partition("=")
                    if name == "frame":
                        job.progress(number * frames + int(value), len(images) * frames)
            except BaseException:
                moving.kill()
                raise
        if moving.returncode != 0:
            raise Unreadable(image)
        if number == 0:
            job.preview("The first picture", {"image": small(shots[0])})
    job.stage("joining")
    listed, made = job.folder / "shots.txt", job.folder / "video.mp4"
    listed.write_text("".join(f"file '{shot.name}'\n" for shot in shots))
    joining = ["-y", "-f", "concat", "-i", str(listed), "-c", "copy", "-movflags", "+faststart", str(made)]
    subprocess.run(ffmpeg(*joining), check=True)
    facts = {"seconds": SECONDS * len(images), "frames_per_second": rate(job)}
    job.finish(facts, [{"path": made, "name": "video.mp4", "content_type": "video/mp4"}])


def picture(job: Job) -> None:
    """The picture with the edits whose words are in the prompt."""
    words, strength = job.params["prompt"].lower(), job.params["cfg_scale"]
    wanted = [word for word in EDITS if word in words]
    if not wanted:
        job.fail(f"I found nothing to do in the prompt; use one of {', '.join(EDITS)}.", code="prompt")
        return
    part = min(1.0, 0.2 * strength) / job.params["steps"]
    values = {
        "part": part,
        "keep": max(0.0, 1 - strength / job.params["steps"]),
        "sigma": 3 * strength / job.params["steps"],
        "sharp": min(5.0, 1.5 * strength / job.params["steps"]),
    }
    here = Path(job.params["images"][0])
    for step in range(job.params["steps"]):
        edits = [EDITS[word].format(**values) for word in wanted if step == 0 or word not in ONCE]
        there = job.folder / f"step-{step % 2}.png"
        done = subprocess.run(
            ffmpeg("-y", *PICTURES, "-i", str(here), "-vf", ",".join(edits) or "null", "-frames:v", "1", str(there)),
            check=False,
        )
        if done.returncode != 0:
            raise Unreadable(here)
        if step == 0:
            job.preview("After the first step", {"image": small(there)})
        here = there
        job.progress(step + 1, job.params["steps"])
    job.finish({"edits": wanted}, [{"path": here, "name": "picture.png", "content_type": "image/png"}])


def small(path: Path) -> str:
    """A picture small enough to be shown while the work goes on."""
    words = ["-i", str(path), "-vf", "scale=96:-2", "-frames:v", "1", "-q:v", "12", "-f", "mjpeg", "-"]
    jpeg = subprocess.run(ffmpeg(*words), stdout=subprocess.PIPE, check=True).stdout
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


def main() -> None:
    """Be the program that was asked for."""
    make = picture if sys.argv[1] == "qwen" else video

    def work(job: Job) -> None:
        try:
            make(job)
        except Unreadable:
            job.fail("The picture cannot be read; send a PNG, JPEG or WebP file.", code="bad_image")

    serve(work)


if __name__ == "__main__":
    main()
