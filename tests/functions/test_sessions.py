"""Sessions over HTTP: what a page of cards and a page of one conversation need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shared.errors import ConfigurationError
from shared.job import Failure, Line, Outcome, new_id
from shared.programs import load_programs
from shared.settings import load_settings
from shared.store.values import ClaimRequest, Worker
from tests.contract.factory import job
from tests.functions.api import Api, problem

PROGRAMS = """
[programs.echo]
kind = "agent"
title = "Says it again"
command = ["./echo.py"]
timeout_s = 60
stall_s = 20
[programs.echo.params]
times = { type = "integer", minimum = 1, maximum = 9, default = 1 }

[programs.svi]
kind = "workflow"
title = "Image to video"
command = ["./svi.py"]
[programs.svi.params]
prompt = { type = "string", required = true, maxLength = 500 }
images = { type = "files", required = true, minItems = 1, maxItems = 4, maxBytes = 20_000 }
steps = { type = "integer", minimum = 1, maximum = 100, default = 8 }
cfg_scale = { type = "number", minimum = 0.1, maximum = 20, default = 1.0 }
"""
TALKER = Worker(id="talker", host="here", version="0", types=("agent:echo",), slots=4)


@pytest.fixture
def api(api_with, store, tmp_path) -> Api:
    """An API that knows two programs."""
    (tmp_path / "programs.toml").write_text(PROGRAMS)
    api = api_with(programs=tmp_path / "programs.toml")
    store.types = tuple(api.settings.job_types)
    return api


def begin(api: Api, **fields: Any) -> dict[str, Any]:
    """A new session."""
    answer = api.http.post("/api/sessions", json={"program": "echo"} | fields)
    assert answer.status_code == 201, answer.text
    return answer.json()


def say(api: Api, session: dict[str, Any], text: str, **more: Any) -> Any:
    """The answer to a message."""
    return api.http.post(f"/api/sessions/{session['id']}/messages", json={"text": text, **more})


def reply(api: Api, *texts: str, outcome: Outcome | None = None) -> None:
    """The worker ends the turn that waits, with these messages."""
    job = api.store.claim(ClaimRequest(TALKER, new_id(), 90))
    assert job is not None
    lines = [Line(n, "info", "message", text, {"role": "assistant"}) for n, text in enumerate(texts, 1)]
    api.store.finish(job.claim, outcome or Outcome("completed", result={"needs_input": True}), lines=lines)


def read(api: Api, session: dict[str, Any], **query: Any) -> dict[str, Any]:
    """The session as it is now."""
    answer = api.http.get(f"/api/sessions/{session['id']}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_conversation(api):
    """Begun, spoken in, answered, read on: each message is a job, and its state follows the turn's."""
    session = begin(api, title="Episode 12", params={"times": 2})
    assert (session["status"], session["last_job_id"], session["preview"]) == ("not_started", None, [])
    assert session["params"] == {"times": 2}
    sent = say(api, session, "Hello\nthere")
    assert sent.status_code == 201
    job = sent.json()
    assert (job["type"], job["session_id"], job["params"]["text"]) == ("agent:echo", session["id"], "Hello\nthere")
    assert sent.headers["location"] == f"/api/jobs/{job['id']}"
    processing = read(api, session)
    assert (processing["status"], processing["active_job_id"]) == ("processing", job["id"])
    reply(api, "Hello", "there")
    found = read(api, session)
    assert (found["status"], found["active_job_id"], found["last_job_id"]) == ("waiting_for_input", None, job["id"])
    assert [(one["role"], one["text"]) for one in found["messages"]] == [
        ("user", "Hello\nthere"),
        ("assistant", "Hello"),
        ("assistant", "there"),
    ]
    assert found["more"] is False
    assert [one["text"] for one in found["preview"]] == ["Hello", "there"]
    rest = read(api, session, after=found["messages"][0]["id"], limit=1)
    assert ([one["text"] for one in rest["messages"]], rest["more"]) == (["Hello"], True)
    newest = read(api, session, limit=2)
    assert ([one["text"] for one in newest["messages"]], newest["more"]) == (["Hello", "there"], True)


def test_a_session_may_begin_with_a_message_and_an_upload(api):
    """One request makes both; the upload is named with the message."""
    asset = api.upload(filename="talk.wav")
    session = begin(api, message={"text": "How loud is it?", "assets": [asset]})
    assert session["status"] == "processing"
    message = read(api, session)["messages"][0]
    assert message["assets"] == [{"asset": asset, "filename": "talk.wav"}]
    assert api.http.delete(f"/api/assets/{asset}").status_code == 409, "a turn that is at work needs it"


def test_one_turn_at_a_time(api):
    """The second message is refused with a sentence until the turn has ended or was cancelled."""
    session = begin(api)
    job = say(api, session, "one").json()
    refused = problem(say(api, session, "two"), 409, "conflict")
    assert job["id"] in refused["detail"]
    assert api.http.post(f"/api/jobs/{job['id']}/cancel").status_code == 200
    assert read(api, session)["status"] == "waiting_for_input"
    assert say(api, session, "three").status_code == 201


