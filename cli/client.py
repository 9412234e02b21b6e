"""The API as the command line sees it: typed answers, and one sentence for everything that can go wrong."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NotRequired, TypedDict, cast
from urllib.parse import quote, urlencode, urljoin, urlsplit

import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, SSLError

from shared.job import ENDED_BADLY, TERMINAL, new_id

if TYPE_CHECKING:
    from shared.presets import Preset

#: Called with bytes moved so far and bytes in all.
Moved = Callable[[int, int], None]

DONE, JOB_FAILED, USAGE, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130


class JobError(TypedDict):
    """Why a job ended badly."""

    code: str
    kind: str
    message: str
    stage: str | None
    attempt: int


class Children(TypedDict):
    """How far a parent's children are."""

    total: int
    done: int
    failed: int


class OutputView(TypedDict):
    """A finished file; `url` works for a limited time."""

    name: str
    content_type: str
    size_bytes: int
    sha256: str
    url: str
    facts: dict[str, Any]


class JobView(TypedDict):
    """A job as the API returns it; times are ISO 8601 text."""

    id: str
    type: str
    name: str | None
    status: str
    cancelling: bool
    stage: str | None
    stage_index: int | None
    stage_count: int | None
    progress: float | None
    progress_current: float | None
    progress_total: float | None
    position: int | None
    eta_s: float | None
    attempt: int
    failures: int
    max_failures: int
    priority: int
    params: dict[str, Any]
    result: dict[str, Any] | None
    error: JobError | None
    outputs: list[OutputView]
    parent_id: str | None
    phase: str | None
    children: Children | None
    retry_of: str | None
    tags: list[str]
    created_at: str
    run_at: str | None
    started_at: str | None
    updated_at: str
    completed_at: str | None
    timeout_s: float
    poll_after_ms: int


class EventView(TypedDict):
    """One line of a job's history."""

    id: int
    job_id: str
    attempt: int
    at: str
    level: str
    kind: str
    message: str
    data: dict[str, Any] | None


class UploadTarget(TypedDict):
    """The request that sends bytes."""

    method: str
    url: str
    headers: dict[str, str]


class UploadPart(UploadTarget):
    """The request that sends `size_bytes` of the file from byte `first` on."""

    number: int
    first: int
    size_bytes: int


class UploadView(TypedDict):
    """Where a file goes: in one request, or in parts."""

    asset: str
    upload: NotRequired[UploadTarget]
    parts: NotRequired[list[UploadPart]]


