"""Statements of workers: claims, heartbeats, and the ends of attempts. Each write of an owner carries its fence."""

from __future__ import annotations

from shared.store.statements.parts import BACKOFF, CANCELLED, LEFT, NOW, OWNED

#: Of the types that a worker runs, those that are neither paused nor at their limit.
_OPEN_TYPES = """json_each(:types) AS k WHERE NOT EXISTS (
  SELECT 1 FROM steering AS s WHERE s.type = k.value AND (s.paused_at IS NOT NULL OR s.running >= s.max_running))"""
CLAIMABLE = f"""
SELECT 1 FROM {_OPEN_TYPES} AND EXISTS (SELECT 1 FROM job WHERE status = 'pending' AND type = k.value)
UNION ALL SELECT 1 FROM (
  SELECT 1 FROM job WHERE status IN ('scheduled', 'retrying') AND run_at <= {NOW}
    AND type IN (SELECT k.value FROM {_OPEN_TYPES}) LIMIT 1)
UNION ALL SELECT 1 FROM job WHERE claim_token = :token
LIMIT 1
"""
#: Priority and number as one integer, so that MAX finds the first of several jobs without a sort, which costs reads.
_ROOM = 2**40
#: Only the due job that comes first, for the claim that follows it: moving all of them is left to the janitor.
PROMOTE_NEXT = f"""
UPDATE job SET status = 'pending', updated_at = {NOW}
WHERE seq = (
  SELECT -MAX(priority * {_ROOM} - seq) & ({_ROOM} - 1) FROM (
    SELECT priority, seq FROM job WHERE status IN ('scheduled', 'retrying') AND run_at <= {NOW}
      AND type IN (SELECT k.value FROM {_OPEN_TYPES})
      AND NOT EXISTS (SELECT 1 FROM job WHERE claim_token = :token)
    LIMIT 100))
"""
#: Where an attempt stands: nowhere at its start, and where it is when its claim arrives again.
_FRESH = ", ".join(
    f"{name} = CASE WHEN status <> 'pending' THEN {name} {start}END"
    for name, start in {
        "stage": "",
        "stage_index": "",
        "stage_count": "",
        "progress": "",
        "progress_current": "",
        "progress_total": "",
        "eta_s": "",
        "last_line": "ELSE 0 ",
    }.items()
)
#: Safe to repeat with the same token: the token finds its job again, and a late repeat finds nothing.
CLAIM = f"""
UPDATE job SET
  attempt = attempt + (status = 'pending'),
  status = 'running', claim_token = :token, worker_id = :worker, finish_token = NULL,
  {_FRESH}, error = NULL, result = NULL, run_at = NULL,
  started_at = COALESCE(started_at, {NOW}),
  updated_at = {NOW},
  lease_until = CASE WHEN status = 'pending' THEN {NOW} + :lease ELSE lease_until END
WHERE seq = COALESCE(
    (SELECT seq FROM job WHERE claim_token = :token),
    (SELECT -MAX((SELECT priority * {_ROOM} - seq FROM job
         WHERE status = 'pending' AND type = k.value ORDER BY priority DESC, seq LIMIT 1)) & ({_ROOM} - 1)
     FROM {_OPEN_TYPES}))
  AND ((status = 'pending' AND claim_token IS NOT :token)
    OR (status = 'running' AND claim_token = :token AND lease_until > {NOW}))
RETURNING *
"""
WORKER_SEEN = f"""
INSERT INTO worker (id, host, version, types, slots, running, metrics, started_at, seen_at)
VALUES (:worker, :host, :version, :types, :slots, :running, :metrics, {NOW}, {NOW})
ON CONFLICT (id) DO UPDATE SET running = excluded.running, metrics = excluded.metrics, seen_at = excluded.seen_at
"""
LEAVE = "DELETE FROM worker WHERE id = :worker"


def _lines(accepted: str) -> str:
    # Lines are numbered per attempt, so a repeat inserts nothing twice. Runs before `last_line` moves, and writes
    # nothing when the statement that moves it will refuse: the lines would come a second time.
    return f"""
INSERT INTO event (job_id, attempt, line, at, level, kind, message, data, session_id)
SELECT j.id, j.attempt, l.value ->> 'n', {NOW} - (l.value ->> 'age_ms'), l.value ->> 'level', l.value ->> 'kind',
  l.value ->> 'message',
  CASE WHEN l.value -> 'data' <> 'null' THEN l.value -> 'data' END,
  CASE WHEN l.value ->> 'kind' = 'message' THEN j.session_id END
FROM json_each(:beats) AS b
CROSS JOIN job AS j ON j.id = b.value ->> 'id' AND j.attempt = b.value ->> 'attempt'
  AND j.worker_id = :worker AND j.status = 'running'
CROSS JOIN json_each(b.value, '$.lines') AS l
WHERE l.value ->> 'n' > j.last_line AND {accepted}
"""