def test_a_turn_that_fails_shows_why(api):
    """The session is in error with the job's sentence, and goes on with the next message."""
    session = begin(api, message={"text": "go"})
    reply(api, outcome=Outcome("failed", failure=Failure("program.failed", "permanent", "It broke.", "running")))
    found = read(api, session)
    assert (found["status"], found["error"]["message"]) == ("error", "It broke.")
    assert say(api, session, "again").status_code == 201
    assert (read(api, session)["status"], read(api, session)["error"]) == ("processing", None)


def test_the_same_key_says_it_once(api):
    """Session and message: the same key finds the same one, also while the turn is at work; another body is refused."""
    keys = {"Idempotency-Key": "first"}
    answers = [api.http.post("/api/sessions", json={"program": "echo"}, headers=keys) for _ in range(2)]
    assert [one.status_code for one in answers] == [201, 200]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    problem(api.http.post("/api/sessions", json={"program": "echo", "title": "x"}, headers=keys), 409, "conflict")
    url, keys = f"/api/sessions/{answers[0].json()['id']}/messages", {"Idempotency-Key": "second"}
    answers = [api.http.post(url, json={"text": "once"}, headers=keys) for _ in range(2)]
    assert [one.status_code for one in answers] == [201, 200]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    problem(api.http.post(url, json={"text": "twice"}, headers=keys), 409, "conflict")
    assert len(read(api, {"id": url.split("/")[3]})["messages"]) == 1


def test_the_list_is_paged_with_the_last_used_first(api):
    """Every session once, over pages."""
    made = [begin(api, title=str(number))["id"] for number in range(5)]
    say(api, {"id": made[0]}, "up")
    seen, cursor = [], None
    while True:
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = api.http.get("/api/sessions", params=query).json()
        seen += [one["id"] for one in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [made[0], *reversed(made[1:])]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"program": "nobody"}, "program"),
        ({"program": "svi"}, "program"),
        ({"program": "echo", "params": {"times": 10}}, "params.times"),
        ({"program": "echo", "params": {"stranger": 1}}, "params.stranger"),
        ({"program": "echo", "message": {"text": ""}}, "message.text"),
        ({"program": "echo", "message": {"text": "a\x00b"}}, "message.text"),
        ({"program": "echo", "message": {"text": "  \n"}}, "message.text"),
        ({"program": "echo", "message": {"text": "x" * 8001}}, "message.text"),
        ({"program": "echo", "message": {"text": "x", "assets": ["nothing"]}}, "message.assets.0"),
        ({"program": "echo", "message": {"text": "x", "assets": ["a"] * 9}}, "message.assets"),
    ],
)
def test_a_bad_request_names_its_field(api, body, field):
    """Refused before anything is made."""
    problem(api.http.post("/api/sessions", json=body), 422, "invalid", field)
    assert api.http.get("/api/sessions").json()["items"] == []


def test_a_session_that_is_not_there_is_404(api):
    """Reading and speaking."""
    problem(api.http.get("/api/sessions/nothing"), 404, "not_found")
    problem(say(api, {"id": "nothing"}, "hello"), 404, "not_found")


@pytest.mark.parametrize(
    ("params", "field", "limit"),
    [
        ({"prompt": "x" * 501}, "params.prompt", "500"),
        ({"prompt": "x", "steps": 101}, "params.steps", "100"),
        ({"prompt": "x", "steps": 0}, "params.steps", "1"),
        ({"prompt": "x", "cfg_scale": 0.05}, "params.cfg_scale", "0.1"),
        ({"prompt": "x", "cfg_scale": 20.5}, "params.cfg_scale", "20"),
        ({"prompt": "x", "images": []}, "params.images", "1"),
        ({}, "params.prompt", "required"),
    ],
)
def test_a_workflow_job_is_refused_with_field_and_limit_before_it_is_queued(api, params, field, limit):
    """The program's own limits hold at the API."""
    image = api.upload(b"x" * 9_000, "a.png", "image/png")
    body = {"type": "workflow:svi", "params": {"images": [image]} | params}
    found = problem(api.http.post("/api/jobs", json=body), 422, "invalid", field)
    assert limit in next(error["message"] for error in found["errors"] if error["field"] == field)
    assert api.http.get("/api/jobs").json()["items"] == []


def test_files_are_counted_together(api):
    """Two images fit, three do not, and the sentence names the limit."""
    images = [api.upload(b"x" * 9_000, f"{name}.png", "image/png") for name in "abc"]
    params = {"prompt": "a walk", "images": images}
    found = problem(
        api.http.post("/api/jobs", json={"type": "workflow:svi", "params": params}), 422, "invalid", "params.images"
    )
    assert "0.02 MB together" in found["detail"]
    answer = api.http.post("/api/jobs", json={"type": "workflow:svi", "params": params | {"images": images[:2]}})
    assert answer.status_code == 201, answer.text
    assert api.http.get(answer.headers["location"]).json()["position"] == 1
    assert answer.json()["name"] == "a.png"


