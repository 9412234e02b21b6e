-- The queue. A job's row moves only by guarded UPDATEs; what must follow from a move (its event, its place in the
-- tally, its parent's counters) hangs on triggers, so that it happens exactly once however a write is repeated.
-- Times are milliseconds UTC from this database's own clock.

-- Both seq and an event's id rise without the extra write of AUTOINCREMENT. A new row's number is above every number
-- that is there, which is what order needs; an event's number never comes back (see PRUNE_EVENTS).
CREATE TABLE job (
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  type TEXT NOT NULL,
  name TEXT,
  status TEXT NOT NULL,
  priority INTEGER NOT NULL,
  phase TEXT,
  parent_id TEXT,
  child_key TEXT,
  depth INTEGER NOT NULL,
  retry_of TEXT,
  session_id TEXT,
  params TEXT NOT NULL,
  result TEXT,
  outputs TEXT NOT NULL,
  error TEXT,
  stage TEXT,
  stage_index INTEGER,
  stage_count INTEGER,
  progress REAL,
  progress_current REAL,
  progress_total REAL,
  eta_s REAL,
  attempt INTEGER NOT NULL,
  failures INTEGER NOT NULL,
  max_failures INTEGER NOT NULL,
  timeout_s REAL NOT NULL,
  worker_id TEXT,
  claim_token TEXT,
  finish_token TEXT,
  last_line INTEGER NOT NULL,
  lease_until INTEGER,
  cancel_requested_at INTEGER,
  run_at INTEGER,
  created_at INTEGER NOT NULL,
  started_at INTEGER,
  updated_at INTEGER NOT NULL,
  completed_at INTEGER,
  caller TEXT NOT NULL,
  idempotency_key TEXT,
  request_hash TEXT,
  webhook_url TEXT,
  tags TEXT NOT NULL,
  on_child_failure TEXT NOT NULL,
  own_work INTEGER NOT NULL,
  open_phase INTEGER NOT NULL,   -- the last phase whose children may start: -1 none yet, 0 pre, 1 core, 2 post
  stopping INTEGER NOT NULL,     -- 0 no; 1 the children are still to be told to stop; 2 they were told
  child_error TEXT,              -- why the family fails, from the first child that ended badly
  children_total INTEGER NOT NULL,
  children_done INTEGER NOT NULL,
  children_failed INTEGER NOT NULL,
  pre_left INTEGER NOT NULL,
  core_left INTEGER NOT NULL,
  post_left INTEGER NOT NULL
);

CREATE TABLE event (
  id INTEGER PRIMARY KEY,
  job_id TEXT NOT NULL,
  attempt INTEGER NOT NULL,
  line INTEGER,
  at INTEGER NOT NULL,
  level TEXT NOT NULL,
  kind TEXT NOT NULL,
  message TEXT NOT NULL,
  data TEXT
);

-- Finished jobs by hour. The histograms are JSON objects: bucket b0 is under 128 ms, each next one doubles; a bucket
-- is the number of bits of the milliseconds, less 7, read off their hexadecimal digits.
CREATE TABLE tally (
  hour INTEGER NOT NULL,
  type TEXT NOT NULL,
  status TEXT NOT NULL,
  jobs INTEGER NOT NULL,
  wait_ms INTEGER NOT NULL,
  run_ms INTEGER NOT NULL,
  media_ms INTEGER NOT NULL,
  wait_log2 TEXT NOT NULL,
  run_log2 TEXT NOT NULL,
  PRIMARY KEY (hour, type, status)
) WITHOUT ROWID;