class CommandError(Exception):
    """Ends a command with one sentence (what happened, what to do) and an exit code."""

    def __init__(self, message: str, exit_code: int = JOB_FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code


class Unreachable(CommandError):
    """Nothing answers at the address, or what answers is not Spool."""

    def __init__(self, message: str) -> None:
        super().__init__(message, UNREACHABLE)


class Refused(CommandError):
    """The API answered with an error of its own; `code` is for programs."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message, _exit_code(status))
        self.status = status
        self.code = code


def is_terminal(job: JobView) -> bool:
    """Whether the job has ended, for good."""
    return job["status"] in TERMINAL


def ended_badly(job: JobView) -> bool:
    """Whether the job ended without its result."""
    return job["status"] in ENDED_BADLY


class Client:
    """One Spool API. Safe calls are repeated for a while when the connection breaks; creating a job and running one
    again are among them, because their idempotency keys make the repeat find the first."""

    def __init__(self, base_url: str, token: str | None = None, *, say: Callable[[str], None] | None = None) -> None:
        self.base_url = base_url.rstrip("/")
        self._say = say or (lambda _sentence: None)
        self._pool = urllib3.PoolManager(retries=False, maxsize=4)
        self._headers = {"Accept": "application/json", "User-Agent": "spool-cli"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"

    def close(self) -> None:
        """Let go of all connections."""
        self._pool.clear()

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

    def send(self, path: Path, piece: UploadPart, moved: Callable[[int], None]) -> None:
        """Send a piece of a file in constant memory, telling how much of it has gone."""
        url = urljoin(self.base_url + "/", piece["url"])
        to_api = url.startswith(self.base_url + "/")
        with self._explained("" if to_api else url), path.open("rb") as file:
            reply = self._pool.request(
                piece["method"],
                url,
                body=cast("BinaryIO", _Counted(file, piece["first"], piece["size_bytes"], moved)),
                headers={**piece["headers"], "Content-Length": str(piece["size_bytes"])},
                timeout=urllib3.Timeout(connect=5, read=300),
            )
        if reply.status in {409, 412}:
            raise WrittenTwice(f"{path.name} had been sent to this address before. Send it again.")
        if reply.status >= 400:
            raise self._refused(url, reply)

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

    def _rest_of(self, output: OutputView, first: int) -> Iterator[bytes]:
        """The file's bytes from `first` on."""
        url = urljoin(self.base_url + "/", output["url"])
        to_api = url.startswith(self.base_url + "/")
        headers = {"Range": f"bytes={first}-"} if first else {}
        with self._explained("" if to_api else url), self._open(url, headers) as reply:
            if reply.status != (206 if first else 200):
                raise self._refused(url, reply)
            yield from reply.stream(1 << 18)

    # --- plumbing --------------------------------------------------------------------------------------------
    def _json(self, method: str, path: str, **options: Any) -> Any:  # noqa: ANN401 - any JSON value
        return self._read(self._call(method, path, **options))

    def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 60,
        repeat: bool | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """One request; a broken connection, a busy server or a rate limit is waited out when that is safe."""
        url = self.base_url + path + ("?" + urlencode(query) if query else "")
        sent = self._headers | ({"Content-Type": "application/json"} if body is not None else {}) | dict(headers or {})
        safe = repeat if repeat is not None else method in {"GET", "DELETE"}
        data = None if body is None else json.dumps(body).encode()
        for pause_s in (0.2, 0.5, 1.0, None):
            try:
                with self._explained():
                    reply = self._pool.request(
                        method, url, body=data, headers=sent, timeout=urllib3.Timeout(connect=5, read=timeout_s)
                    )
            except Broken:
                if not safe or pause_s is None:
                    raise
                time.sleep(pause_s)
                continue
            if reply.status == 429 and pause_s is not None:
                seconds = min(float(reply.headers.get("Retry-After", "1")), 120.0)
                self._say(f"The server asks for a pause; going on in {seconds:.0f} s.")
                time.sleep(seconds)
                continue
            if reply.status == 503 and safe and pause_s is not None:
                time.sleep(pause_s)
                continue
            return reply
        return reply

    def _read(self, reply: urllib3.BaseHTTPResponse) -> Any:  # noqa: ANN401 - any JSON value
        if reply.status >= 400:
            raise self._problem(reply)
        if reply.status == 204:
            return None
        try:
            return json.loads(reply.data)
        except ValueError:
            raise self._not_spool(reply) from None

    def _problem(self, reply: urllib3.BaseHTTPResponse) -> CommandError:
        """The error that a problem+json answer stands for."""
        try:
            problem = json.loads(reply.data)
            message = str(problem["detail"])
        except (ValueError, KeyError, TypeError):
            return self._not_spool(reply)
        if reply.status == 401:
            message += "\n  Set SPOOL_API_TOKEN to one of the API's tokens (its SPOOL_API_TOKENS)."
        if reply.status in {502, 503, 504}:
            return Unreachable(message)
        if reply.status >= 500 and (request_id := reply.headers.get("X-Request-Id")):
            message += f"\n  X-Request-Id: {request_id}"
        return Refused(reply.status, str(problem.get("code", "")), message)

    def _refused(self, url: str, reply: urllib3.BaseHTTPResponse) -> CommandError:
        """Why the bytes of a file were not taken or given; `Broken` where the same request may work later."""
        if not url.startswith(self.base_url + "/"):
            return _refused_by_storage(url, reply)
        problem = self._problem(reply)
        return Broken(problem.message) if reply.status in {502, 503, 504} else problem

    def _not_spool(self, reply: urllib3.BaseHTTPResponse) -> Unreachable:
        kind = reply.headers.get("Content-Type", "no content type").partition(";")[0]
        return Unreachable(
            f"What answers at {self.base_url} does not speak Spool (HTTP {reply.status}, {kind}). Check SPOOL_API_URL."
        )

    @contextmanager
    def _open(self, url: str, headers: Mapping[str, str]) -> Iterator[urllib3.BaseHTTPResponse]:
        timeout = urllib3.Timeout(connect=5, read=60)
        reply = self._pool.request("GET", url, headers=headers, preload_content=False, timeout=timeout)
        try:
            yield reply
        finally:
            reply.close()

    @contextmanager
    def _explained(self, url: str = "") -> Iterator[None]:
        """Turn urllib3's errors into one sentence that says how to go on; `url` is where, if it is not the API."""
        try:
            yield
        except (NewConnectionError, ConnectTimeoutError) as error:
            if url and not url.startswith(self.base_url):
                raise Broken(f"The storage at {urlsplit(url).netloc} does not answer. Check the network.") from None
            raise Unreachable(self._nothing_there(error)) from None
        except SSLError as error:
            if "WRONG_VERSION_NUMBER" in str(error):
                sentence = f"{self.base_url} speaks no TLS; write http:// in SPOOL_API_URL, or the port that does."
                raise Unreachable(sentence) from None
            raise Unreachable(f"{self.base_url} has no certificate this machine trusts ({error}).") from None
        except HTTPError as error:
            where = urlsplit(url or self.base_url)
            raise Broken(
                f"The connection to {where.scheme}://{where.netloc} broke ({type(error).__name__}). Try again."
            ) from None

    def _nothing_there(self, error: HTTPError) -> str:
        if urlsplit(self.base_url).hostname in {"localhost", "127.0.0.1", "::1"}:
            return (
                f"Nothing answers at {self.base_url}. Start Spool with `spool dev` in another terminal, "
                "or set SPOOL_API_URL to the address of a running one."
            )
        reason = str(error).rpartition(": ")[2]
        return f"Nothing answers at {self.base_url} ({reason}). Check SPOOL_API_URL and the network."


class Broken(Unreachable):
    """The connection failed: a safe request may be sent again."""


class WrittenTwice(CommandError):
    """The address of an upload has taken its bytes already."""


class _Counted:
    """A piece of a file that says how much of it was read; `size` is what was promised to the server."""

    def __init__(self, file: BinaryIO, first: int, size: int, moved: Callable[[int], None]) -> None:
        file.seek(first)
        self._file, self._size, self._moved = file, size, moved
        self._done = 0

    def read(self, size: int = -1) -> bytes:
        """The next bytes, never more than was promised."""
        left = self._size - self._done
        chunk = self._file.read(left if size < 0 else min(size, left))
        if not chunk and left:
            raise CommandError(
                "The file became shorter while it was sent; wait until it is complete and send it again."
            )
        self._done += len(chunk)
        self._moved(self._done)
        return chunk


def _refused_by_storage(url: str, reply: urllib3.BaseHTTPResponse) -> CommandError:
    """What a bucket answers is XML, and its 403 mostly means that the address has expired."""
    found = re.search(r"<Message>([^<]*)</Message>", reply.data.decode(errors="replace"))
    said = f": {found[1].rstrip('.')}" if found else ""
    sentence = f"The storage at {urlsplit(url).netloc} refused the file ({reply.status}{said}). Send it again."
    return Broken(sentence) if reply.status in {403, 408, 429} or reply.status >= 500 else CommandError(sentence)


def _job(job_id: str) -> str:
    return f"/api/jobs/{quote(job_id, safe='')}"


def _schedule(name: str) -> str:
    return f"/api/schedules/{quote(name, safe='')}"


def _exit_code(status: int) -> int:
    """A request that can never work is a matter of usage; one that the moment forbids is not."""
    return USAGE if 400 <= status < 500 and status not in {409, 429} else JOB_FAILED


def exit_code_of(jobs: Sequence[JobView]) -> int:
    """0 when every job completed, 1 when one did not."""
    return JOB_FAILED if any(ended_badly(job) for job in jobs) else DONE
