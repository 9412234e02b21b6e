-- Sessions of agents. Each message of a person is a job; what was said, by both, is in the history, where every job's is.

CREATE TABLE session (
  id TEXT PRIMARY KEY,
  place INTEGER NOT NULL,        -- rises with every message of a person: the session that was used last is the highest
  program TEXT NOT NULL,
  title TEXT,
  params TEXT NOT NULL,
  caller TEXT NOT NULL,
  idempotency_key TEXT,
  request_hash TEXT,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX session_place ON session (place);
CREATE UNIQUE INDEX session_idempotency ON session (caller, idempotency_key) WHERE idempotency_key IS NOT NULL;

-- Whose message it is; empty for all other lines. What is said in a session is read in one walk, however many jobs it took.
ALTER TABLE event ADD COLUMN session_id TEXT;
CREATE INDEX event_session ON event (session_id, id) WHERE session_id IS NOT NULL;

-- All that a job of another type pays for sessions is that these two do not hold it.
CREATE INDEX job_session ON job (session_id, seq) WHERE session_id IS NOT NULL;
CREATE UNIQUE INDEX job_session_active ON job (session_id)
  WHERE session_id IS NOT NULL AND status NOT IN ('completed', 'failed', 'dead_letter', 'cancelled');

CREATE TRIGGER job_turn AFTER INSERT ON job WHEN NEW.session_id IS NOT NULL
BEGIN
  INSERT INTO event (job_id, attempt, at, level, kind, message, data, session_id)
  VALUES (NEW.id, 0, NEW.created_at, 'info', 'message', NEW.params ->> 'text',
    json_object('role', 'user', 'assets', json(COALESCE(NEW.params -> 'assets', '[]'))), NEW.session_id);
  UPDATE session SET place = (SELECT MAX(place) FROM session) + 1, updated_at = NEW.created_at
  WHERE id = NEW.session_id;
END;
