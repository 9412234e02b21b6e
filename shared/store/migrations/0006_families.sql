-- What a family shows as its own: how far it is, which phase it is in, and the files of its last phase.

-- A parent's percentage is the mean of its children's, each by its weight. A child's share of its own work never falls,
-- not even when an attempt begins anew, and so the parent's does not either.
ALTER TABLE job ADD COLUMN weight REAL NOT NULL DEFAULT 1;
ALTER TABLE job ADD COLUMN overall REAL NOT NULL DEFAULT 0;

-- Jobs that read files of other jobs, which are kept for them. It does not say whether they are finished: then every move of
-- every job would read two rows more.
CREATE INDEX job_reads ON job (seq) WHERE instr(params, '"job:') > 0;

-- The stages of a parent without work of its own are those of the phases that it has children in; it begins with the first.
CREATE TRIGGER job_phase_shown AFTER UPDATE OF open_phase ON job
WHEN NEW.open_phase > OLD.open_phase AND NOT NEW.own_work
BEGIN
  UPDATE job SET
    started_at = COALESCE(started_at, NEW.updated_at),
    stage = CASE NEW.open_phase WHEN 0 THEN 'pre' WHEN 1 THEN 'core' ELSE 'post' END,
    stage_index = (NEW.open_phase > 0 AND EXISTS (SELECT 1 FROM job WHERE parent_id = NEW.id AND phase = 'pre'))
      + (NEW.open_phase > 1 AND EXISTS (SELECT 1 FROM job WHERE parent_id = NEW.id AND phase = 'core')),
    stage_count = EXISTS (SELECT 1 FROM job WHERE parent_id = NEW.id AND phase = 'pre')
      + EXISTS (SELECT 1 FROM job WHERE parent_id = NEW.id AND phase = 'core')
      + EXISTS (SELECT 1 FROM job WHERE parent_id = NEW.id AND phase = 'post')
  WHERE id = NEW.id;
  INSERT INTO event (job_id, attempt, at, level, kind, message, data)
  SELECT id, attempt, NEW.updated_at, 'info', 'stage', stage, json_object('index', stage_index, 'count', stage_count)
  FROM job WHERE id = NEW.id;
END;

-- What the last phase has made, a parent without work of its own has made: the files of all, and the result of an only
-- one. Where two children share a name, each name gets its child's key in front.
CREATE TRIGGER job_family_completed AFTER UPDATE OF status ON job
WHEN OLD.status = 'waiting_children' AND NEW.status = 'completed' AND NOT NEW.own_work
BEGIN
  UPDATE job SET
    outputs = (
      SELECT json_group_array(json_set(o.value, '$.name', CASE
          WHEN EXISTS (SELECT 1 FROM job AS s, json_each(s.outputs) AS t
            WHERE s.parent_id = NEW.id AND s.phase = 'post' AND s.id <> c.id
              AND t.value ->> 'name' = o.value ->> 'name')
          THEN c.child_key || '.' || (o.value ->> 'name') ELSE o.value ->> 'name' END))
      FROM job AS c, json_each(c.outputs) AS o WHERE c.parent_id = NEW.id AND c.phase = 'post'),
    result = CASE WHEN (SELECT COUNT(*) FROM job WHERE parent_id = NEW.id AND phase = 'post') = 1
      THEN (SELECT result FROM job WHERE parent_id = NEW.id AND phase = 'post') END
  WHERE id = NEW.id;
END;
