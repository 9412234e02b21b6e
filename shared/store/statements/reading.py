"""Statements by which clients read jobs, lists of them and their history."""

from __future__ import annotations

from shared.store.statements.parts import HELD, NOW, shown

#: `ahead` counts at most 101 jobs; `queue_run_ms` and `queue_slots` feed the estimate of a waiting job.
GET = f"""
SELECT j.*, {shown("j")},
  CASE WHEN j.status = 'pending' THEN (
    SELECT COUNT(*) FROM (
      SELECT 1 FROM json_each(:types) AS k JOIN job AS q
        ON q.status = 'pending' AND q.type = k.value AND q.priority > j.priority
      UNION ALL
      SELECT 1 FROM json_each(:types) AS k JOIN job AS q
        ON q.status = 'pending' AND q.type = k.value AND q.priority = j.priority AND q.seq < j.seq
      LIMIT 101)) END AS ahead,
  CASE WHEN j.status = 'pending' AND NOT EXISTS (
    SELECT 1 FROM steering AS s WHERE s.type = j.type AND s.paused_at IS NOT NULL) THEN (
    SELECT SUM(run_ms) / SUM(jobs) FROM tally
    WHERE hour >= {NOW} / 3600000 - 24 AND type = j.type AND status = 'completed') END AS queue_run_ms,
  CASE WHEN j.status = 'pending' THEN (
    SELECT SUM(slots) FROM worker WHERE seen_at > {NOW} - 90000) END AS queue_slots
FROM job AS j WHERE j.id = :id
"""
#: The first jobs of each type's queue, for the positions of a whole list. As JSON, because a join would read each
#: of them a second time and a sort a third.
HEAD = """
SELECT (SELECT json_group_array(json_array(-priority, seq)) FROM (
  SELECT priority, seq FROM job WHERE status = 'pending' AND type = k.value ORDER BY priority DESC, seq LIMIT 101)
) AS first FROM json_each(:types) AS k
"""
ROW = "SELECT * FROM job WHERE id = :id"
CHILDREN = f"SELECT j.*, {shown('j')} FROM job AS j WHERE j.parent_id = :id"
#: CROSS, here and below, because the server's SQLite would else walk all jobs in order to save sorting a few.
FAMILY = """
WITH RECURSIVE up(id, parent_id) AS (
    SELECT id, parent_id FROM job WHERE id = :id
    UNION ALL SELECT p.id, p.parent_id FROM up JOIN job AS p ON p.id = up.parent_id),
  down(id) AS (
    SELECT id FROM up WHERE parent_id IS NULL
    UNION ALL SELECT c.id FROM down JOIN job AS c ON c.parent_id = down.id)
SELECT j.* FROM down CROSS JOIN job AS j ON j.id = down.id ORDER BY j.seq
"""
#: What a job that reads another's files must know of it.
_MADE = "j.id, j.name, j.phase, j.child_key, j.status, j.outputs"
MADE = f"SELECT {_MADE} FROM json_each(:ids) AS k CROSS JOIN job AS j ON j.id = k.value"
SIBLINGS_MADE = f"""
SELECT {_MADE} FROM json_each(:keys) AS k CROSS JOIN job AS j ON j.child_key = k.value
  AND j.parent_id = COALESCE(:parent, (SELECT parent_id FROM job WHERE id = :child))
"""
RUNNING = "SELECT * FROM job INDEXED BY job_running WHERE status = 'running' ORDER BY seq"
#: The parents whose percentage moves because a child of theirs runs.
RUNNING_PARENTS = f"""
SELECT j.*, {shown("j")} FROM job AS j WHERE j.id IN (
  SELECT parent_id FROM job INDEXED BY job_running WHERE status = 'running' AND parent_id IS NOT NULL)
AND j.status = 'waiting_children' AND NOT j.own_work
"""
_WINDOWS = {
    None: "job WHERE seq < :before",
    "parent": "job WHERE parent_id = :parent_id AND seq < :before",
    "held": f"job INDEXED BY job_held WHERE status IN {HELD} AND seq < :before",
    "running": "job INDEXED BY job_running WHERE status = 'running' AND seq < :before",
    "bad": "job INDEXED BY job_bad WHERE status IN ('failed', 'dead_letter') AND seq < :before",
}
MATCHES = """
(:status IS NULL OR status = :status) AND (:type IS NULL OR type = :type) AND (NOT :top OR parent_id IS NULL)
AND (:tag IS NULL OR EXISTS (SELECT 1 FROM json_each(tags) WHERE value = :tag))
AND (:since IS NULL OR created_at >= :since) AND (:error IS NULL OR error ->> 'code' = :error)
AND (:text IS NULL
  OR instr(lower(COALESCE(name, '') || ' ' || COALESCE(params ->> 'title', '') || ' ' || id), lower(:text)))
"""
#: Newest first, out of a window of at most 2,000 rows.
PAGE = {
    name: f"SELECT * FROM (SELECT * FROM {window} ORDER BY seq DESC LIMIT 2000) WHERE {MATCHES} LIMIT :limit"
    for name, window in _WINDOWS.items()
}
LIST = {name: f"SELECT j.*, {shown('j')} FROM ({page}) AS j" for name, page in PAGE.items()}
#: Where the window ends, for a page that came out short; of a full one nothing more is read.
LIST_END = {
    name: f"SELECT seq FROM {window} ORDER BY seq DESC LIMIT (SELECT COUNT(*) < :limit FROM ({PAGE[name]})) OFFSET 1999"
    for name, window in _WINDOWS.items()
}
EVENTS_OF_JOB = """
SELECT * FROM event WHERE job_id = :id AND id > :after AND level IN (SELECT value FROM json_each(:levels))
ORDER BY id LIMIT :limit
"""
EVENTS = """
SELECT * FROM event WHERE id > :after AND level IN (SELECT value FROM json_each(:levels)) ORDER BY id LIMIT :limit
"""
LAST_EVENT = "SELECT COALESCE(MAX(id), 0) AS id FROM event"
