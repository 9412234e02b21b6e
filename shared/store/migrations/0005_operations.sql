-- What operators decide, and what runs by itself.

-- Job types that are paused or limited; no row for all others, so that a claim reads nothing for them.
CREATE TABLE steering (
  type TEXT PRIMARY KEY,
  paused_at INTEGER,
  max_running INTEGER,
  running INTEGER NOT NULL       -- jobs of the type that run now, over all workers: a claim need not count them
) WITHOUT ROWID;

CREATE TRIGGER job_running_counted AFTER UPDATE OF status ON job
WHEN (OLD.status = 'running') <> (NEW.status = 'running')
BEGIN
  UPDATE steering SET running = running + (NEW.status = 'running') - (OLD.status = 'running') WHERE type = NEW.type;
END;

-- Jobs that are made again and again. A time that comes while the job before is unfinished is skipped.
CREATE TABLE schedule (
  name TEXT PRIMARY KEY,
  cron TEXT NOT NULL,            -- five fields, in UTC
  type TEXT NOT NULL,
  params TEXT NOT NULL,
  caller TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  due_at INTEGER NOT NULL,
  paused_at INTEGER,
  last_at INTEGER,
  last_job_id TEXT,
  skipped INTEGER NOT NULL
) WITHOUT ROWID;

-- When each duty of maintenance was last done, which outlives the jobs that did it.
CREATE TABLE upkeep (
  duty TEXT PRIMARY KEY,
  done_at INTEGER NOT NULL,
  job_id TEXT NOT NULL,
  result TEXT NOT NULL
) WITHOUT ROWID;

CREATE TRIGGER job_upkeep_done AFTER UPDATE OF status ON job
WHEN NEW.type = 'maintenance' AND NEW.status = 'completed' AND OLD.status <> NEW.status
  AND json_extract(NEW.params, '$.duty') IS NOT NULL
BEGIN
  INSERT INTO upkeep (duty, done_at, job_id, result)
  VALUES (json_extract(NEW.params, '$.duty'), NEW.completed_at, NEW.id, COALESCE(NEW.result, '{}'))
  ON CONFLICT (duty) DO UPDATE SET done_at = excluded.done_at, job_id = excluded.job_id, result = excluded.result;
END;