def test_programs_are_published_and_agents_take_no_jobs(api):
    """GET /api/job-types has what a form needs; POST /api/jobs sends talkers to the sessions, and strangers away."""
    types = {one["name"]: one for one in api.http.get("/api/job-types").json()["items"]}
    assert (types["ingest"]["kind"], types["agent:echo"]["kind"], types["workflow:svi"]["kind"]) == (
        "built_in",
        "agent",
        "workflow",
    )
    assert types["agent:echo"]["session_params"]["properties"]["times"]["maximum"] == 9
    published = types["workflow:svi"]["params"]["properties"]
    assert (published["steps"]["default"], published["steps"]["maximum"]) == (8, 100)
    assert (published["images"]["x-spool-file"], published["images"]["x-max-bytes"]) == (True, 20_000)
    found = problem(api.http.post("/api/jobs", json={"type": "agent:echo", "params": {}}), 422, "invalid", "type")
    assert "POST /api/sessions" in found["detail"]
    problem(api.http.post("/api/jobs", json={"type": "workflow:none", "params": {}}), 422, "invalid", "type")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[programs.x]\nkind = 'agent'", "title: is required"),
        ("[programs.X]\nkind = 'agent'", "is no name of a program"),
        ("[program.x]", "write each program as [programs.NAME]"),
        ("[programs", "cannot be read"),
        ("[programs.x]\nkind='agent'\ntitle='t'\ncommand=[]", "command"),
        ("[programs.x]\nkind='agent'\ntitle='t'\ncommand=['a']\ninherit=['SPOOL_DATABASE_TOKEN']", "Spool's own"),
        ("[programs.x]\nkind='agent'\ntitle='t'\ncommand=['a']\nstall_s=700", "at most timeout_s"),
        ("[programs.x]\nkind='workflow'\ntitle='t'\ncommand=['a']\nparams.n={type='integer',default=1.5}", "integer"),
        ("[programs.x]\nkind='workflow'\ntitle='t'\ncommand=['a']\nparams.n={type='integer',maxLength=3}", "maxLength"),
        ("[programs.x]\nkind='agent'\ntitle='t'\ncommand=['a']\nparams.n={type='file'}", "with its messages"),
    ],
)
def test_a_faulty_file_of_programs_stops_the_start(tmp_path, text, sentence):
    """With a sentence that names the file, the program and the field."""
    path = Path(tmp_path / "programs.toml")
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load_settings(_env_file=None, programs=path)
    assert sentence in caught.value.message
    assert str(path) in caught.value.message


def test_a_command_is_found_from_its_file(tmp_path):
    """Relative places begin at the file that names them, wherever Spool was started."""
    path = tmp_path / "programs.toml"
    path.write_text("[programs.x]\nkind='agent'\ntitle='t'\ncommand=['bin/run', 'a b']\ndirectory='lib'")
    program = load_programs(path)["x"]
    assert program.command == (str(tmp_path / "bin/run"), "a b")
    assert program.directory == tmp_path / "lib"


def test_a_workflow_is_scheduled_like_any_type(api):
    """With links for its files and its own limits; an agent talks in sessions, and a stranger is nobody's."""
    body = {
        "cron": "0 3 * * *",
        "type": "workflow:svi",
        "params": {"prompt": "dawn", "images": ["https://x.org/a.png"]},
    }
    made = api.http.put("/api/schedules/dawn", json=body)
    assert made.status_code == 201, made.text
    job = api.http.post("/api/schedules/dawn/run").json()
    assert (job["type"], job["params"]["prompt"], job["tags"]) == ("workflow:svi", "dawn", ["schedule:dawn"])
    for params, field in (({"images": ["an-asset"]}, "params.images.0"), ({"prompt": "x" * 501}, "params.prompt")):
        wrong = body | {"params": body["params"] | params}
        problem(api.http.put("/api/schedules/other", json=wrong), 422, "invalid", field)
    for name in ("agent:echo", "workflow:none"):
        problem(api.http.put("/api/schedules/other", json=body | {"type": name}), 422, "invalid", "type")


def test_a_turn_tells_of_the_jobs_that_it_has_added(api):
    """Each of its messages and the session's own view count them, done ones too; a turn without any says nothing."""
    session = begin(api, message={"text": "make it a podcast"})
    turn = api.store.claim(ClaimRequest(TALKER, new_id(), 90))
    children = [job(name=f"{key}.wav", parent_id=turn.id, phase="core", child_key=key) for key in ("one", "two")]
    api.store.add_children(turn.claim, children)
    said = [Line(1, "info", "message", "It is being made.", {"role": "assistant"})]
    api.store.finish(turn.claim, Outcome("completed", result={}), lines=said)
    api.store.finish(api.claim(), Outcome("completed", result={}))
    found = read(api, session)
    assert found["children"] == {"total": 2, "done": 1, "failed": 0}
    assert [(message["job_id"], message["parts"]) for message in found["messages"]] == [(turn.id, 2)] * 2
    assert [message["parts"] for message in found["preview"]] == [2]
    plain = begin(api, message={"text": "hello"})
    assert (read(api, plain)["children"], read(api, plain)["messages"][0]["parts"]) == (None, 0)
