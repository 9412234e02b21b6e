"""What must hold between the rows of a queue, as statements that name every row for which it does not.

The database holds to all of it by itself; these find what a broken disk or a hand in the tables has left.
"""

from __future__ import annotations

from shared.store.statements.parts import HELD

_MOST = 20
CHECKS = (
    f"""
SELECT 'job ' || c.id || ' belongs to a job that is not there' AS wrong
FROM job AS c INDEXED BY job_child WHERE c.parent_id IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM job AS p WHERE p.id = c.parent_id) LIMIT {_MOST}
""",
    f"""
SELECT 'job ' || id || ' runs and has no owner' AS wrong FROM job INDEXED BY job_running
WHERE status = 'running' AND (worker_id IS NULL OR lease_until IS NULL) LIMIT {_MOST}
""",
    f"""
SELECT 'job ' || p.id || ' waits for children that have ended' AS wrong
FROM job AS p INDEXED BY job_held WHERE p.status IN {HELD} AND p.status = 'waiting_children'
  AND p.pre_left + p.core_left + p.post_left <> (
  SELECT COUNT(*) FROM job AS c WHERE c.parent_id = p.id
    AND c.status NOT IN ('completed', 'failed', 'dead_letter', 'cancelled')) LIMIT {_MOST}
""",
    f"""
SELECT 'the limit of ' || s.type || ' counts ' || s.running || ' running jobs, and there are others' AS wrong
FROM steering AS s WHERE s.running <> (
  SELECT COUNT(*) FROM job INDEXED BY job_running WHERE status = 'running' AND type = s.type) LIMIT {_MOST}
""",
    f"""
SELECT 'the history of job ' || j.id || ' does not end as it did' AS wrong
FROM job AS j INDEXED BY job_bad WHERE j.status IN ('failed', 'dead_letter') AND j.status <> (
  SELECT message FROM event WHERE job_id = j.id AND kind = 'state' ORDER BY id DESC LIMIT 1) LIMIT {_MOST}
""",
)
