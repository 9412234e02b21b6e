"""The API as the command line sees it: a verb for each request, with typed answers."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from cli.errors import Broken, CommandError
from cli.views import EventView, JobView, OutputView, UploadView
from cli.wire import Wire
from shared.job import new_id

if TYPE_CHECKING:
    from shared.presets import Preset

#: Called with bytes moved so far and bytes in all.
Moved = Callable[[int, int], None]


class Client(Wire):
    """One Spool API. Creating a job and running one again are repeated, too, when the connection breaks: their
    idempotency keys make the repeat find the first."""

    # --- jobs ------------------------------------------------------------------------------------------------
    def create(self, body: Mapping[str, Any], *, key: str | None = None) -> JobView:
        """Queue a job; the same `key` never makes a second one."""
        headers = {"Idempotency-Key": key or new_id()}
        return cast("JobView", self._json("POST", "/api/jobs", body=body, headers=headers, repeat=True))

    def job(self, job_id: str) -> JobView:
        """A job as it is now."""
        return cast("JobView", self._json("GET", _job(job_id)))

    def job_if_changed(self, job_id: str, etag: str | None, *, wait_s: int = 0) -> tuple[JobView | None, str | None]:
        """The job and its ETag, or (None, the same ETag) when nothing changed within `wait_s` seconds."""
        query = {"wait": wait_s} if wait_s else None
        headers = {"If-None-Match": etag} if etag else None
        reply = self._call("GET", _job(job_id), query=query, headers=headers, timeout_s=wait_s + 30)
        if reply.status == 304:
            return None, etag
        return cast("JobView", self._read(reply)), reply.headers.get("ETag")

    def jobs(self, **query: object) -> dict[str, Any]:
        """One page of jobs, newest first: `items` and `next_cursor`."""
        return cast("dict[str, Any]", self._json("GET", "/api/jobs", query=query))

    def children(self, job_id: str) -> list[JobView]:
        """A parent's children by phase."""
        return cast("list[JobView]", self._json("GET", f"{_job(job_id)}/children")["items"])

    def cancel(self, job_id: str) -> JobView:
        """Cancel, or ask the owner to."""
        return cast("JobView", self._json("POST", f"{_job(job_id)}/cancel", body={}, repeat=True))

    def retry(self, job_id: str) -> JobView:
        """Run an ended job again, as a new one."""
        headers = {"Idempotency-Key": new_id()}
        return cast("JobView", self._json("POST", f"{_job(job_id)}/retry", body={}, headers=headers, repeat=True))

    def cancel_many(self, where: Mapping[str, Any]) -> dict[str, int]:
        """Cancel every unfinished job that matches, batch by batch; counts those `cancelled` and those `stopping`."""
        total = {"cancelled": 0, "stopping": 0}
        while True:
            done = self._json("POST", "/api/jobs/cancel", body=where, repeat=True)
            total = {name: count + done[name] for name, count in total.items()}
            if not done["more"]:
                return total

    def retry_many(self, where: Mapping[str, Any]) -> dict[str, int]:
        """Run every failed job that matches again, once each: how many were `retried`, how many `skipped`."""
        total, cursor = {"retried": 0, "skipped": 0}, None
        while True:
            body = {**where, "cursor": cursor} if cursor else where
            done = self._json("POST", "/api/jobs/retry", body=body, repeat=True)
            total = {name: count + done[name] for name, count in total.items()}
            cursor = done["next_cursor"]
            if cursor is None:
                return total

    def steer(self, job_type: str, **changes: object) -> dict[str, Any]:
        """Pause, resume (`paused`) or limit (`max_running`) a job type."""
        path = f"/api/job-types/{quote(job_type, safe='')}"
        return cast("dict[str, Any]", self._json("PATCH", path, body=changes, repeat=True))

    def schedules(self) -> list[dict[str, Any]]:
        """Every schedule, by name."""
        return cast("list[dict[str, Any]]", self._json("GET", "/api/schedules")["items"])

    def put_schedule(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make a schedule, or change the one of that name."""
        return cast("dict[str, Any]", self._json("PUT", _schedule(name), body=body, repeat=True))

    def pause_schedule(self, name: str, *, paused: bool) -> dict[str, Any]:
        """Pause a schedule, or let it go on."""
        return cast("dict[str, Any]", self._json("PATCH", _schedule(name), body={"paused": paused}, repeat=True))

    def remove_schedule(self, name: str) -> None:
        """Make no more jobs of it."""
        self._json("DELETE", _schedule(name), repeat=False)

    def run_schedule(self, name: str) -> JobView:
        """Make its job now."""
        return cast("JobView", self._json("POST", f"{_schedule(name)}/run", body={}))

    def purge(self, job_id: str) -> None:
        """Delete an ended job with its outputs."""
        self._json("DELETE", _job(job_id), query={"purge": "true"})

    def events(self, job_id: str, *, after: int = 0, level: str = "debug", limit: int = 500) -> list[EventView]:
        """History and log with id > after, oldest first."""
        query = {"after": after, "level": level, "limit": limit}
        return cast("list[EventView]", self._json("GET", f"{_job(job_id)}/events", query=query)["items"])

    def outputs(self, job_id: str) -> list[OutputView]:
        """The finished files, with fresh URLs."""
        return cast("list[OutputView]", self._json("GET", f"{_job(job_id)}/outputs")["items"])

    def stats(self) -> dict[str, Any]:
        """The queue at a glance."""
        return cast("dict[str, Any]", self._json("GET", "/api/stats"))

    def offers(self) -> tuple[dict[str, dict[str, Any]], list[Preset]]:
        """The job types that this API takes, each with the schema of its parameters, and the presets that it knows."""
        from shared.presets import Preset  # noqa: PLC0415 - most commands need no presets and start faster without

        answer = self._json("GET", "/api/job-types")
        return {item["name"]: item["params"] for item in answer["items"]}, [
            Preset.model_validate(one, extra="ignore") for one in answer["presets"]
        ]

    def ready(self) -> None:
        """Return when API, database and storage answer; raises a sentence otherwise."""
        self._json("GET", "/readyz", repeat=False, timeout_s=5)

    # --- files -----------------------------------------------------------------------------------------------
    def begin_upload(self, filename: str, content_type: str, size_bytes: int) -> UploadView:
        """Announce a file; the answer says where its bytes go."""
        body = {"filename": filename, "content_type": content_type, "size_bytes": size_bytes}
        return cast("UploadView", self._json("POST", "/api/uploads", body=body))

    def rest_of_upload(self, asset: str) -> UploadView:
        """What has not arrived yet, at fresh addresses."""
        return cast("UploadView", self._json("GET", f"/api/uploads/{quote(asset, safe='')}"))

    def complete_upload(self, asset: str) -> None:
        """Say that all bytes are there."""
        self._json("POST", f"/api/uploads/{quote(asset, safe='')}/complete", body={}, repeat=True)

    def download(self, output: OutputView, path: Path, moved: Moved) -> None:
        """Fetch a finished file to `path`, whole and with the right checksum or not at all. It goes on where a
        connection broke."""
        part = path.with_name(path.name + ".part")
        digest = hashlib.sha256()
        with part.open("wb") as file:
            for pause_s in (0.2, 1.0, 3.0, 10.0, None):
                try:
                    for chunk in self._rest_of(output, file.tell()):
                        file.write(chunk)
                        digest.update(chunk)
                        moved(file.tell(), output["size_bytes"])
                    break
                except Broken:
                    if pause_s is None:
                        raise
                    time.sleep(pause_s)
            done = file.tell()
        if done != output["size_bytes"] or digest.hexdigest() != output["sha256"]:
            part.unlink()
            raise CommandError(f"{output['name']} arrived damaged; run the same command again to download it anew.")
        part.replace(path)


def _job(job_id: str) -> str:
    return f"/api/jobs/{quote(job_id, safe='')}"


def _schedule(name: str) -> str:
    return f"/api/schedules/{quote(name, safe='')}"
