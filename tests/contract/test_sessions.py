"""Sessions: a conversation is its turns' messages, in order, and at most one turn is at work."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from shared.errors import Conflict, NotFound
from shared.job import Line, NewJob, Outcome, Status, new_id
from shared.session import NewSession, SessionStatus
from shared.store.sql import Statement
from shared.store.statements import sessions as sql
from shared.store.values import Beat, ClaimRequest, Worker
from tests.contract.factory import PERMANENT, TRANSIENT, due

TALKER = Worker(id="talker", host="here", version="0", types=("agent:echo",), slots=16)


def begun(store: Any, **fields: Any) -> str:
    """A new session's id."""
    about = {"id": new_id(), "program": "echo", "title": None, "params": {}, "caller": "local"} | fields
    return store.create_session(NewSession(**about))[0].id


def turn(session_id: str, text: str = "Hello", **fields: Any) -> NewJob:
    """What a person says, as a job."""
    return NewJob(
        **{"id": new_id(), "type": "agent:echo", "params": {"text": text, "assets": []}, "session_id": session_id}
        | fields
    )


def claimed(store: Any) -> Any:
    """The next turn, owned."""
    job = store.claim(ClaimRequest(TALKER, new_id(), 90))
    assert job is not None
    return job


def said(n: int, text: str, role: str = "assistant") -> Line:
    """A message as a worker writes it."""
    return Line(n, "info", "message", text, {"role": role})


def state(store: Any, session_id: str) -> SessionStatus:
    """How a session stands."""
    found = store.session(session_id)
    assert found is not None
    return found.status


def test_a_session_goes_through_its_states(store):
    """Not started, processing, waiting for input, completed, error; after a cancel it is the person's turn again."""
    session = begun(store)
    seen = [state(store, session)]
    ends = [
        Outcome("completed", result={"needs_input": True}),
        Outcome("completed", result={"needs_input": False}),
        PERMANENT,
        None,
    ]
    for end in ends:
        job, _ = store.create([turn(session)])
        seen.append(state(store, session))
        if end is None:
            store.cancel(job.id)
        else:
            store.finish(claimed(store).claim, end)
        seen.append(state(store, session))
    names = "not_started processing waiting_for_input processing completed processing error processing"
    assert seen == [*names.split(), "waiting_for_input"]


def test_what_was_said_is_read_in_order_from_any_place(store):
    """Both sides' messages in one sequence: forward after an id, backward before one, and the newest without either."""
    session, other = begun(store), begun(store)
    for number in range(3):
        store.create([turn(session, f"question {number}")])
        store.create([turn(other, "something else")])
        for job in (claimed(store), claimed(store)):
            lines = [Line(1, "info", "log", "thinking"), said(2, f"answer {number}"), said(3, f"more {number}")]
            store.heartbeat(TALKER, [Beat(job.claim, lines=tuple(lines[:2]))], lease_s=90)
            store.finish(job.claim, Outcome("completed"), lines=lines)
    every = store.messages(session, limit=100, after=0)
    assert [(one.role, one.text) for one in every] == [
        said
        for n in range(3)
        for said in (("user", f"question {n}"), ("assistant", f"answer {n}"), ("assistant", f"more {n}"))
    ]
    ids = [one.id for one in every]
    assert ids == sorted(ids)
    assert list(store.messages(session, limit=2, after=every[3].id)) == list(every[4:6])
    assert list(store.messages(session, limit=2)) == list(every[-2:])
    assert list(store.messages(session, limit=2, before=every[4].id)) == list(every[2:4])


def test_a_second_turn_is_refused_while_one_is_at_work(store):
    """Pending, running, retrying: the row itself refuses, and nothing is said; when it has ended the next may come."""
    session = begun(store)
    job, _ = store.create([turn(session, "one")])
    for move in ("pending", "running", "retrying"):
        assert store.get(job.id).status == move
        with pytest.raises(Conflict, match=f"still at its last message .job {job.id}"):
            store.create([turn(session, "two")])
        if move == "pending":
            owned = claimed(store)
        elif move == "running":
            store.finish(owned.claim, TRANSIENT)
    due(store, job.id)
    store.finish(claimed(store).claim, Outcome("completed"))
    store.create([turn(session, "three")])
    assert [one.text for one in store.messages(session, limit=9)] == ["one", "three"]


def test_of_many_turns_at_once_one_is_made(store, databases):
    """Eight clients speak at the same instant: one turn, seven conflicts."""
    session = begun(store)

    def speak(number: int) -> bool:
        try:
            store.create([turn(session, f"from {number}")])
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(3) as pool:
        assert sum(pool.map(speak, range(8))) == 1
    assert len(store.messages(session, limit=20)) == 1


