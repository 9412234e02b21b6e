-- The triggers that fire with every move, without long lists: for a list of more than two values SQLite builds a table each
-- time it comes to it, which was a sixth of all that a job's claim and finish cost. Two values are compared one by one.

DROP TRIGGER job_create_refused;
CREATE TRIGGER job_create_refused BEFORE INSERT ON job
WHEN CASE NEW.status WHEN 'pending' THEN false WHEN 'scheduled' THEN false WHEN 'waiting' THEN false
  WHEN 'waiting_children' THEN false WHEN 'completed' THEN false ELSE true END
BEGIN
  SELECT RAISE(ABORT, 'illegal move: a job cannot be created in this state');
END;

DROP TRIGGER job_ended;
CREATE TRIGGER job_ended AFTER UPDATE OF status ON job
WHEN OLD.status <> NEW.status AND (NEW.status IN ('completed', 'failed') OR NEW.status IN ('dead_letter', 'cancelled'))
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

-- Last in this file, because SQLite fires the newest trigger first.
DROP TRIGGER job_move_refused;
CREATE TRIGGER job_move_refused AFTER UPDATE OF status ON job
WHEN OLD.status <> NEW.status AND NOT CASE OLD.status
  WHEN 'scheduled' THEN NEW.status IN ('pending', 'cancelled')
  WHEN 'waiting' THEN NEW.status IN ('pending', 'waiting_children') OR NEW.status = 'cancelled'
  WHEN 'pending' THEN NEW.status IN ('running', 'scheduled') OR NEW.status = 'cancelled'
  WHEN 'running' THEN NEW.status IN ('completed', 'failed') OR NEW.status IN ('dead_letter', 'cancelled')
    OR NEW.status IN ('retrying', 'waiting_children') OR NEW.status = 'pending'
  WHEN 'waiting_children' THEN NEW.status IN ('completed', 'failed') OR NEW.status = 'cancelled'
  WHEN 'retrying' THEN NEW.status IN ('pending', 'scheduled') OR NEW.status = 'cancelled'
  ELSE false END
BEGIN
  SELECT RAISE(ABORT, 'illegal move: a job cannot go from its state to that one');
END;
