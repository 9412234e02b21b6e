"""Agents on a test stand: a queue, a worker that runs registered programs, and the person who talks to them."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shared.job import Job, NewJob, new_id
from shared.session import Message, NewSession, Session, SessionStatus
from shared.storage.local import LocalStorage
from shared.store.hrana import Hrana
from shared.store.local import LocalJobStore
from shared.store.sql import SqlJobStore
from shared.store.turso import TursoJobStore
from shared.store.values import Asset
from tests.real.sqld import Sqld
from tests.worker.stand import ENGINE, PATIENCE_S, settings_for, until
from worker.ffmpeg import Engine
from worker.loop import Worker
from worker.pipelines import pipelines
from worker.pool import Pools
from worker.programs import programs_here

#: What every program of these tests begins with.
OPENING = {
    "agent": "import json, os, sys, time\nfrom spool_program import Refused, Turn\nturn = Turn.begin()\n",
    "workflow": "import json, os, signal, subprocess, sys, time\nfrom spool_program import serve\n",
}


@contextmanager
def queue_on(database: str, folder: Path) -> Iterator[SqlJobStore]:
    """A queue on one of the databases, `sqlite` or `libsql`."""
    if database == "sqlite":
        yield LocalJobStore(folder / "spool.db")
    else:
        with Sqld(folder / "sqld") as server:
            yield TursoJobStore(Hrana(server.url))


class Talk:
    """A person, a worker with a program named `echo` (with `everything` also all other jobs), and what they say."""

    def __init__(
        self,
        folder: Path,
        *,
        program: str | None = None,
        engine: Engine = ENGINE,
        everything: bool = False,
        registered: Path | None = None,
        only: Container[str] = ("echo",),
        store: SqlJobStore | None = None,
        **about: Any,
    ) -> None:
        self.folder = folder
        self.registered = registered or folder / "programs.toml"
        command = about.pop("command", ["{python}", "echo.py"])
        settings = {name: about.pop(name) for name in ("slots", "heartbeat_s", "lease_s") if name in about}
        self._opening = OPENING[about.get("kind", "agent")]
        self.write(program or "turn.say(turn.text)\nturn.finish()")
        table = {"kind": "agent", "title": "Echo", "command": command} | about
        lines = [f"{name} = {_toml(value)}" for name, value in table.items()]
        if registered is None:
            self.registered.write_text("\n".join(["[programs.echo]", *lines]))
        self.settings = settings_for(folder, programs=self.registered, **settings)
        self.store = store or LocalJobStore(folder / "spool.db")
        self.store.migrate()
        self.storage = LocalStorage(folder / "storage", b"secret")
        here = programs_here(self.settings)
        programs = {name: one for name, one in here.items() if one.name in only}
        pools = Pools(programs, self.settings, engine)
        offered = pipelines(programs, pools)
        self.worker = Worker(
            self.store,
            self.storage,
            engine,
            self.settings,
            {name: one for name, one in offered.items() if everything or ":" in name},
            pools=pools,
            worker_id=new_id(),
            host=socket.gethostname(),
            version="0",
            new_token=new_id,
            job_types=self.settings.job_types,
        )
        self._thread = threading.Thread(target=self.worker.run)

    def write(self, program: str) -> None:
        """What the program does from now on."""
        (self.folder / "echo.py").write_text(self._opening + program)

    def start(self) -> Talk:
        """Let the worker begin."""
        self._thread.start()
        return self

    def close(self) -> None:
        """End the worker, whatever it is at."""
        if self._thread.is_alive():
            self.worker.drain()
            self.worker.drain()
            self._thread.join(PATIENCE_S)
            assert not self._thread.is_alive()
        self.store.close()

    def begin(self, **params: Any) -> str:
        """A new session's id."""
        about = NewSession(id=new_id(), program="echo", title=None, params=params, caller="local")
        return self.store.create_session(about)[0].id

    def say(self, session: str, text: str, *assets: Asset, **fields: Any) -> Job:
        """A turn that waits for a worker."""
        named = [{"asset": asset.id, "filename": asset.filename} for asset in assets]
        params = {"text": text, "assets": named}
        return self.store.create(
            [NewJob(**{"id": new_id(), "type": "agent:echo", "params": params, "session_id": session} | fields)]
        )[0]

    def submit(self, **params: Any) -> Job:
        """A job for a workflow."""
        return self.store.create([NewJob(id=new_id(), type="workflow:echo", params=params)])[0]

    def ended(self, job: Job) -> Job:
        """The turn, when it has ended."""
        return until(self.store, job, lambda found: found.terminal)

    def ask(self, session: str, text: str, *assets: Asset) -> list[str]:
        """What is answered to a message."""
        job = self.ended(self.say(session, text, *assets))
        said = self.messages(session)
        return [one.text for one in said if one.job_id == job.id and one.role == "assistant"]

    def messages(self, session: str) -> list[Message]:
        """All that was said."""
        return list(self.store.messages(session, limit=500))

    def session(self, session: str) -> Session:
        """The session as it is now."""
        found = self.store.session(session)
        assert found is not None
        return found

    def status(self, session: str) -> SessionStatus:
        """How it stands."""
        return self.session(session).status

    def log(self, job: Job) -> list[str]:
        """The lines of a turn's log."""
        return [event.message for event in self.store.events(job.id) if event.kind == "log"]

    def upload(self, path: Path) -> Asset:
        """A file that was sent."""
        asset = Asset(
            id=new_id(),
            owner="local",
            filename=path.name,
            content_type="audio/wav",
            size_bytes=path.stat().st_size,
            state="uploading",
        )
        self.store.add_asset(asset)
        self.storage.put(path, asset.key, content_type=asset.content_type, progress=lambda _done, _total: None)
        return self.store.asset_ready(asset.id, sha256=None)

    def until_said(self, session: str, wanted: Callable[[list[Message]], bool]) -> list[Message]:
        """Wait until what was said is as wanted."""
        job = self.session(session).turn
        assert job is not None
        found: list[Message] = []

        def looked(_: Job) -> bool:
            found[:] = self.messages(session)
            return wanted(found)

        waited = self.store.get(job.job_id)
        assert waited is not None
        until(self.store, waited, looked)
        return found


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_toml(inner)}" for name, inner in value.items()) + " }"
    return json.dumps(value)
