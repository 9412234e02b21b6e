"""Statements of the janitor: who was lost, and who is due."""

from __future__ import annotations

from shared.store.statements.parts import BACKOFF, CANCELLED, LEFT, NOW

PROMOTE = f"""
UPDATE job SET status = 'pending', updated_at = {NOW}
WHERE status IN ('scheduled', 'retrying') AND run_at <= {NOW}
"""
_REAP_RETRIES = "cancel_requested_at IS NULL AND failures + 1 < max_failures"
REAP = f"""
UPDATE job SET
  status = CASE WHEN {_REAP_RETRIES} THEN 'retrying' WHEN {LEFT} > 0 THEN 'waiting_children'
    WHEN cancel_requested_at IS NOT NULL THEN 'cancelled' ELSE 'dead_letter' END,
  error = CASE WHEN cancel_requested_at IS NOT NULL THEN {CANCELLED} ELSE
    json_object('code', 'worker_lost', 'kind', 'worker_lost', 'stage', stage, 'attempt', attempt, 'message',
      'The worker that ran this job stopped answering; it was taken away from it.') END,
  failures = failures + (cancel_requested_at IS NULL),
  run_at = CASE WHEN {_REAP_RETRIES} THEN {NOW} + {BACKOFF} END,
  stopping = CASE WHEN NOT ({_REAP_RETRIES}) AND {LEFT} > 0 AND stopping = 0 THEN 1 ELSE stopping END,
  completed_at = CASE WHEN NOT ({_REAP_RETRIES}) AND {LEFT} = 0 THEN {NOW} END,
  eta_s = NULL,
  updated_at = {NOW}
WHERE status = 'running' AND lease_until <= {NOW}
RETURNING *
"""
PARENT_TIMEOUT = f"""
UPDATE job SET
  stopping = 1,
  child_error = json_object('code', 'timeout', 'kind', 'timeout', 'stage', NULL, 'attempt', attempt, 'message',
    'The job and its children together took longer than ' || CAST(timeout_s AS INTEGER) || ' s; raise timeout_s.'),
  updated_at = {NOW}
WHERE status = 'waiting_children' AND stopping = 0
  AND created_at + CAST(timeout_s * 1000 AS INTEGER) <= {NOW}
"""
