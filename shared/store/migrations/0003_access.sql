-- Who may call, how much, and what workers know about themselves.

-- A key stays when it is revoked: that there ever was one says that this queue is not only for its own machine.
CREATE TABLE api_key (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,            -- whose it is; two of one name may live at once, so that one can replace the other
  hash TEXT NOT NULL,            -- sha256 of the whole key, in hexadecimal digits; the key itself is kept nowhere
  scopes TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  last_used_at INTEGER,
  revoked_at INTEGER
) WITHOUT ROWID;

-- What each caller has spent. Both limits are one row, so that a request costs one written row and no round trip.
CREATE TABLE budget (
  caller TEXT PRIMARY KEY,
  spent_until INTEGER NOT NULL,  -- microseconds UTC: when all of the rate limit is there again
  waiting INTEGER NOT NULL,      -- at least as many unfinished jobs as wait; counted anew when it reaches the limit
  refused TEXT
) WITHOUT ROWID;

CREATE TRIGGER budget_refused AFTER UPDATE ON budget WHEN NEW.refused IS NOT NULL
BEGIN
  SELECT CASE NEW.refused
    WHEN 'rate' THEN RAISE(ABORT, 'over the limit: rate') ELSE RAISE(ABORT, 'over the limit: waiting') END;
END;

CREATE TRIGGER budget_refused_at_once AFTER INSERT ON budget WHEN NEW.refused IS NOT NULL
BEGIN
  SELECT RAISE(ABORT, 'over the limit: waiting');
END;

-- Counters and measurements of the worker's process since its start, for GET /metrics; it goes with the heartbeat.
ALTER TABLE worker ADD COLUMN metrics TEXT NOT NULL DEFAULT '{}';