#: What a heartbeat brings, and what the end of an attempt brings.
LINES = _lines(f"j.lease_until > {NOW}")
LAST_LINES = _lines("(:word <> 'cancelled' OR j.cancel_requested_at IS NOT NULL)")
#: Renews leases that still hold, never one that ran out. The plus keeps SQLite from pairing every running job of the
#: worker with every beat: each beat looks up its own job.
HEARTBEAT = f"""
UPDATE job SET
  lease_until = {NOW} + :lease,
  updated_at = CASE WHEN stage IS NOT b.value ->> 'stage' OR progress_current IS NOT b.value ->> 'current'
    OR last_line < b.value ->> 'last_line' THEN {NOW} ELSE updated_at END,
  stage = b.value ->> 'stage', stage_index = b.value ->> 'stage_index', stage_count = b.value ->> 'stage_count',
  progress = b.value ->> 'percent', progress_current = b.value ->> 'current', progress_total = b.value ->> 'total',
  eta_s = b.value ->> 'eta_s', overall = MAX(overall, COALESCE(b.value ->> 'overall', 0.0)),
  last_line = MAX(last_line, b.value ->> 'last_line')
FROM json_each(:beats) AS b
WHERE job.id = b.value ->> 'id' AND job.attempt = b.value ->> 'attempt' AND +job.worker_id = :worker
  AND job.status = 'running' AND job.lease_until > {NOW}
RETURNING id, attempt, cancel_requested_at IS NOT NULL AS cancel
"""
#: Jobs that the worker claimed and does not work on (the reply was lost, say): back they go. One that is to be
#: cancelled loses its lease: the reaper ends it, since an end moves a family, which a heartbeat does not.
RELEASE_GIVEN_UP = f"""
UPDATE job SET
  status = CASE WHEN cancel_requested_at IS NULL THEN 'pending' ELSE status END,
  lease_until = MIN(lease_until, {NOW}),
  updated_at = {NOW}
WHERE claim_token IN (SELECT value FROM json_each(:given_up)) AND +worker_id = :worker AND status = 'running'
"""
CONTROL = """
SELECT id, attempt, cancel_requested_at IS NOT NULL AS cancel FROM job WHERE worker_id = :worker AND status = 'running'
"""
_RETRIES = ":retry AND failures + 1 < max_failures"
#: What an attempt's end makes of the job: its own word first, then a cancel that was asked for, then its children.
_END = f"""CASE
    WHEN :word = 'completed' AND {LEFT} = 0 AND child_error IS NULL THEN 'completed'
    WHEN :word = 'completed' AND {LEFT} > 0 THEN 'waiting_children'
    WHEN :word <> 'completed' AND cancel_requested_at IS NULL AND {_RETRIES} THEN 'retrying'
    WHEN {LEFT} > 0 THEN 'waiting_children'
    WHEN cancel_requested_at IS NOT NULL THEN 'cancelled'
    WHEN :retry THEN 'dead_letter'
    ELSE 'failed'
  END"""
_ENDED = f"({_END}) NOT IN ('retrying', 'waiting_children')"
FINISH = f"""
UPDATE job SET
  status = {_END},
  finish_token = :finish,
  result = :result,
  outputs = :outputs,
  error = CASE
    WHEN :word = 'completed' AND ({LEFT} > 0 OR child_error IS NULL) THEN NULL
    WHEN :word = 'completed' AND cancel_requested_at IS NULL THEN child_error
    WHEN cancel_requested_at IS NOT NULL THEN {CANCELLED}
    ELSE :error END,
  failures = failures + (:retry AND cancel_requested_at IS NULL),
  run_at = CASE WHEN ({_END}) = 'retrying' THEN {NOW} + {BACKOFF} END,
  stopping = CASE WHEN :word <> 'completed' AND ({_END}) = 'waiting_children' AND stopping = 0 THEN 1
    ELSE stopping END,
  stage = COALESCE(:stage, stage), stage_index = COALESCE(:stage_index, stage_index),
  stage_count = COALESCE(:stage_count, stage_count),
  progress = CASE WHEN :word = 'completed' THEN 100.0 ELSE COALESCE(:percent, progress) END,
  progress_current = COALESCE(:current, progress_current), progress_total = COALESCE(:total, progress_total),
  eta_s = NULL, overall = CASE WHEN ({_END}) = 'completed' THEN 100.0 ELSE MAX(overall, COALESCE(:overall, 0.0)) END,
  last_line = MAX(last_line, :last_line),
  completed_at = CASE WHEN {_ENDED} THEN {NOW} END,
  updated_at = {NOW}
WHERE {OWNED} AND (:word <> 'cancelled' OR cancel_requested_at IS NOT NULL)
"""
RELEASE = f"""
UPDATE job SET
  status = CASE WHEN cancel_requested_at IS NULL THEN 'pending' WHEN {LEFT} > 0 THEN 'waiting_children'
    ELSE 'cancelled' END,
  error = CASE WHEN cancel_requested_at IS NOT NULL AND {LEFT} = 0 THEN {CANCELLED} END,
  completed_at = CASE WHEN cancel_requested_at IS NOT NULL AND {LEFT} = 0 THEN {NOW} END,
  finish_token = :finish, eta_s = NULL, updated_at = {NOW}
WHERE {OWNED}
"""
OWNER = f"SELECT 1 FROM job WHERE {OWNED}"
CONFIRM = "SELECT * FROM job WHERE id = :id AND finish_token = :finish"
