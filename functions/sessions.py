"""The session routes: conversations with registered agents, whose every message is a job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field
from starlette.responses import Response

from functions.call import Call, answer, checked
from functions.cursor import seq_at, signed
from functions.models import Body, NoQuery, Query
from functions.problems import invalid
from functions.sources import ready_uploads
from functions.submit import idempotency_key
from functions.view import ChildrenView, ErrorView, Time, View, iso, job_view
from shared.errors import FieldError, NotFound
from shared.job import NewJob, new_id
from shared.session import Message, NewSession, Role, Session, SessionStatus, Turn
from shared.settings import Settings
from shared.text import plain, readable
from shared.types.agent import MAX_ASSETS, MAX_TEXT

if TYPE_CHECKING:
    from shared.programs import Program

_POLL_MS = {SessionStatus.PROCESSING: 1000}


class MessageRequest(Body):
    """What a person says, and the uploads that belong to it."""

    text: Annotated[str, Field(min_length=1, max_length=MAX_TEXT), AfterValidator(readable)]
    assets: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=64)], ...],
        Field(max_length=MAX_ASSETS, description="Asset ids from POST /api/uploads."),
    ] = ()


class SessionRequest(Body):
    """A session with a program, and the first message where there is one already."""

    program: Annotated[str, Field(min_length=1, max_length=40)] = Field(
        description="The NAME of one of the types agent:NAME of GET /api/job-types."
    )
    title: Annotated[str, Field(min_length=1, max_length=120), AfterValidator(plain)] | None = None
    params: dict[str, Any] = Field(default={}, description="What the program takes; see `session_params` of its type.")
    message: MessageRequest | None = None


class SessionListQuery(Query):
    """Which sessions to list."""

    limit: int = Field(default=50, ge=1, le=200)
    cursor: Annotated[str, Field(max_length=200)] | None = Field(
        default=None, description="`next_cursor` of the page before."
    )


class SessionQuery(Query):
    """Which messages to read: the newest when neither `after` nor `before` is given."""

    after: int | None = Field(default=None, ge=0, le=2**62, description="Only later ones than this id, oldest first.")
    before: int | None = Field(default=None, ge=1, le=2**62, description="Only earlier ones; `after` wins.")
    limit: int = Field(default=100, ge=1, le=500)


class AttachmentView(View):
    """An upload that came with a message."""

    asset: str
    filename: str


class MessageView(View):
    """Something said in a session."""

    id: int = Field(description="Rises over all sessions; the place to continue from.")
    role: Role
    text: str
    at: str = Time
    job_id: str = Field(description="The turn it belongs to.")
    assets: list[AttachmentView]
    parts: int = Field(description="Jobs that its turn has added; GET /api/jobs/{job_id}/children shows them.")


class SessionView(View):
    """A session."""

    id: str
    program: str
    title: str | None
    status: SessionStatus
    cancelling: bool = Field(description="A cancel of its turn was asked for and has not taken effect yet.")
    params: dict[str, Any]
    active_job_id: str | None = Field(description="The turn it is at; cancel that job to stop it.")
    last_job_id: str | None = Field(description="The newest turn, at work or ended.")
    error: ErrorView | None = Field(description="Why its last turn ended badly.")
    children: ChildrenView | None = Field(description="The jobs that its newest turn has added.")
    preview: list[MessageView] = Field(
        description="The last that the program said, oldest first: up to three messages of up to 500 characters."
    )
    created_at: str = Time
    updated_at: str = Time
    poll_after_ms: int = Field(description="When it is worth asking again.")


class SessionDetailView(SessionView):
    """A session with what was said."""

    messages: list[MessageView] = Field(description="Oldest first.")
    more: bool = Field(description="There are more in the direction that was asked for.")


class SessionListView(View):
    """A page of sessions, the last used first."""

    items: list[SessionView]
    next_cursor: str | None


def create(call: Call[NoQuery, SessionRequest]) -> Response:
    """Begin a session; the same key and body find the same session again."""
    body, program = call.body, _program(call.context.settings, call.body.program)
    params = checked(program.params, body.params, "params")
    session = NewSession(
        id=new_id(),
        program=program.name,
        title=body.title,
        params=params.model_dump(mode="json"),
        caller=call.caller,
        idempotency_key=idempotency_key(call),
        request_hash=call.digest,
    )
    turn = None if body.message is None else _turn(call, session.id, program, body.message, "message.")
    made, new = call.store.create_session(session, turn)
    if turn is not None and new:
        call.made(turn.id)
        call.traced(turn)
    headers = {"Location": f"/api/sessions/{made.id}"}
    return answer(session_view(made), 201, headers) if new else answer(session_view(made))


def list_(call: Call[SessionListQuery, None]) -> Response:
    """Sessions, the last used first."""
    query, secret = call.query, call.context.secret
    before = None if query.cursor is None else seq_at(query.cursor, secret)
    found = call.store.sessions(limit=query.limit + 1, before_place=before)
    page = found[: query.limit]
    cursor = signed(page[-1].place, secret) if len(found) > query.limit else None
    return answer(SessionListView(items=[session_view(one) for one in page], next_cursor=cursor))


def show(call: Call[SessionQuery, None]) -> Response:
    """A session with its newest messages, or with those after or before one."""
    session, query = _session(call), call.query
    found = call.store.messages(session.id, limit=query.limit + 1, after=query.after, before=query.before)
    more = len(found) > query.limit
    shown = found[: query.limit] if query.after is not None else found[-query.limit :]
    view = SessionDetailView(**dict(session_view(session)), messages=_message_views(shown), more=more)
    return answer(view, headers={"Cache-Control": "private, no-cache"})


def send(call: Call[NoQuery, MessageRequest]) -> Response:
    """Say something: a new turn, unless one is at work."""
    session = _session(call)
    program = _program(call.context.settings, session.program)
    turn = _turn(call, session.id, program, call.body, "", key=idempotency_key(call))
    job, new = call.store.create([turn])
    call.made(job.id)
    if new:
        call.traced(job)
    return answer(job_view(job), 201, {"Location": f"/api/jobs/{job.id}"}) if new else answer(job_view(job))


def session_view(session: Session) -> SessionView:
    """The session as clients see it."""
    turn, status = session.turn, session.status
    failed = turn is not None and turn.error is not None and status is SessionStatus.ERROR
    return SessionView(
        id=session.id,
        program=session.program,
        title=session.title,
        status=status,
        cancelling=turn is not None and turn.cancelling,
        params=session.params,
        active_job_id=turn.job_id if turn is not None and status is SessionStatus.PROCESSING else None,
        last_job_id=None if turn is None else turn.job_id,
        error=ErrorView(**turn.error) if turn is not None and turn.error is not None and failed else None,
        children=None if turn is None or not turn.parts else _parts(turn),
        preview=_message_views(session.preview),
        created_at=iso(session.created_at),
        updated_at=iso(session.updated_at if turn is None else max(session.updated_at, turn.updated_at)),
        poll_after_ms=_POLL_MS.get(status, 5000),
    )


def _message_views(messages: Sequence[Message]) -> list[MessageView]:
    return [
        MessageView(
            id=one.id,
            role=one.role,
            text=one.text,
            at=iso(one.at),
            job_id=one.job_id,
            assets=[AttachmentView(**asset) for asset in one.assets],
            parts=one.parts,
        )
        for one in messages
    ]


def _parts(turn: Turn) -> ChildrenView:
    return ChildrenView(total=turn.parts, done=turn.parts_done, failed=turn.parts_failed)


def _session(call: Call[Any, Any]) -> Session:
    session = call.store.session(call.id)
    if session is None:
        raise NotFound(f"There is no session {call.id}; it may have been deleted after its retention time.")
    return session


def _program(settings: Settings, name: str) -> Program:
    program = settings.registered.get(f"agent:{name}")
    if program is None:
        known = ", ".join(one.name for one in settings.registered.values() if one.kind == "agent")
        sentence = f"choose one of {known}" if known else "none is registered (SPOOL_PROGRAMS)"
        raise invalid([FieldError("program", f"there is no agent {name!r}; {sentence}")])
    return program


def _turn(
    call: Call[Any, Any], session_id: str, program: Program, message: MessageRequest, at: str, *, key: str | None = None
) -> NewJob:
    wanted = {asset: f"{at}assets.{index}" for index, asset in enumerate(message.assets)}
    uploads = ready_uploads(wanted, call.store, call.storage, call.caller)
    kind = program.job_type
    return NewJob(
        id=new_id(),
        type=kind.name,
        name=program.title,
        params={
            "text": message.text,
            "assets": [{"asset": asset, "filename": uploads[asset].filename} for asset in wanted],
        },
        max_failures=kind.max_failures,
        timeout_s=kind.timeout_s,
        caller=call.caller,
        session_id=session_id,
        idempotency_key=key,
        request_hash=f"{session_id} {call.digest}" if key else None,
    )
