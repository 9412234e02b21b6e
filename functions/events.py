"""Live updates as Server-Sent Events: a stream where the host can, the next batch at once where it cannot.

Messages: `hello` (the stream stands here), `event` (a line of history, with its id), `job` (what changed in a running
job), `reset` (too much was missed; read the lists again). A browser resumes by itself with `Last-Event-ID`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from functools import partial
from time import monotonic

from starlette.responses import Response, StreamingResponse

from functions.answers import LONGEST_S
from functions.call import Call
from functions.feed import Message, event_message, live_row
from functions.models import LiveQuery
from functions.problems import invalid
from functions.threads import in_thread
from shared.errors import FieldError
from shared.store.protocol import JobStore

#: How much history a viewer that comes back may catch up with.
_MAX_CATCH_UP = 5000
_PAGE = 500
_KEEP_ALIVE_S = 15.0
_RETRY_MS = 2000


async def live(call: Call[LiveQuery, None]) -> Response:
    """Everything that happens to all jobs, or to one."""
    after = _resume_after(call)
    if call.context.streams and call.request.method == "GET":
        return _stream_of(_stream(call, after))
    key, read = ("batch", call.query.job, after), partial(_batch, call.store, call.query.job, after)
    return _stream_of(await call.context.answers.get(key, _RETRY_MS / 1000, partial(in_thread, read)))


def _stream_of(body: AsyncIterator[str] | str) -> Response:
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    if isinstance(body, str):
        return Response(body, headers=headers, media_type="text/event-stream")
    return StreamingResponse(body, headers=headers, media_type="text/event-stream")


def _resume_after(call: Call[LiveQuery, None]) -> int | None:
    last = call.request.headers.get("last-event-id")
    if last is None:
        return call.query.after
    if not last.isascii() or not last.isdigit() or len(last) > 18:
        raise invalid([FieldError("Last-Event-ID", "must be the id of a message received before")])
    return int(last)


async def _stream(call: Call[LiveQuery, None], after: int | None) -> AsyncIterator[str]:
    feed, job_id = call.context.feed, call.query.job
    seen = 0
    with feed.viewer() as viewer:
        yield f"retry: {_RETRY_MS}\n\n"
        told = asked = monotonic()
        while not feed.closed and not viewer.behind:
            await viewer.wait(_KEEP_ALIVE_S)
            text = ""
            for message in viewer.take():
                if message.kind == "hello":
                    missed = await _shared(call, after, message.id or 0)
                    text += "".join(map(_text, missed))
                    seen = missed[-1].id or 0
                elif job_id in {None, message.job_id} and (message.id is None or message.id > seen):
                    text += _text(message)
            if monotonic() - asked >= _KEEP_ALIVE_S:
                asked = monotonic()
                if not await in_thread(partial(call.context.access.still, call.who)):
                    return
            if text or monotonic() - told >= _KEEP_ALIVE_S:
                told = monotonic()
                yield text or ": still here\n\n"


async def _shared(call: Call[LiveQuery, None], after: int | None, newest: int) -> list[Message]:
    """When a server comes back, all pages that were open ask for the same."""
    key = ("missed", call.query.job, after, newest)
    read = partial(_missed, call.store, call.query.job, after, newest)
    return await call.context.answers.get(key, LONGEST_S, partial(in_thread, read))


def _batch(store: JobStore, job_id: str | None, after: int | None) -> str:
    """What there is now, in one piece; the client comes back after `retry` with the last id."""
    messages = _missed(store, job_id, after, store.last_event_id())
    rows = [Message("job", job.id, live_row(job)) for job in store.running() if job_id in {None, job.id}]
    return f"retry: {_RETRY_MS}\n\n" + "".join(map(_text, [*messages, *rows]))


def _missed(store: JobStore, job_id: str | None, after: int | None, newest: int) -> list[Message]:
    """What happened since `after`, then where the stream stands now; at least one message, the last one has an id."""
    hello = Message("hello", "", {}, newest)
    if after is None:
        return [hello]
    if after > newest:  # an id of another database: what the client knows is not what is here
        return [Message("reset", "", {}, newest)]
    messages: list[Message] = []
    while page := store.events(job_id, after=after, limit=_PAGE):
        messages += map(event_message, page)
        after = page[-1].id
        if len(messages) > _MAX_CATCH_UP:
            return [Message("reset", "", {}, store.last_event_id())]
    return [*messages, Message("hello", "", {}, max(newest, after))]


def _text(message: Message) -> str:
    """One message as Server-Sent Events write it."""
    number = "" if message.id is None else f"id: {message.id}\n"
    return f"{number}event: {message.kind}\ndata: {json.dumps(message.data, ensure_ascii=False)}\n\n"
