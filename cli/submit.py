"""`spool submit`: files are sent, jobs queued and followed, and finished files saved."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from cli.client import Client
from cli.drafts import Draft, Order, drafts
from cli.errors import INTERRUPTED, CommandError
from cli.live import View, follow, summary
from cli.params import put
from cli.saving import save
from cli.sending import upload
from cli.views import JobView


def run_submit(
    client: Client, order: Order, view: View, *, watch: bool, folder: Path | None
) -> tuple[list[JobView], list[str]]:
    """Send and queue everything; with `watch` or a folder also follow and save. Returns the jobs and what to say."""
    types, presets = client.offers()
    wanted = drafts(order, types, {one.name: one for one in presets})
    queued: dict[str, JobView] = {}
    names: dict[str, str] = {}
    try:
        with view:
            for draft in wanted:
                job = create(client, draft, view)
                queued[job["id"]] = job
                names[job["id"]] = draft.name
                view.note(f"{names[job['id']]}: queued as {job['id']}")
            if not watch and folder is None:
                return list(queued.values()), [f"Follow it: spool watch {' '.join(names)}"]
            return _finish(client, names, view, folder)
    except KeyboardInterrupt:
        raise _interrupted(list(names), len(wanted) - len(names)) from None
    except CommandError as error:
        if names:
            error.message += f"\nQueued before that: {' '.join(names)}"
        raise


def run_watch(
    client: Client, job_ids: Sequence[str], view: View, *, folder: Path | None
) -> tuple[list[JobView], list[str]]:
    """Follow jobs that exist; returns them as they ended and what to say."""
    names = called([client.job(job_id) for job_id in job_ids])
    try:
        with view:
            return _finish(client, names, view, folder)
    except KeyboardInterrupt:
        raise _interrupted(list(names), 0) from None


def create(client: Client, draft: Draft, view: View) -> JobView:
    """Send the files of a job, each once, and queue it."""
    body, sent = json.loads(json.dumps(draft.body)), dict[Path, str]()
    for place, path in draft.files.items():
        if path not in sent:
            name = draft.name if len(draft.files) == 1 else path.name
            sent[path] = upload(client, path, partial(view.moving, name, "sending"))
        put(body, place, sent[path])
    return client.create(body)


def called(jobs: Sequence[JobView]) -> dict[str, str]:
    """What each job is called here, by its id: by what it works on, with the end of its id where two share that."""
    shared = Counter(job["name"] for job in jobs)
    return {
        job["id"]: f"{job['type']}-{job['id'][-6:]}"
        if job["name"] is None
        else job["name"] + (f" ({job['id'][-6:]})" if shared[job["name"]] > 1 else "")
        for job in jobs
    }


def _finish(
    client: Client, names: Mapping[str, str], view: View, folder: Path | None
) -> tuple[list[JobView], list[str]]:
    """Follow the jobs, save what they made, and say what became of each."""
    ended = follow(client, names, view)
    lines = []
    for job in ended:
        lines += summary(names[job["id"]], job)
        if folder is not None:
            lines += [f"  {item.path}" for item in save(client, names[job["id"]], job, folder, view)]
    return ended, lines


def _interrupted(job_ids: Sequence[str], unsent: int) -> CommandError:
    """Ctrl-C leaves queued jobs alone; the sentence says how to go on."""
    if not job_ids:
        return CommandError("Stopped before anything was queued.", INTERRUPTED)
    ids = " ".join(job_ids)
    rest = f" {unsent} of the files were not sent." if unsent else ""
    return CommandError(
        f"Stopped watching; what is queued goes on.{rest}\n"
        f"  Watch again: spool watch {ids}\n  Cancel it:   spool cancel {ids}",
        INTERRUPTED,
    )
