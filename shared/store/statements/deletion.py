"""Statements that find jobs nobody needs any more, and delete them with their history."""

from __future__ import annotations

from shared.store.statements.parts import NOW, TERMINAL_LIST

#: Whether an unfinished job reads files of the job `j`; the jobs that are read are found once for all rows.
_READ = f"""j.id IN (SELECT substr(t.value, 5, instr(t.value, '/') - 5)
    FROM job AS r INDEXED BY job_reads CROSS JOIN json_tree(r.params) AS t
    WHERE instr(r.params, '"job:') > 0 AND r.status NOT IN {TERMINAL_LIST}
      AND t.type = 'text' AND t.value GLOB 'job:*/*')"""
#: Whether an unfinished child of the same parent does, or the parent shows them as its own.
_READ_AT_HOME = f"""(EXISTS (SELECT 1 FROM job AS r WHERE r.parent_id = j.parent_id AND r.status NOT IN {TERMINAL_LIST}
      AND instr(r.params, '"child:' || j.child_key || '/') > 0)
    OR EXISTS (SELECT 1 FROM job AS p WHERE p.id = j.parent_id AND instr(p.outputs, 'outputs/' || j.id || '/') > 0))"""
#: The whole family below a job, and whether anything in it still runs or is still needed by somebody else.
DESCENDANTS = f"""
WITH RECURSIVE down(id) AS (
  SELECT id FROM job WHERE id = :id UNION ALL SELECT c.id FROM down JOIN job AS c ON c.parent_id = down.id)
SELECT j.id, j.status IN {TERMINAL_LIST} AS ended,
  EXISTS (SELECT 1 FROM job AS r WHERE r.retry_of = j.id AND r.parent_id IS NOT NULL AND r.attempt = 0
    AND r.status = 'completed' AND r.own_work) AS carried,
  {_READ} AS read, j.id = :id AND {_READ_AT_HOME} AS read_at_home
FROM down CROSS JOIN job AS j ON j.id = down.id ORDER BY j.seq
"""
PRUNABLE = f"""
SELECT j.seq, j.id,
  j.completed_at < {NOW} - :age AND (p.id IS NULL OR p.completed_at < {NOW} - :age)
    AND NOT EXISTS (SELECT 1 FROM job AS r WHERE r.retry_of = j.id) AND NOT {_READ}
    AND NOT EXISTS (SELECT 1 FROM session AS s WHERE s.id = j.session_id AND s.updated_at >= {NOW} - :age) AS old,
  j.created_at >= {NOW} - :age AS young
FROM job AS j LEFT JOIN job AS p ON p.id = j.parent_id
WHERE j.seq > COALESCE((SELECT seq FROM walk WHERE name = 'prune'), 0) ORDER BY j.seq LIMIT :limit
"""
#: The newest event stays until a newer one is there, so that ids never come back.
PRUNE_EVENTS = """
DELETE FROM event WHERE job_id IN (SELECT value FROM json_each(:ids)) AND id < (SELECT MAX(id) FROM event)
"""
PRUNE_JOBS = (
    f"DELETE FROM job WHERE id IN (SELECT value FROM json_each(:ids)) AND status IN {TERMINAL_LIST} RETURNING id"
)
#: Workers that died did not take their leave.
PRUNE_WORKERS = f"DELETE FROM worker WHERE seen_at < {NOW} - 86400000"
WALK = "INSERT INTO walk (name, seq) VALUES (:name, :seq) ON CONFLICT (name) DO UPDATE SET seq = excluded.seq"
