"""Every statement of the queue, written once for SQLite and libSQL.

Named parameters; JSON arrays carry lists; time is the database's own. A write of an owner carries its fence
(id, attempt, worker id, status running) in its WHERE. `shared/store/sql.py` puts them into atomic batches.
"""

from __future__ import annotations

from shared.job import PHASES, TERMINAL

NOW = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
TERMINAL_LIST = "('completed', 'failed', 'dead_letter', 'cancelled')"
assert set(TERMINAL_LIST.strip("()").replace("'", "").split(", ")) == TERMINAL
HELD = "('scheduled', 'retrying', 'waiting', 'waiting_children')"
_LEFT = "pre_left + core_left + post_left"
_OWNED = "id = :id AND attempt = :attempt AND worker_id = :worker AND status = 'running'"
_CANCELLED = (
    "json_object('code', 'cancelled', 'kind', 'cancelled', 'stage', stage, 'attempt', attempt, "
    "'message', 'Cancelled on request.')"
)
#: Full jitter: a random delay up to 2 s doubled per failure so far, at most 5 minutes.
_BACKOFF = "ABS(RANDOM() % (1 + MIN(300000, 2000 << MIN(failures, 12))))"


def _percent(parent: str) -> str:
    """How far a parent without work of its own is: its children's shares by their weights."""
    return f"(SELECT SUM(c.weight * c.overall) / SUM(c.weight) FROM job AS c WHERE c.parent_id = {parent}.id)"


def _shown(job: str) -> str:
    # Only of a parent that waits, so that no other job costs a look at children.
    return (
        f"CASE WHEN {job}.status = 'waiting_children' AND NOT {job}.own_work THEN {_percent(job)} END AS family_percent"
        f", CASE WHEN {job}.status IN ('failed', 'dead_letter', 'cancelled') THEN (SELECT id FROM job AS again"
        f" WHERE again.retry_of = {job}.id ORDER BY again.seq DESC LIMIT 1) END AS retried_as"
    )


MIGRATION_TABLE = "CREATE TABLE IF NOT EXISTS migration (name TEXT PRIMARY KEY, applied_at INTEGER NOT NULL)"
MIGRATIONS = "SELECT name FROM migration"
MIGRATED = f"INSERT INTO migration VALUES (:name, {NOW})"

# --- creation -----------------------------------------------------------------------------------------------
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

