"""`python infra/smoke.py URL TOKEN [RECORDING]`: one real job through a deployment, its result downloaded and measured.

Needs what `make setup` installs. Exit code 0 when everything holds, else 1 with a sentence.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pyebur128
import urllib3
from rich.console import Console

from cli.client import Client
from cli.drafts import Order
from cli.errors import CommandError
from cli.live import view_for
from cli.samples import SPEECH, fetch
from cli.submit import run_submit
from cli.views import JobView

PRESET, TARGET_LUFS, TOLERANCE_LU = "podcast", -16.0, 0.5


class Broken(Exception):
    """The deployment does not do what it should; the message says what."""


def main() -> int:
    """Check everything in order; the first fault ends it."""
    parser = argparse.ArgumentParser(description="One real job through a deployment.")
    parser.add_argument("url", help="where the API is: the stack's output Url")
    parser.add_argument("token", help="one of SPOOL_API_TOKENS")
    parser.add_argument("recording", type=Path, nargs="?", help="a recording of yours; else one is downloaded")
    given = parser.parse_args()
    url = given.url.rstrip("/")
    try:
        check_doors(url, given.token)
        with tempfile.TemporaryDirectory(prefix="spool-smoke-") as folder:
            recording = given.recording or fetch(SPEECH, Path(folder))
            job, saved = run_job(Client(url, given.token), recording, Path(folder) / "finished")
            lufs = check_loudness(saved)
        check_polling(url, given.token, job["id"])
    except (Broken, CommandError, urllib3.exceptions.HTTPError) as fault:
        sys.stderr.write(f"WRONG  {fault}\n")
        return 1
    say(f"job {job['id']} completed at {url}; {saved.name} measures {lufs:.2f} LUFS (target {TARGET_LUFS:g})")
    return 0


def check_doors(url: str, token: str) -> None:
    """The process is up, its database and storage answer, and nobody enters without a token."""
    known = {"Authorization": f"Bearer {token}"}
    for path, headers, wanted in (("/healthz", {}, 200), ("/readyz", known, 200), ("/api/jobs", {}, 401)):
        answer = urllib3.request("GET", f"{url}{path}", headers=headers, retries=False, timeout=60)
        if answer.status != wanted:
            found = answer.data[:500].decode(errors="replace")
            raise Broken(f"GET {path} answers {answer.status} instead of {wanted}: {found}")
        say(f"GET {path} answers {wanted}")


def check_polling(url: str, token: str, job_id: str) -> None:
    """A second poll with the first one's ETag costs an empty answer."""
    headers = {"Authorization": f"Bearer {token}"}
    ask: Callable[[], urllib3.BaseHTTPResponse] = lambda: urllib3.request(  # noqa: E731 - asked twice
        "GET", f"{url}/api/jobs/{job_id}", headers=headers, retries=False, timeout=60
    )
    headers["If-None-Match"] = ask().headers["ETag"]
    if (status := ask().status) != 304:
        raise Broken(f"A poll with the ETag of the poll before answers {status} instead of 304.")
    say("a poll with an ETag answers 304")


def run_job(client: Client, recording: Path, folder: Path) -> tuple[JobView, Path]:
    """The recording uploaded and mastered, and its MP3 downloaded."""
    order = Order("ingest", (str(recording),), PRESET, (), ("mp3:128",), ("smoke",))
    (job,), _ = run_submit(client, order, view_for(Console(stderr=True), quiet=False), watch=True, folder=folder)
    if job["status"] != "completed":
        raise Broken(f"Job {job['id']} ended {job['status']}: {job['error']}")
    return job, next(folder.rglob("*.mp3"))


def check_loudness(path: Path) -> float:
    """Integrated loudness in LUFS of the finished file, by libebur128 on what a listener's player decodes."""
    with av.open(str(path)) as media:
        stream = media.streams.audio[0]
        to_float = av.AudioResampler(format="flt", layout=stream.layout, rate=stream.rate)
        frames = [made.to_ndarray().reshape(-1) for frame in media.decode(stream) for made in to_float.resample(frame)]
        channels, rate = stream.layout.nb_channels, stream.rate
    samples = np.ascontiguousarray(np.concatenate(frames), np.float32)
    state = pyebur128.R128State(channels, rate, pyebur128.MeasurementMode.MODE_I)
    state.add_frames(samples, len(samples) // channels)
    lufs = float(pyebur128.get_loudness_global(state))
    if abs(lufs - TARGET_LUFS) > TOLERANCE_LU:
        raise Broken(f"{path.name} is at {lufs:.2f} LUFS instead of {TARGET_LUFS:g}; look into the worker's log.")
    return lufs


def say(line: str) -> None:
    """One line that went well."""
    sys.stdout.write(f"ok     {line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
