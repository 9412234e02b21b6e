"""Statements that deliver webhooks. A sender carries the number of its try, and is refused once another took over."""

from __future__ import annotations

from shared.store.statements.parts import NOW

_JOB = """json_object('id', j.id, 'type', j.type, 'name', j.name, 'status', j.status, 'parent_id', j.parent_id,
  'retry_of', j.retry_of, 'tags', json(j.tags), 'attempt', j.attempt, 'result', json(j.result), 'error', json(j.error),
  'outputs', json(j.outputs), 'created_at', j.created_at, 'started_at', j.started_at, 'completed_at', j.completed_at)"""
CLAIM = f"""
UPDATE webhook SET leased = 1, attempts = attempts + 1, due_at = {NOW} + :lease
WHERE job_id IN (SELECT job_id FROM webhook WHERE due_at <= {NOW} ORDER BY due_at LIMIT :limit)
RETURNING job_id, url, attempts,
  (SELECT {_JOB} FROM job AS j WHERE j.id = webhook.job_id) AS job,
  EXISTS (SELECT 1 FROM webhook_gone AS g WHERE g.url = webhook.url AND g.gone_until > {NOW}) AS gone
"""
_MINE = "w.job_id = s.value ->> 'job_id' AND w.attempts = s.value ->> 'attempts' AND w.leased = 1"
TOLD = f"""
INSERT INTO event (job_id, attempt, at, level, kind, message, data)
SELECT j.id, j.attempt, {NOW}, s.value ->> 'level', 'log', s.value ->> 'message', s.value -> 'data'
FROM json_each(:sent) AS s CROSS JOIN webhook AS w ON {_MINE} CROSS JOIN job AS j ON j.id = w.job_id
"""
GONE = f"""
INSERT INTO webhook_gone (url, gone_until)
SELECT w.url, {NOW} + :disabled FROM json_each(:sent) AS s CROSS JOIN webhook AS w ON {_MINE}
WHERE s.value ->> 'gone'
ON CONFLICT (url) DO UPDATE SET gone_until = excluded.gone_until
"""
AGAIN = f"""
UPDATE webhook AS w SET leased = 0, due_at = {NOW} + (s.value ->> 'after_ms')
FROM json_each(:sent) AS s WHERE {_MINE} AND s.value ->> 'after_ms' IS NOT NULL
"""
DONE = f"""
DELETE FROM webhook AS w WHERE EXISTS (
  SELECT 1 FROM json_each(:sent) AS s WHERE {_MINE} AND s.value ->> 'after_ms' IS NULL)
  AND w.job_id IN (SELECT value ->> 'job_id' FROM json_each(:sent))
"""
FORGET_GONE = f"DELETE FROM webhook_gone WHERE gone_until < {NOW}"
PRUNE = "DELETE FROM webhook WHERE job_id IN (SELECT value FROM json_each(:ids))"