# --- reading ------------------------------------------------------------------------------------------------
#: `ahead` counts at most 101 jobs; `queue_run_ms` and `queue_slots` feed the estimate of a waiting job.
GET = f"""
SELECT j.*, {_shown("j")},
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
CHILDREN = f"SELECT j.*, {_shown('j')} FROM job AS j WHERE j.parent_id = :id"
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
RUNNING = "SELECT * FROM job INDEXED BY job_running WHERE status = 'running' ORDER BY seq"
#: The parents whose percentage moves because a child of theirs runs.
RUNNING_PARENTS = f"""
SELECT j.*, {_shown("j")} FROM job AS j WHERE j.id IN (
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
LIST = {name: f"SELECT j.*, {_shown('j')} FROM ({page}) AS j" for name, page in PAGE.items()}
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

# --- steering -----------------------------------------------------------------------------------------------
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
  stopping = CASE WHEN stopping = 0 AND {_LEFT} > 0 THEN 1 ELSE stopping END,
  status = CASE
    WHEN status = 'waiting_children' OR (status = 'running' AND lease_until > {NOW}) THEN status
    WHEN status = 'running' AND {_LEFT} > 0 THEN 'waiting_children' ELSE 'cancelled' END,
  error = CASE
    WHEN status = 'waiting_children' OR (status = 'running' AND (lease_until > {NOW} OR {_LEFT} > 0)) THEN error
    ELSE {_CANCELLED} END,
  completed_at = CASE
    WHEN status = 'waiting_children' OR (status = 'running' AND (lease_until > {NOW} OR {_LEFT} > 0)) THEN NULL
    ELSE {NOW} END,
  updated_at = {NOW}
WHERE {which}
"""


CANCEL = cancel(f"id = :id AND status NOT IN {TERMINAL_LIST}")

# --- owners -------------------------------------------------------------------------------------------------
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
PROMOTE = f"""
UPDATE job SET status = 'pending', updated_at = {NOW}
WHERE status IN ('scheduled', 'retrying') AND run_at <= {NOW}
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
#: Workers that died did not take their leave.
PRUNE_WORKERS = f"DELETE FROM worker WHERE seen_at < {NOW} - 86400000"


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
    WHEN :word = 'completed' AND {_LEFT} = 0 AND child_error IS NULL THEN 'completed'
    WHEN :word = 'completed' AND {_LEFT} > 0 THEN 'waiting_children'
    WHEN :word <> 'completed' AND cancel_requested_at IS NULL AND {_RETRIES} THEN 'retrying'
    WHEN {_LEFT} > 0 THEN 'waiting_children'
    WHEN cancel_requested_at IS NOT NULL THEN 'cancelled'
    WHEN :retry THEN 'dead_letter'
    ELSE 'failed'
  END"""
_ENDED = f"({_END}) IN {TERMINAL_LIST}"
FINISH = f"""
UPDATE job SET
  status = {_END},
  finish_token = :finish,
  result = :result,
  outputs = :outputs,
  error = CASE
    WHEN :word = 'completed' AND ({_LEFT} > 0 OR child_error IS NULL) THEN NULL
    WHEN :word = 'completed' AND cancel_requested_at IS NULL THEN child_error
    WHEN cancel_requested_at IS NOT NULL THEN {_CANCELLED}
    ELSE :error END,
  failures = failures + (:retry AND cancel_requested_at IS NULL),
  run_at = CASE WHEN ({_END}) = 'retrying' THEN {NOW} + {_BACKOFF} END,
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
WHERE {_OWNED} AND (:word <> 'cancelled' OR cancel_requested_at IS NOT NULL)
"""
RELEASE = f"""
UPDATE job SET
  status = CASE WHEN cancel_requested_at IS NULL THEN 'pending' WHEN {_LEFT} > 0 THEN 'waiting_children'
    ELSE 'cancelled' END,
  error = CASE WHEN cancel_requested_at IS NOT NULL AND {_LEFT} = 0 THEN {_CANCELLED} END,
  completed_at = CASE WHEN cancel_requested_at IS NOT NULL AND {_LEFT} = 0 THEN {NOW} END,
  finish_token = :finish, eta_s = NULL, updated_at = {NOW}
WHERE {_OWNED}
"""
OWNER = f"SELECT 1 FROM job WHERE {_OWNED}"
CONFIRM = "SELECT * FROM job WHERE id = :id AND finish_token = :finish"

# --- janitor ------------------------------------------------------------------------------------------------
_REAP_RETRIES = "cancel_requested_at IS NULL AND failures + 1 < max_failures"
REAP = f"""
UPDATE job SET
  status = CASE WHEN {_REAP_RETRIES} THEN 'retrying' WHEN {_LEFT} > 0 THEN 'waiting_children'
    WHEN cancel_requested_at IS NOT NULL THEN 'cancelled' ELSE 'dead_letter' END,
  error = CASE WHEN cancel_requested_at IS NOT NULL THEN {_CANCELLED} ELSE
    json_object('code', 'worker_lost', 'kind', 'worker_lost', 'stage', stage, 'attempt', attempt, 'message',
      'The worker that ran this job stopped answering; it was taken away from it.') END,
  failures = failures + (cancel_requested_at IS NULL),
  run_at = CASE WHEN {_REAP_RETRIES} THEN {NOW} + {_BACKOFF} END,
  stopping = CASE WHEN NOT ({_REAP_RETRIES}) AND {_LEFT} > 0 AND stopping = 0 THEN 1 ELSE stopping END,
  completed_at = CASE WHEN NOT ({_REAP_RETRIES}) AND {_LEFT} = 0 THEN {NOW} END,
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
_TO_CASCADE = "stopping = 1"
_TO_ADVANCE = f"""stopping = 0 AND status NOT IN ('waiting', 'scheduled') AND {_LEFT} > 0
  AND CASE open_phase WHEN 0 THEN pre_left WHEN 1 THEN core_left WHEN 2 THEN post_left ELSE 0 END = 0"""
_TO_SETTLE = f"status = 'waiting_children' AND {_LEFT} = 0"
#: Whether any family owes something: a look at three indexes that are nearly always empty.
OWED = f"""
SELECT 1 WHERE EXISTS (SELECT 1 FROM job WHERE {_TO_CASCADE})
  OR EXISTS (SELECT 1 FROM job WHERE {_TO_ADVANCE}) OR EXISTS (SELECT 1 FROM job WHERE {_TO_SETTLE})
"""
CASCADE = f"UPDATE job SET stopping = 2, updated_at = {NOW} WHERE {_TO_CASCADE}"
ADVANCE = f"""
UPDATE job SET open_phase = CASE WHEN pre_left > 0 THEN 0 WHEN core_left > 0 THEN 1 ELSE 2 END, updated_at = {NOW}
WHERE {_TO_ADVANCE}
"""
SETTLE = f"""
UPDATE job SET
  status = CASE WHEN cancel_requested_at IS NOT NULL THEN 'cancelled'
    WHEN COALESCE(error, child_error) IS NOT NULL THEN 'failed' ELSE 'completed' END,
  error = CASE WHEN cancel_requested_at IS NOT NULL THEN {_CANCELLED} ELSE COALESCE(error, child_error) END,
  progress = CASE WHEN cancel_requested_at IS NULL AND COALESCE(error, child_error) IS NULL THEN 100.0
    WHEN own_work THEN progress ELSE {_percent("job")} END,
  overall = CASE WHEN cancel_requested_at IS NULL AND COALESCE(error, child_error) IS NULL THEN 100.0 ELSE overall END,
  completed_at = {NOW}, updated_at = {NOW}
WHERE {_TO_SETTLE}
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
#: Whether an unfinished job names the asset.
_NEEDED = f"""(
    EXISTS (SELECT 1 FROM job INDEXED BY job_pending WHERE status = 'pending' AND instr(params, asset.id) > 0)
    OR EXISTS (SELECT 1 FROM job INDEXED BY job_running WHERE status = 'running' AND instr(params, asset.id) > 0)
    OR EXISTS (SELECT 1 FROM job INDEXED BY job_held WHERE status IN {HELD} AND instr(params, asset.id) > 0))"""
PRUNABLE_ASSETS = f"""
SELECT id FROM asset WHERE created_at < {NOW} - :age
  AND NOT {_NEEDED}
ORDER BY created_at LIMIT :limit
"""
#: The newest event stays until a newer one is there, so that ids never come back.
PRUNE_EVENTS = """
DELETE FROM event WHERE job_id IN (SELECT value FROM json_each(:ids)) AND id < (SELECT MAX(id) FROM event)
"""
PRUNE_JOBS = (
    f"DELETE FROM job WHERE id IN (SELECT value FROM json_each(:ids)) AND status IN {TERMINAL_LIST} RETURNING id"
)
PRUNE_ASSETS = f"""
DELETE FROM asset WHERE id IN (SELECT value FROM json_each(:ids))
  AND NOT {_NEEDED}
RETURNING id
"""
WALK = "INSERT INTO walk (name, seq) VALUES (:name, :seq) ON CONFLICT (name) DO UPDATE SET seq = excluded.seq"

# --- access -------------------------------------------------------------------------------------------------
ADD_KEY = f"""
INSERT INTO api_key (id, name, hash, scopes, created_at)
SELECT :id, :name, :hash, :scopes, {NOW}
WHERE (SELECT COUNT(*) FROM api_key WHERE name = :name AND revoked_at IS NULL) < :most
ON CONFLICT DO NOTHING
"""
KEY = "SELECT * FROM api_key WHERE id = :id"
KEYS = "SELECT * FROM api_key ORDER BY created_at, id"
REVOKE_KEY = f"UPDATE api_key SET revoked_at = COALESCE(revoked_at, {NOW}) WHERE id = :id RETURNING *"
KEY_USED = f"""
UPDATE api_key SET last_used_at = {NOW} WHERE id = :id AND COALESCE(last_used_at, 0) < {NOW} - 60000
"""
#: Who waits is counted only when so many may wait that the limit is reached; until then the row's own number does.
RECOUNT = f"""
UPDATE budget SET waiting = (
  SELECT COUNT(*) FROM (
    SELECT 1 FROM job INDEXED BY job_pending WHERE status = 'pending' AND caller = :caller
    UNION ALL SELECT 1 FROM job INDEXED BY job_held WHERE status IN {HELD} AND caller = :caller
    LIMIT :most))
WHERE caller = :caller AND waiting + :jobs > :most
"""
_MICROS = f"{NOW} * 1000"
#: Nothing is charged for a job that is there: its creation was charged before its answer was lost.
_FRESH_JOB = "(NOT EXISTS (SELECT 1 FROM job WHERE id = :job))"
_STEP, _JOBS = f":step * {_FRESH_JOB}", f":jobs * {_FRESH_JOB}"
#: Takes `step` microseconds of the minute's `window` and room for `jobs`; what is over a limit aborts the batch.
CHARGE = f"""
INSERT INTO budget (caller, spent_until, waiting, refused)
VALUES (:caller, {_MICROS} + {_STEP}, {_JOBS}, CASE WHEN {_JOBS} > :most THEN 'waiting' END)
ON CONFLICT (caller) DO UPDATE SET
  spent_until = MAX(spent_until, {_MICROS}) + {_STEP},
  waiting = waiting + {_JOBS},
  refused = CASE
    WHEN {_STEP} > 0 AND MAX(spent_until, {_MICROS}) + {_STEP} > {_MICROS} + :window THEN 'rate'
    WHEN {_JOBS} > 0 AND waiting + {_JOBS} > :most THEN 'waiting' END
RETURNING spent_until, {_MICROS} AS now
"""
BUDGET = f"SELECT spent_until, {_MICROS} AS now FROM budget WHERE caller = :caller"

# --- assets -------------------------------------------------------------------------------------------------
ADD_ASSET = f"""
INSERT INTO asset (id, owner, filename, content_type, size_bytes, state, created_at)
VALUES (:id, :owner, :filename, :content_type, :size_bytes, 'uploading', {NOW}) ON CONFLICT DO NOTHING
"""
ASSET = "SELECT * FROM asset WHERE id = :id"
ASSETS = "SELECT * FROM asset WHERE id IN (SELECT value FROM json_each(:ids))"
ASSET_READY = """
UPDATE asset SET state = 'ready', sha256 = COALESCE(:sha256, sha256) WHERE id = :id AND state <> 'deleting' RETURNING *
"""
ASSET_GIVEN_UP = f"UPDATE asset SET state = 'deleting' WHERE id = :id AND NOT {_NEEDED}"
ASSET_FORGOTTEN = "DELETE FROM asset WHERE id = :id AND state = 'deleting'"
SAVE_LEDGER = "UPDATE asset SET ledger = :ledger WHERE id = :id"

assert PHASES == ("pre", "core", "post")  # the columns *_left and the CASEs on phase spell them out
