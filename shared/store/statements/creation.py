"""Statements that create jobs."""

from __future__ import annotations

from shared.store.statements.parts import NOW, TERMINAL_LIST

#: One generation of new jobs as a JSON array. A child whose parent takes no more of its phase is left out, except one
#: that a retry carries over: its parent may be carried over too, and has ended then. Left out is also a child whose
#: item another parent has taken, and a job of a schedule whose time was taken for another.
INSERT = f"""
INSERT INTO job (id, type, name, status, priority, phase, parent_id, child_key, depth, retry_of, session_id, params,
  result, outputs, attempt, failures, max_failures, timeout_s, last_line, run_at, created_at, updated_at,
  completed_at, caller, idempotency_key, request_hash, webhook_url, tags, on_child_failure, own_work, open_phase,
  stopping, children_total, children_done, children_failed, pre_left, core_left, post_left, weight, overall)
SELECT v ->> 'id', v ->> 'type', v ->> 'name',
  CASE
    WHEN v ->> 'status' IS NOT NULL THEN v ->> 'status'
    WHEN p.id IS NOT NULL AND p.open_phase < v ->> 'phase_index' THEN 'waiting'
    WHEN NOT v ->> 'own_work' THEN 'waiting_children'
    WHEN v ->> 'run_at' > {NOW} THEN 'scheduled'
    ELSE 'pending'
  END,
  v ->> 'priority', v ->> 'phase', v ->> 'parent_id', v ->> 'child_key', COALESCE(p.depth + 1, 0), v ->> 'retry_of',
  v ->> 'session_id', v ->> 'params', v ->> 'result', v ->> 'outputs', 0, 0, v ->> 'max_failures',
  v ->> 'timeout_s', 0, v ->> 'run_at',
  {NOW}, {NOW}, CASE WHEN v ->> 'status' = 'completed' THEN {NOW} END, v ->> 'caller', v ->> 'idempotency_key',
  v ->> 'request_hash', v ->> 'webhook_url', v ->> 'tags', v ->> 'on_child_failure', v ->> 'own_work', -1, 0,
  0, 0, 0, 0, 0, 0, v ->> 'weight', CASE WHEN v ->> 'status' = 'completed' THEN 100.0 ELSE 0.0 END
FROM (SELECT value AS v, key AS place FROM json_each(:jobs)) LEFT JOIN job AS p ON p.id = v ->> 'parent_id'
WHERE (v ->> 'session_id' IS NULL OR EXISTS (SELECT 1 FROM session WHERE id = v ->> 'session_id')) AND (
  (v ->> 'parent_id' IS NULL AND (v ->> 'schedule' IS NULL OR EXISTS (
    SELECT 1 FROM schedule WHERE name = v ->> 'schedule' AND last_job_id = v ->> 'id'))) OR (
  v ->> 'status' = 'completed' AND v ->> 'retry_of' IS NOT NULL AND p.id IS NOT NULL) OR (
  p.status NOT IN {TERMINAL_LIST} AND p.stopping = 0 AND p.cancel_requested_at IS NULL
  AND p.open_phase <= v ->> 'phase_index' AND p.depth + 1 < :max_depth
  AND (:attempt IS NULL OR (p.attempt = :attempt AND p.worker_id = :worker AND p.status = 'running'))
  AND (v ->> 'once' IS NULL OR EXISTS (SELECT 1 FROM seen
    WHERE caller = v ->> 'caller' AND item = v ->> 'once' AND job_id = v ->> 'parent_id'))))
ORDER BY place
ON CONFLICT DO NOTHING
"""
BY_ID_OR_KEY = """
SELECT * FROM job WHERE id = :id
UNION ALL SELECT * FROM (SELECT * FROM job WHERE caller = :caller AND idempotency_key = :key AND id <> :id LIMIT 1)
"""
CHILDREN_BY_KEY = """
SELECT j.* FROM json_each(:keys) AS k JOIN job AS j ON j.parent_id = :parent AND j.child_key = k.value ORDER BY k.key
"""
