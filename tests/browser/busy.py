"""A queue in which a lot is going on, for pictures: jobs that wait, run, ended and were given up, and their workers."""

from __future__ import annotations

from shared.job import Claim, Failure, Outcome, Progress, new_id
from shared.store.sql import Statement
from shared.store.values import Beat, ClaimRequest, Worker
from tests.browser.conftest import Spool

_TYPES = ("edit", "ingest", "render", "report", "thumbnail")
NEAR = Worker(id=new_id(), host="studio-1", version="0.1.0", types=_TYPES, slots=4)
FAR = Worker(id=new_id(), host="render-eu", version="0.1.0", types=_TYPES, slots=2)
_DONE = {"before": {"integrated_lufs": -24.6}, "after": {"mp3": {"integrated_lufs": -16.0}}}
_HUNG_UP = Failure("network", "transient", "The server of this link hung up in the middle of the file.", "downloading")
_NO_ROOM = Failure("out_of_disk", "transient", "The disk is full; free some space.", "encoding")
#: A day before this hour: it was quiet at night, and one hour went badly.
_PAST = """
INSERT INTO tally SELECT t.hour - k.value, t.type, t.status,
  CASE WHEN t.status = 'completed' THEN 4 + (k.value * 7) % 23 ELSE 1 + 5 * (k.value = 6) END,
  t.wait_ms, t.run_ms, t.media_ms, t.wait_log2, t.run_log2
FROM tally AS t JOIN json_each('[1,2,3,4,5,6,7,8,9,15,16,17,18,19,20,21,22,23]') AS k
WHERE t.type = 'ingest' AND (t.status = 'completed' OR k.value IN (3, 6, 16))
"""


def busy_queue(spool: Spool) -> list[Claim]:
    """Fill it; returns the jobs that run."""
    for number in range(1, 9):
        _end(spool, f"Episode {number}", Outcome("completed", result=_DONE))
    for number, failure in enumerate((_HUNG_UP, _HUNG_UP, _HUNG_UP, _NO_ROOM), 9):
        _end(spool, f"Episode {number}", Outcome("failed", failure=failure), max_failures=1)
    spool.store._run([Statement("UPDATE tally SET run_ms = jobs * 95000"), Statement(_PAST)])
    owned = []
    for name in ("Two people talk", "Live at the harbour", "Field notes, part two"):
        _submit(spool, name)
        owned.append(_claim(spool))
    part = {"type": "ingest", "params": {"source": "https://example.org/voice.wav"}}
    children = [
        part | {"phase": phase, "child_key": key}
        for phase, key in (("core", "host"), ("core", "guest"), ("post", "mix"))
    ]
    spool.submit(type="flow", params={}, children=children, tags=["season 2"])
    owned.append(_claim(spool))
    for name in ("Trailer", "Bonus track", "Interview, raw"):
        _submit(spool, name)
    spool.store.steer("render", paused=True, max_running=None, limiting=False)
    return owned


def go_on(spool: Spool, owned: list[Claim]) -> None:
    """Both workers are heard of, and tell how far they are."""
    shares = (("encoding", 3, 62.0, 27.0), ("analyzing", 1, 35.0, 80.0), ("downloading", 0, None, None))
    beats = [
        Beat(claim, Progress(stage, index, 5, share, None, None, left))
        for claim, (stage, index, share, left) in zip(owned, (*shares, shares[1]), strict=True)
    ]
    spool.store.heartbeat(NEAR, beats, lease_s=600)
    spool.store.heartbeat(FAR, [], lease_s=600)


def _submit(spool: Spool, name: str, **fields: object) -> None:
    spool.submit(params={"source": f"https://example.org/{name}.wav".replace(" ", "%20"), "title": name}, **fields)


def _claim(spool: Spool) -> Claim:
    job = spool.store.claim(ClaimRequest(NEAR, new_id(), 600))
    assert job is not None
    return job.claim


def _end(spool: Spool, name: str, outcome: Outcome, **fields: object) -> None:
    _submit(spool, name, **fields)
    spool.store.finish(_claim(spool), outcome)
