"""Statements that show the queue at a glance: counts, ages, the tally, the workers, the clock."""

from __future__ import annotations

from shared.store.statements.parts import HELD, NOW

UNFINISHED = f"""
SELECT type, status, COUNT(*) AS jobs FROM (
  SELECT * FROM (SELECT type, 'pending' AS status FROM job INDEXED BY job_pending WHERE status = 'pending' LIMIT :most)
  UNION ALL SELECT type, 'running' FROM job INDEXED BY job_running WHERE status = 'running'
  UNION ALL SELECT * FROM (SELECT type, status FROM job INDEXED BY job_held WHERE status IN {HELD} LIMIT :most))
GROUP BY type, status
"""
OLDEST_PENDING = f"""
SELECT MIN(created_at) AS at, {NOW} AS now FROM json_each(:types) AS k JOIN job AS j
ON j.seq = (SELECT seq FROM job WHERE status = 'pending' AND type = k.value ORDER BY priority DESC, seq LIMIT 1)
"""
TALLIES = f"SELECT * FROM tally WHERE hour > {NOW} / 3600000 - :hours ORDER BY hour, type, status"
#: With what each is at; a claim that has not begun its first stage has none.
WORKERS = f"""
SELECT w.*, (SELECT json_group_array(json_object('id', id, 'type', type, 'stage', stage,
    'title', COALESCE(params ->> 'title', name, child_key))) FROM (
  SELECT * FROM job INDEXED BY job_running WHERE worker_id = w.id AND status = 'running' ORDER BY seq)) AS jobs
FROM worker AS w WHERE w.seen_at > {NOW} - 600000 ORDER BY w.started_at
"""
CLOCK = f"SELECT {NOW} AS now"
#: With how far it was ahead of the hosts of those who own jobs, at the least, when each was heard of last.
CLOCKS = f"""
SELECT {NOW} AS now, MIN(seen_at - json_extract(metrics, '$.host_ms')) AS ahead FROM worker
WHERE id IN (SELECT worker_id FROM job WHERE status = 'running')
"""
