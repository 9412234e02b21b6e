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
