"""What a running job asks of the queue under its own claim: children, what others have made, what was seen before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from shared.errors import ClaimLost, JobFailure, Unavailable
from shared.job import Job, NewJob, Output, Phase, new_id
from shared.references import output_of, reference
from shared.session import Message, Session
from shared.settings import Settings
from shared.store.protocol import JobStore
from shared.store.values import Feed, Visit
from shared.types import JOB_TYPES
from worker.stop import Reason, Stop

_PAUSE_S = 1.0
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Child:
    """A child as a pipeline asks for it. `key` names it among its siblings, so that a second attempt adds it once;
    `once` names what it takes care of, which no other parent may."""

    key: str
    type: str
    params: dict[str, Any]
    name: str | None = None
    phase: Phase = "core"
    once: str | None = None


class Children:
    """The queue as one running job sees it. All of it waits for an absent database."""

    def __init__(self, store: JobStore, job: Job, settings: Settings, stop: Stop) -> None:
        self._store, self._job, self._settings, self._stop = store, job, settings, stop

    def add(self, children: Sequence[Child], visit: Visit | None = None) -> Sequence[Job]:
        """Add them, all in one transaction; returns those that are there now. Raises `Stopped`, also for a lost claim.

        They have the parent's caller, priority and tags.
        """
        new = [self._new(child) for child in children]
        return self._answer(lambda: self._store.add_children(self._job.claim, new, visit=visit))

    def there(self) -> dict[str, Job]:
        """Those that earlier attempts have added, by their keys."""
        if self._job.attempt == 1:
            return {}
        found = self._answer(lambda: self._store.children(self._job.id))
        return {child.child_key: child for child in found if child.child_key is not None}

    def outputs(self, sources: Sequence[str]) -> dict[str, Output]:
        """The files of other jobs that sources name, siblings' among them, in one round trip; in none for nothing.

        Raises `JobFailure` with why there is none.
        """
        try:
            named = {source: reference(source) for source in sources}
            if not named:
                return {}
            jobs, keys = ([one.key for one in named.values() if one.to == to] for to in ("job", "child"))
            there = self._answer(lambda: self._store.inputs(self._job.claim, jobs, keys))
            return {
                source: output_of(one, (there.jobs if one.to == "job" else there.children).get(one.key))
                for source, one in named.items()
            }
        except (ValueError, LookupError) as error:
            raise JobFailure("bad_input.missing", f"A source cannot be read: {error}.") from None

    def feed(self, url: str) -> Feed | None:
        """What was said of a source when it was last read."""
        return self._answer(lambda: self._store.feed(self._job.caller, url))

    def seen(self, items: Sequence[str]) -> frozenset[str]:
        """Those of the items that were taken before, or passed over."""
        return self._answer(lambda: self._store.seen(self._job.caller, items))

    def conversation(self, session_id: str, most: int) -> tuple[Session, Sequence[Message]]:
        """The session that the job is a turn of, and the newest that was said in it, oldest first."""
        found = self._answer(lambda: self._store.session(session_id))
        if found is None:
            raise JobFailure("program.no_session", "The session was deleted; begin a new one.")
        return found, self._answer(lambda: self._store.messages(session_id, limit=most))

    def _new(self, child: Child) -> NewJob:
        kind = JOB_TYPES[child.type]
        params = kind.params.model_validate(child.params)
        return NewJob(
            id=new_id(),
            type=child.type,
            name=child.name,
            params=params.model_dump(mode="json", exclude_unset=True),
            own_work=bool(kind.stages),
            priority=self._job.priority,
            max_failures=kind.max_failures,
            timeout_s=self._settings.timeout_s(child.type),
            parent_id=self._job.id,
            phase=child.phase,
            child_key=child.key,
            on_child_failure=kind.on_child_failure,
            tags=self._job.tags,
            caller=self._job.caller,
            once=child.once,
        )

    def _answer(self, ask: Callable[[], _Answer]) -> _Answer:
        while True:
            self._stop.check()
            try:
                return ask()
            except Unavailable:
                self._stop.wait(_PAUSE_S)
            except ClaimLost:
                self._stop.request(Reason.LOST)