CREATE TABLE worker (
  id TEXT PRIMARY KEY,
  host TEXT NOT NULL,
  version TEXT NOT NULL,
  types TEXT NOT NULL,
  slots INTEGER NOT NULL,
  running INTEGER NOT NULL,
  started_at INTEGER NOT NULL,
  seen_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE asset (
  id TEXT PRIMARY KEY,
  owner TEXT NOT NULL,
  filename TEXT NOT NULL,
  content_type TEXT NOT NULL,
  size_bytes INTEGER NOT NULL,
  state TEXT NOT NULL,
  sha256 TEXT,
  ledger TEXT,
  created_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE walk (
  name TEXT PRIMARY KEY,
  seq INTEGER NOT NULL
) WITHOUT ROWID;

-- Every index is partial and small: it holds live jobs, or those that ended badly, never all finished ones.
CREATE INDEX job_pending ON job (type, priority DESC, seq) WHERE status = 'pending';
CREATE INDEX job_running ON job (worker_id) WHERE status = 'running';
CREATE INDEX job_due ON job (run_at) WHERE status IN ('scheduled', 'retrying');
-- Unfinished, but neither in the queue nor running. One index over all live jobs would cost every job a written row.
CREATE INDEX job_held ON job (seq) WHERE status IN ('scheduled', 'retrying', 'waiting', 'waiting_children');
CREATE INDEX job_bad ON job (seq) WHERE status IN ('failed', 'dead_letter');
CREATE UNIQUE INDEX job_child ON job (parent_id, child_key) WHERE parent_id IS NOT NULL;
CREATE UNIQUE INDEX job_idempotency ON job (caller, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX job_retry ON job (retry_of) WHERE retry_of IS NOT NULL;
CREATE UNIQUE INDEX job_claim ON job (claim_token) WHERE claim_token IS NOT NULL;
-- What families still owe; nearly always empty.
CREATE INDEX job_cascade ON job (seq) WHERE stopping = 1;
CREATE INDEX job_settle ON job (seq) WHERE status = 'waiting_children' AND pre_left + core_left + post_left = 0;
CREATE INDEX job_advance ON job (seq) WHERE stopping = 0 AND status NOT IN ('waiting', 'scheduled')
  AND pre_left + core_left + post_left > 0
  AND CASE open_phase WHEN 0 THEN pre_left WHEN 1 THEN core_left WHEN 2 THEN post_left ELSE 0 END = 0;
CREATE INDEX job_parent_due ON job (created_at + CAST(timeout_s * 1000 AS INTEGER))
  WHERE status = 'waiting_children' AND stopping = 0;
CREATE INDEX event_job ON event (job_id, id);
CREATE INDEX asset_created ON asset (created_at);

CREATE TRIGGER job_create_refused BEFORE INSERT ON job
WHEN NEW.status NOT IN ('scheduled', 'waiting', 'pending', 'waiting_children', 'completed')
BEGIN
  SELECT RAISE(ABORT, 'illegal move: a job cannot be created in this state');
END;

CREATE TRIGGER job_created AFTER INSERT ON job
BEGIN
  INSERT INTO event (job_id, attempt, at, level, kind, message, data)
  VALUES (NEW.id, NEW.attempt, NEW.created_at, 'info', 'state', NEW.status, NULL);
END;

CREATE TRIGGER job_child_created AFTER INSERT ON job WHEN NEW.parent_id IS NOT NULL
BEGIN
  UPDATE job SET
    children_total = children_total + 1,
    children_done = children_done + (NEW.status = 'completed'),
    pre_left = pre_left + (NEW.phase = 'pre' AND NEW.status <> 'completed'),
    core_left = core_left + (NEW.phase = 'core' AND NEW.status <> 'completed'),
    post_left = post_left + (NEW.phase = 'post' AND NEW.status <> 'completed'),
    updated_at = NEW.created_at
  WHERE id = NEW.parent_id;
END;

CREATE TRIGGER job_moved AFTER UPDATE OF status ON job WHEN OLD.status <> NEW.status
BEGIN
  INSERT INTO event (job_id, attempt, at, level, kind, message, data)
  VALUES (
    NEW.id, NEW.attempt, NEW.updated_at,
    CASE WHEN NEW.status IN ('failed', 'dead_letter') THEN 'error'
         WHEN NEW.status IN ('retrying', 'cancelled') THEN 'warn' ELSE 'info' END,
    'state', NEW.status,
    json_object('from', OLD.status, 'worker', NEW.worker_id, 'error', json(NEW.error), 'run_at', NEW.run_at));
END;

CREATE TRIGGER job_ended AFTER UPDATE OF status ON job
WHEN OLD.status <> NEW.status AND NEW.status IN ('completed', 'failed', 'dead_letter', 'cancelled')
BEGIN
  INSERT INTO tally (hour, type, status, jobs, wait_ms, run_ms, media_ms, wait_log2, run_log2)
  SELECT NEW.completed_at / 3600000, NEW.type, NEW.status, 1, wait, run,
    COALESCE(json_extract(NEW.result, '$.media_ms'), 0),
    json_object('b' || MAX(0, 4 * LENGTH(wait_hex) - 10 + (wait_hex >= '2') + (wait_hex >= '4') + (wait_hex >= '8')), 1),
    json_object('b' || MAX(0, 4 * LENGTH(run_hex) - 10 + (run_hex >= '2') + (run_hex >= '4') + (run_hex >= '8')), 1)
  FROM (SELECT wait, run, printf('%x', wait) AS wait_hex, printf('%x', run) AS run_hex FROM (
    SELECT COALESCE(NEW.started_at, NEW.completed_at) - NEW.created_at AS wait,
           NEW.completed_at - COALESCE(NEW.started_at, NEW.completed_at) AS run))
  WHERE true
  ON CONFLICT (hour, type, status) DO UPDATE SET
    jobs = jobs + 1,
    wait_ms = wait_ms + excluded.wait_ms,
    run_ms = run_ms + excluded.run_ms,
    media_ms = media_ms + excluded.media_ms,
    wait_log2 = (SELECT json_set(wait_log2, fullkey, 1 + COALESCE(json_extract(wait_log2, fullkey), 0))
      FROM json_each(excluded.wait_log2)),
    run_log2 = (SELECT json_set(run_log2, fullkey, 1 + COALESCE(json_extract(run_log2, fullkey), 0))
      FROM json_each(excluded.run_log2));
END;

CREATE TRIGGER job_child_ended AFTER UPDATE OF status ON job
WHEN NEW.parent_id IS NOT NULL AND OLD.status <> NEW.status
  AND NEW.status IN ('completed', 'failed', 'dead_letter', 'cancelled')
BEGIN
  UPDATE job SET
    children_done = children_done + (NEW.status = 'completed'),
    children_failed = children_failed + (NEW.status <> 'completed'),
    pre_left = pre_left - (NEW.phase = 'pre'),
    core_left = core_left - (NEW.phase = 'core'),
    post_left = post_left - (NEW.phase = 'post'),
    updated_at = NEW.updated_at
  WHERE id = NEW.parent_id;
  UPDATE job SET
    stopping = 1,
    child_error = json_object('code', 'child_' || NEW.status, 'kind', 'permanent', 'stage', NULL, 'attempt', attempt,
      'message', 'The ' || NEW.type || ' job ' || NEW.child_key || ' in phase ' || NEW.phase || ' ended as '
        || NEW.status || COALESCE(': ' || json_extract(NEW.error, '$.message'), '.'))
  WHERE id = NEW.parent_id AND NEW.status <> 'completed' AND on_child_failure = 'fail' AND stopping = 0
    AND status NOT IN ('completed', 'failed', 'dead_letter', 'cancelled');
END;

CREATE TRIGGER job_phase_opened AFTER UPDATE OF open_phase ON job WHEN NEW.open_phase > OLD.open_phase
BEGIN
  UPDATE job SET
    status = CASE WHEN own_work THEN 'pending' ELSE 'waiting_children' END,
    updated_at = NEW.updated_at
  WHERE parent_id = NEW.id AND status = 'waiting'
    AND CASE phase WHEN 'pre' THEN 0 WHEN 'core' THEN 1 ELSE 2 END <= NEW.open_phase;
END;

CREATE TRIGGER job_children_stopped AFTER UPDATE OF stopping ON job WHEN OLD.stopping = 1 AND NEW.stopping = 2
BEGIN
  UPDATE job SET
    cancel_requested_at = COALESCE(cancel_requested_at, NEW.updated_at),
    stopping = CASE WHEN stopping = 0 AND pre_left + core_left + post_left > 0 THEN 1 ELSE stopping END,
    status = CASE WHEN status IN ('running', 'waiting_children') THEN status ELSE 'cancelled' END,
    error = CASE WHEN status IN ('running', 'waiting_children') THEN error ELSE
      json_object('code', 'cancelled', 'kind', 'cancelled', 'stage', NULL, 'attempt', attempt,
        'message', 'Cancelled together with the job it belongs to.') END,
    completed_at = CASE WHEN status IN ('running', 'waiting_children') THEN NULL ELSE NEW.updated_at END,
    updated_at = NEW.updated_at
  WHERE parent_id = NEW.id AND status NOT IN ('completed', 'failed', 'dead_letter', 'cancelled');
END;

-- After, not before: behind a BEFORE trigger SQLite reads the row a second time, and ABORT undoes the write all the same.
-- Last in this file, because SQLite fires the newest trigger first.
CREATE TRIGGER job_move_refused AFTER UPDATE OF status ON job
WHEN OLD.status <> NEW.status AND OLD.status || ' > ' || NEW.status NOT IN (
  'scheduled > pending', 'scheduled > cancelled',
  'waiting > pending', 'waiting > waiting_children', 'waiting > cancelled',
  'pending > running', 'pending > scheduled', 'pending > cancelled',
  'running > completed', 'running > failed', 'running > dead_letter', 'running > cancelled',
  'running > retrying', 'running > waiting_children', 'running > pending',
  'waiting_children > completed', 'waiting_children > failed', 'waiting_children > cancelled',
  'retrying > pending', 'retrying > scheduled', 'retrying > cancelled')
BEGIN
  SELECT RAISE(ABORT, 'illegal move: a job cannot go from its state to that one');
END;
