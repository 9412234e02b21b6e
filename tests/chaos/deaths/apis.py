"""How an API comes to each crash point under the hands of its client, and dies there."""

from __future__ import annotations

import hashlib
import os
import re
from typing import Any

import urllib3

from shared.job import Failure, Outcome, Status, new_id
from shared.session import NewSession
from shared.store.values import ClaimRequest, Worker
from tests.chaos.deaths.ways import Ways, ended
from tests.chaos.world import World


class Client:
    """Somebody whose request an API dies of, and who sends it again to one that lives."""

    def __init__(self, world: World, point: str, living: str) -> None:
        self.world, self.point, self._living = world, point, living
        self._pool = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(connect=5, read=60))

    def safely(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        """A request to the API that lives."""
        return self._sent(self._living, method, path, body, headers)

    def insist(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        """A request that an API dies of, and the answer to the same request of another one."""
        doomed, url = self.world.start_api(self.point)
        try:
            answer = self._sent(url, method, path, body, headers) if url else None
        except urllib3.exceptions.HTTPError:
            answer = None
        self.world.await_death(doomed, self.point)
        assert answer is None, f"{self.point}: an answer came before the death: {answer}"
        return self._sent(self._living, method, path, body, headers)

    def _sent(self, url: str, method: str, path: str, body: object, headers: dict[str, str]) -> tuple[int, Any]:
        plain = body if isinstance(body, bytes) else None
        answer = self._pool.request(
            method, f"{url}{path}", headers=headers, **({"body": plain} if plain or body is None else {"json": body})
        )
        told = answer.headers.get("Content-Type", "")
        return answer.status, answer.json() if answer.data and "json" in told else answer.data


def creating(client: Client) -> None:
    """There is one job under the key."""
    world, key = client.world, new_id()
    body = {"type": "ingest", "params": {"source": world.asset()}}
    status, job = client.insist("POST", "/api/jobs", body, **{"Idempotency-Key": key})
    assert status in {200, 201}
    made = [row["id"] for row in world.rows(f"SELECT id FROM job WHERE idempotency_key = '{key}'")]
    assert made == [job["id"]]
    world.wanted[job["id"]] = Status.COMPLETED


def creating_a_family(client: Client) -> None:
    """There is one family under the key, whole."""
    world, key = client.world, new_id()
    child = {"type": "ingest", "params": {"source": world.asset()}}
    body = {"type": "flow", "params": {}, "children": [child, {**child, "phase": "post"}]}
    status, job = client.insist("POST", "/api/jobs", body, **{"Idempotency-Key": key})
    assert status in {200, 201}
    made = [
        row["id"] for row in world.rows(f"SELECT id FROM job WHERE id = '{job['id']}' OR parent_id = '{job['id']}'")
    ]
    assert len(made) == 3
    world.wanted |= dict.fromkeys(made, Status.COMPLETED)


def beginning(client: Client) -> None:
    """There is one session under the key, with one message."""
    world, key = client.world, new_id()
    programs = world.folder / "programs.toml"
    programs.write_text('[programs.mute]\nkind = "agent"\ntitle = "Mute"\ncommand = ["true"]\n')
    world.settings["PROGRAMS"] = programs
    _, living = world.start_api()
    knowing = Client(world, client.point, living)
    body = {"program": "mute", "message": {"text": "Hello"}}
    status, session = knowing.insist("POST", "/api/sessions", body, **{"Idempotency-Key": key})
    assert status in {200, 201}
    made = world.rows(f"SELECT id FROM session WHERE idempotency_key = '{key}'")
    assert [row["id"] for row in made] == [session["id"]]
    turns = world.rows(f"SELECT id FROM job WHERE session_id = '{session['id']}'")
    assert [row["id"] for row in turns] == [session["active_job_id"]]
    said = world.rows(f"SELECT message FROM event WHERE session_id = '{session['id']}'")
    assert [row["message"] for row in said] == ["Hello"]
    world.wanted[session["active_job_id"]] = Status.CANCELLED
    assert knowing.safely("POST", f"/api/jobs/{session['active_job_id']}/cancel")[0] == 200


def reading(client: Client) -> None:
    """Nothing has changed, and the answer comes."""
    job = _cancelled(client.world)
    session = NewSession(id=new_id(), program="mute", title=None, params={}, caller="local")
    client.world.store.create_session(session)
    paths = {
        "get": f"/api/jobs/{job}",
        "list": "/api/jobs",
        "children": f"/api/jobs/{job}/children",
        "events": f"/api/jobs/{job}/events",
        "stats": "/api/stats",
        "session": f"/api/sessions/{session.id}",
        "sessions": "/api/sessions",
        "messages": f"/api/sessions/{session.id}",
        "check": "/readyz",
        "api_keys": "/readyz",
        "upkeep": "/readyz",
    }
    assert client.insist("GET", paths[client.point.partition(".")[0]])[0] == 200


def following(client: Client) -> None:
    """A live view is cut off; the queue does not notice."""
    job = _cancelled(client.world)
    doomed, url = client.world.start_api(client.point)
    with urllib3.PoolManager(retries=False) as pool:
        path = f"/api/events?job={job}"
        try:
            answer = pool.request("GET", f"{url}{path}", headers={"Last-Event-ID": "0"}, preload_content=False)
            for _ in answer.stream(64):
                pass
        except urllib3.exceptions.HTTPError:
            pass
    client.world.await_death(doomed, client.point)


def patching(client: Client) -> None:
    """The change is made."""
    job = client.world.submit()
    status, found = client.insist("PATCH", f"/api/jobs/{job.id}", {"priority": 5})
    assert (status, found["priority"]) == (200, 5)


def cancelling(client: Client) -> None:
    """The job is cancelled, once."""
    job = client.world.submit(Status.CANCELLED)
    status, found = client.insist("POST", f"/api/jobs/{job.id}/cancel")
    assert (status, found["status"]) == (200, "cancelled")


def retrying(client: Client) -> None:
    """There is one new job in place of the old one."""
    world = client.world
    job = _cancelled(world)
    status, again = client.insist("POST", f"/api/jobs/{job}/retry", **{"Idempotency-Key": new_id()})
    assert status in {200, 201}
    assert [row["id"] for row in world.rows(f"SELECT id FROM job WHERE retry_of = '{job}'")] == [again["id"]]
    world.wanted[again["id"]] = Status.COMPLETED


def purging(client: Client) -> None:
    """Neither row nor file is left."""
    world = client.world
    job = ended(world)
    status, _ = client.insist("DELETE", f"/api/jobs/{job}?purge=true")
    assert status in {204, 404}
    assert world.rows(f"SELECT id FROM job WHERE id = '{job}'") == []
    assert not list((world.storage.root / "outputs").rglob(f"{job}/**/*.data")), f"{client.point}: files without a row"
    world.deleted.add(job)


def announcing(client: Client) -> None:
    """There is a place for the bytes."""
    status, begun = client.insist("POST", "/api/uploads", _about(client.world))
    assert (status, client.safely("DELETE", f"/api/assets/{begun['asset']}")[0]) == (201, 204)


def sending(client: Client) -> None:
    """The file is there, whole, once, and a job can use it."""
    world = client.world
    asset, address, headers = _announced(client)
    content = world.place.recording.read_bytes()
    kind = client.point.rpartition(".")[0]
    folder = world.storage.root / "uploads" / asset
    if kind == "file.left":  # somebody died here before
        folder.mkdir(parents=True)
        (folder / ".other.data").touch()
    if kind == "file.abandoned":
        (world.storage.root / ".incoming").mkdir(parents=True, exist_ok=True)
        (world.storage.root / ".incoming/old.part").touch()
        os.utime(world.storage.root / ".incoming/old.part", (1, 1))
    if kind == "file.refused":  # it was sent before
        assert client.safely("PUT", address, content, **headers)[0] == 201
    assert client.insist("PUT", address, content, **headers)[0] in {201, 409}
    _completed(client, asset, content)


def completing(client: Client) -> None:
    """The upload is ready although its sender never heard so."""
    world = client.world
    asset, address, headers = _announced(client)
    content = world.place.recording.read_bytes()
    path = f"/api/uploads/{asset}/complete"
    if client.point.startswith("storage.join_parts"):  # asked for too early
        assert client.insist("POST", path, {})[0] == 409
        assert client.safely("PUT", address, content, **headers)[0] == 201
    else:
        assert client.safely("PUT", address, content, **headers)[0] == 201
        assert client.insist("POST", path, {})[0] == 200
    _completed(client, asset, content)


def dropping(client: Client) -> None:
    """Neither row nor file of the upload is left."""
    world = client.world
    asset = world.asset()
    assert client.insist("DELETE", f"/api/assets/{asset}")[0] in {204, 404}
    assert world.rows(f"SELECT id FROM asset WHERE id = '{asset}'") == []
    assert not (world.storage.root / "uploads" / asset).exists(), f"{client.point}: a file without a row"


def steering(client: Client) -> None:
    """The type is limited, once."""
    status, found = client.insist("PATCH", "/api/job-types/edit", {"max_running": 3})
    assert (status, found["max_running"], found["running"]) == (200, 3, 0)


def cancelling_many(client: Client) -> None:
    """All of them are cancelled, whoever counted them."""
    world = client.world
    for _ in range(2):
        world.submit(Status.CANCELLED, tags=("many",))
    status, found = client.insist("POST", "/api/jobs/cancel", {"tag": "many"})
    assert (status, found["more"]) == (200, False)


def retrying_many(client: Client) -> None:
    """Each runs again once."""
    world = client.world
    failed = world.submit(Status.FAILED, tags=("bad",))
    nobody = Worker("nobody", "here", "0", ("ingest",), 1)
    claimed = world.store.claim(ClaimRequest(nobody, new_id(), 60))
    assert claimed is not None
    world.store.finish(claimed.claim, Outcome("failed", failure=Failure("bad_input", "permanent", "It is empty.")))
    status, _ = client.insist("POST", "/api/jobs/retry", {"tag": "bad"})
    again = [row["id"] for row in world.rows(f"SELECT id FROM job WHERE retry_of = '{failed.id}'")]
    assert (status, len(again)) == (200, 1)
    world.wanted[again[0]] = Status.COMPLETED


def scheduling(client: Client) -> None:
    """The schedule is there as it was asked for, or gone, or has made a job for each request that came through."""
    world, path = client.world, "/api/schedules/yearly"
    body = {"cron": "0 0 1 1 *", "type": "maintenance", "params": {"duty": "vacuum"}}
    if client.point.startswith(("put_schedule", "schedules")):
        assert client.insist("PUT", path, body)[0] in {200, 201}
    else:
        assert client.safely("PUT", path, body)[0] in {200, 201}
    if client.point.startswith("run_schedule"):
        assert client.insist("POST", f"{path}/run", {})[0] == 201
        made = world.rows("SELECT id FROM job WHERE type = 'maintenance'")
        world.wanted |= dict.fromkeys([row["id"] for row in made], Status.COMPLETED)
    if client.point.startswith("remove_schedule"):
        assert client.insist("DELETE", path)[0] in {204, 404}
        assert world.rows("SELECT * FROM schedule") == []


APIS: Ways = (
    (r"cancel_matching", cancelling_many),
    (r"retry_matching", retrying_many),
    (r"steer", steering),
    (r"(put|remove|run)_schedule|schedules", scheduling),
    (r"create\.|sources\.", creating),
    (r"create_session", beginning),
    (r"(get|list|children|events|stats|sessions?|messages|check|api_keys|upkeep)\.", reading),
    (r"last_event_id|running", following),
    (r"patch", patching),
    (r"cancel", cancelling),
    (r"retry", retrying),
    (r"purge|file\.(folder\.)?gone|storage\.delete_prefix", purging),
    (r"add_asset|storage\.begin_parts", announcing),
    (r"asset\.|storage\.join_parts", completing),
    (r"give_up_asset|forget_asset", dropping),
    (r"asset_ready|file\.(part|data|record|draft|folder|left|refused|abandoned)", sending),
)
API_DETOURS: Ways = (
    (r"create\.", creating_a_family),
    (r"create\.", retrying),
    (r"file\.gone|storage\.delete_prefix", dropping),
)


def _cancelled(world: World) -> str:
    """A job that ended without work."""
    job = world.submit(Status.CANCELLED)
    world.store.cancel(job.id)
    return job.id


def _about(world: World) -> dict[str, object]:
    size = world.place.recording.stat().st_size
    return {"filename": "tone.wav", "content_type": "audio/wav", "size_bytes": size}


def _announced(client: Client) -> tuple[str, str, dict[str, str]]:
    """An upload's id, and the path and headers to send its bytes with."""
    status, begun = client.safely("POST", "/api/uploads", _about(client.world))
    assert status == 201
    upload = begun["upload"]
    return begun["asset"], re.sub(r"^https?://[^/]+", "", upload["url"]), upload["headers"]


def _completed(client: Client, asset: str, content: bytes) -> None:
    status, found = client.safely("POST", f"/api/uploads/{asset}/complete", {})
    assert (status, found["state"], found["sha256"]) == (200, "ready", hashlib.sha256(content).hexdigest())
    with client.world.storage.open(f"uploads/{asset}") as (_, file):
        assert file.read() == content