def test_a_retried_turn_says_everything_once(store):
    """What an attempt said that did not end well is history, and no part of the conversation once the next begins."""
    session = begun(store)
    job, _ = store.create([turn(session, "go on")])
    store.finish(claimed(store).claim, TRANSIENT, lines=[said(1, "first try")])
    assert [one.text for one in store.messages(session, limit=9)] == ["go on", "first try"]
    due(store, job.id)
    again = claimed(store)
    assert [one.text for one in store.messages(session, limit=9)] == ["go on"]
    store.finish(again.claim, Outcome("completed"), lines=[said(1, "second try")])
    assert [one.text for one in store.messages(session, limit=9)] == ["go on", "second try"]
    assert [one.message for one in store.events(job.id) if one.kind == "message"] == [
        "go on",
        "first try",
        "second try",
    ]
    assert [one.text for one in store.session(session).preview] == ["second try"]


def test_repeats_make_one_session_and_one_message(store):
    """The same ids again (a lost reply), the same key again: one session, one turn, one message; another body: 409."""
    new = NewSession(
        id=new_id(), program="echo", title="t", params={}, caller="local", idempotency_key="k", request_hash="h"
    )
    first = turn(new.id, "hi")
    made = [store.create_session(new, first)[1], store.create_session(new, first)[1]]
    other = NewSession(
        id=new_id(), program="echo", title="t", params={}, caller="local", idempotency_key="k", request_hash="h"
    )
    found, fresh = store.create_session(other, turn(other.id, "hi"))
    assert (made, found.id, fresh) == ([True, True], new.id, False)
    assert [one.text for one in store.messages(new.id, limit=9)] == ["hi"]
    assert len(store.sessions(limit=9)) == 1
    again = NewSession(
        id=new_id(), program="echo", title="u", params={}, caller="local", idempotency_key="k", request_hash="i"
    )
    with pytest.raises(Conflict, match="Use a new key"):
        store.create_session(again)


def test_the_list_has_the_last_used_first_and_shows_what_was_said_last(store):
    """A message moves its session to the top; the preview leaves out the person and the system, and is shortened."""
    first, second = begun(store), begun(store)
    assert [one.id for one in store.sessions(limit=9)] == [second, first]
    store.create([turn(first)])
    words = [said(n, f"{n} " + "x" * 600) for n in range(1, 5)]
    store.finish(claimed(store).claim, Outcome("completed"), lines=[*words, said(5, "prompt", "system")])
    page = store.sessions(limit=1)
    assert [one.id for one in page] == [first]
    assert [(one.text[:2], len(one.text)) for one in page[0].preview] == [("2 ", 500), ("3 ", 500), ("4 ", 500)]
    assert [one.id for one in store.sessions(limit=9, before_place=page[0].place)] == [second]


def test_a_turn_of_no_session_is_refused(store):
    """A session that is gone takes no message."""
    with pytest.raises(NotFound, match="There is no session"):
        store.create([turn("nowhere")])
    assert store.messages("nowhere", limit=9) == []


def test_a_retry_by_a_person_is_a_new_turn(store):
    """It belongs to the session and says the same again; while another turn is at work it is refused."""
    session = begun(store)
    job, _ = store.create([turn(session, "try this")])
    store.finish(claimed(store).claim, PERMANENT)
    again, _ = store.retry(job.id)
    assert (again.session_id, again.retry_of, again.status) == (session, job.id, Status.PENDING)
    with pytest.raises(Conflict):
        store.retry(job.id)
    assert [one.text for one in store.messages(session, limit=9)] == ["try this", "try this"]


def test_a_session_is_kept_whole_until_nothing_was_said_for_long(store):
    """Old turns of a session in use stay; when it falls silent its turns go, then the session itself."""
    session = begun(store)
    for _ in range(2):
        store.create([turn(session)])
        store.finish(claimed(store).claim, Outcome("completed"), lines=[said(1, "yes")])
    store._run([Statement("UPDATE job SET completed_at = 1, created_at = 1")])
    kept = store.prunable(older_than_s=3600)
    store.prune(kept)
    assert (kept.job_ids, kept.session_ids) == ((), ())
    assert len(store.messages(session, limit=9)) == 4
    store._run([Statement("UPDATE session SET updated_at = 1")])
    for _ in range(2):
        store.prune(store.prunable(older_than_s=3600))
    assert store.session(session) is None
    assert store.messages(session, limit=9) == []


def test_what_is_said_is_read_without_a_scan(databases):
    """The plans of reading a conversation and a list of them walk indexes; only a preview is sorted."""
    store = databases.sqlite()
    store.migrate()
    about = {"id": "s", "after": 0, "before": 9, "limit": 9}
    for text in (sql.MESSAGES_AFTER, sql.MESSAGES_BEFORE, sql.LIST, sql.ONE):
        plan = [row["detail"] for row in store._read([Statement(f"EXPLAIN QUERY PLAN {text}", about)])[0]]
        scans = [line for line in plan if line.startswith("SCAN") and "USING INDEX" not in line]
        assert [line for line in scans if not line.startswith(("SCAN (subquery", "SCAN CONSTANT"))] == [], plan
        assert sum("TEMP B-TREE" in line for line in plan) <= (1 if text in {sql.LIST, sql.ONE} else 0), plan
    store.close()
