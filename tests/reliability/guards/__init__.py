"""Each promise, the guard that keeps it, the fault that takes the guard out, and the test that must notice."""

from tests.reliability.guards import crashes, media, queue, worker

GUARDS = (*queue.GUARDS, *worker.GUARDS, *media.GUARDS, *crashes.GUARDS)
