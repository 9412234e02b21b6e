"""What the machine chooses from: workers, ends, families, moments."""

from __future__ import annotations

from hypothesis import strategies as st

from shared.job import (
    PHASES,
    Failure,
    Outcome,
    Output,
    Progress,
)
from shared.store.values import Worker

#: Time moves in steps of 40 s, and everything that ends after a while ends 20 s from a multiple of that, so that the
#: real seconds that a run takes decide nothing.
STEPS_S = (40, 80, 200, 4000)
LEASE_S = 100.0
SOON_MS = 60_000
#: Of the root alone: what comes first when several levels run out of time at one moment is not promised.
TIMEOUTS_S = (1020.0, 1e6)
RETENTION_S = 3620.0

WORKERS = {
    worker.id: worker
    for worker in (
        Worker("w1", "here", "0", ("ingest",), 2),
        Worker("w2", "there", "0", ("ingest", "render"), 4),
        Worker("w3", "there", "1", ("render",), 1),
    )
}
OUTCOMES = {
    "done": Outcome("completed", {"media_ms": 7}, (Output("a.mp3", "outputs/a", "audio/mpeg", 3, "00"),)),
    "bare": Outcome("completed"),
    "full": Outcome("failed", failure=Failure("out_of_disk", "transient", "The disk is full.", "encoding")),
    "late": Outcome("failed", failure=Failure("timeout", "timeout", "It took too long.", "encoding")),
    "bad": Outcome("failed", failure=Failure("bad_input", "permanent", "The file is empty.", "analyzing")),
    "stopped": Outcome("cancelled"),
}

types = st.sampled_from(("ingest", "ingest", "render"))
priorities = st.sampled_from((0, 0, 0, 5, -5))
phases = st.sampled_from(PHASES)
workers = st.sampled_from(sorted(WORKERS))
failures = st.sampled_from((1, 2, 3))
twice = st.booleans()
progresses = st.sampled_from(
    (Progress(), Progress("encoding", 3, 5, 12.5, 1, 8), Progress("uploading", 4, 5, 75.0, 6, 8))
)
#: Line numbers of one report: the last numbers are sent again, as after a lost reply.
numbers = st.sampled_from(((), (1,), (1, 2), (2, 3), (1, 2, 3, 4), (7,)))
#: A family as (parent, phase, own work) per child: the parent is the root, the child before, or any of those before.
shapes = st.lists(st.tuples(st.sampled_from((0, 0, -1, -1, 1, 2)), phases, st.booleans()), min_size=1, max_size=6)
#: How long nothing happens before a janitor comes by.
pauses = st.sampled_from((0, 0, *STEPS_S))
