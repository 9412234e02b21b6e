"""Statements by which people steer: one job, many jobs at once, and job types that rest or are limited."""

from __future__ import annotations

from shared.store.statements.parts import CANCELLED, HELD, LEFT, NOW, TERMINAL_LIST
from shared.store.statements.reading import MATCHES, PAGE

PATCH = f"""
UPDATE job SET
  priority = COALESCE(:priority, priority),
  tags = COALESCE(:tags, tags),
  run_at = COALESCE(:run_at, run_at),
  status = CASE WHEN :run_at IS NOT NULL THEN 'scheduled' ELSE status END,
  updated_at = {NOW}
WHERE id = :id AND status IN ('scheduled', 'waiting', 'pending', 'retrying')
  AND (:run_at IS NULL OR status <> 'waiting')
"""


def cancel(which: str) -> str:
    """Cancel these jobs: one without a live lease at once, a running one by asking its owner."""
    return f"""
UPDATE job SET
  cancel_requested_at = COALESCE(cancel_requested_at, {NOW}),
  stopping = CASE WHEN stopping = 0 AND {LEFT} > 0 THEN 1 ELSE stopping END,
  status = CASE
    WHEN status = 'waiting_children' OR (status = 'running' AND lease_until > {NOW}) THEN status
    WHEN status = 'running' AND {LEFT} > 0 THEN 'waiting_children' ELSE 'cancelled' END,
  error = CASE
    WHEN status = 'waiting_children' OR (status = 'running' AND (lease_until > {NOW} OR {LEFT} > 0)) THEN error
    ELSE {CANCELLED} END,
  completed_at = CASE
    WHEN status = 'waiting_children' OR (status = 'running' AND (lease_until > {NOW} OR {LEFT} > 0)) THEN NULL
    ELSE {NOW} END,
  updated_at = {NOW}
WHERE {which}
"""


CANCEL = cancel(f"id = :id AND status NOT IN {TERMINAL_LIST}")

#: Sets what is given: `paused` NULL leaves the pause as it is, `limiting` 0 the limit. Running jobs are counted anew.
STEER = f"""
INSERT INTO steering (type, paused_at, max_running, running)
VALUES (:type, CASE WHEN :paused THEN {NOW} END, :max_running,
  (SELECT COUNT(*) FROM job INDEXED BY job_running WHERE status = 'running' AND type = :type))
ON CONFLICT (type) DO UPDATE SET
  paused_at = CASE WHEN :paused IS NULL THEN paused_at WHEN :paused THEN COALESCE(paused_at, {NOW}) END,
  max_running = CASE WHEN :limiting THEN excluded.max_running ELSE max_running END,
  running = excluded.running
"""
LET_GO = "DELETE FROM steering WHERE type = :type AND paused_at IS NULL AND max_running IS NULL"
STEERED = "SELECT * FROM steering WHERE :type IS NULL OR type = :type ORDER BY type"

#: A batch of unfinished jobs that match. What was cancelled or asked to stop does not match again. Parents come before
#: their children, whose end would else be the parent's failure.
CANCEL_MATCHING = cancel(f"""seq IN (
  SELECT * FROM (SELECT seq FROM job INDEXED BY job_held
    WHERE status IN {HELD} AND cancel_requested_at IS NULL AND {MATCHES} LIMIT :limit)
  UNION ALL SELECT * FROM (SELECT seq FROM job INDEXED BY job_running
    WHERE status = 'running' AND cancel_requested_at IS NULL AND {MATCHES} LIMIT :limit)
  UNION ALL SELECT * FROM (SELECT seq FROM job INDEXED BY job_pending
    WHERE status = 'pending' AND type IN (SELECT value FROM json_each(:types)) AND {MATCHES} LIMIT :limit)
  LIMIT :limit)
RETURNING status""")

#: The whole families of the jobs that ended badly and match, each by its root, but for those that were run again.
FAMILIES_OF_BAD = f"""
WITH RECURSIVE bad AS ({PAGE["bad"]}),
  up(id, parent_id) AS (
    SELECT id, parent_id FROM bad UNION SELECT p.id, p.parent_id FROM up JOIN job AS p ON p.id = up.parent_id),
  down(root, id) AS (
    SELECT r.id, r.id FROM up CROSS JOIN job AS r ON r.id = up.id
    WHERE up.parent_id IS NULL AND r.status IN ('failed', 'dead_letter', 'cancelled')
      AND NOT EXISTS (SELECT 1 FROM job AS again WHERE again.retry_of = r.id)
    UNION ALL SELECT down.root, c.id FROM down JOIN job AS c ON c.parent_id = down.id)
SELECT down.root, j.* FROM down CROSS JOIN job AS j ON j.id = down.id ORDER BY down.root, j.seq
"""
THERE = "SELECT id FROM job WHERE id IN (SELECT value FROM json_each(:ids))"
