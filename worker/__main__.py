"""`python -m worker`: the only place where the worker's parts are put together."""

from __future__ import annotations

import importlib.metadata
import signal
import socket
import sys

from shared import crash
from shared.errors import ConfigurationError, Unavailable
from shared.job import new_id
from shared.log import configure_log
from shared.misspelt import warn_of_misspelt
from shared.settings import load_settings
from shared.storage import get_storage
from shared.store import get_job_store
from shared.traces import spans_for
from worker.ffmpeg import find_engine
from worker.heap import share_one_heap
from worker.loop import Worker
from worker.pool import Pools
from worker.programs import programs_here


def main() -> int:
    """Work until SIGTERM or SIGINT; the exit code: 0 drained, 1 a job did not stop, 2 wrong settings, 3 no database."""
    share_one_heap()
    try:
        settings = load_settings()
        worker_id = new_id()
        configure_log(settings, worker=worker_id)
        warn_of_misspelt()
        crash.arm(settings)
        store = get_job_store(settings)
        store.migrate()
        engine = find_engine(settings)
        from worker.pipelines import pipelines  # noqa: PLC0415 - numpy and PyAV are not needed to say what is wrong

        programs = programs_here(settings)
        pools = Pools(programs, settings, engine)
        worker = Worker(
            store,
            get_storage(settings),
            engine,
            settings,
            pipelines(programs, pools),
            pools=pools,
            job_types=settings.job_types,
            worker_id=worker_id,
            host=socket.gethostname(),
            version=importlib.metadata.version("spool"),
            new_token=new_id,
            spans=spans_for(settings, "spool-worker"),
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: worker.drain())
        code = worker.run()
    except ConfigurationError as error:
        sys.stderr.write(f"The worker cannot start: {error.message}\n")
        return 2
    except Unavailable as error:  # only while starting: from then on every thread waits for the database by itself
        sys.stderr.write(f"The worker cannot start now: {error.message} Start it again when that is mended.\n")
        return 3
    for number in (signal.SIGTERM, signal.SIGINT):
        # One more while Python ends would kill it and look like a failure: Python gives up its handlers first.
        signal.signal(number, signal.SIG_IGN)
    return code


if __name__ == "__main__":
    sys.exit(main())
