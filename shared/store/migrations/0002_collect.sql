-- What `collect` remembers between its jobs. Kept for good: an entry is what keeps an old item from coming again.

CREATE TABLE feed (
  caller TEXT NOT NULL,
  url TEXT NOT NULL,
  etag TEXT,
  last_modified TEXT,
  read_at INTEGER NOT NULL,
  PRIMARY KEY (caller, url)
) WITHOUT ROWID;

CREATE TABLE seen (
  caller TEXT NOT NULL,
  item TEXT NOT NULL,
  job_id TEXT NOT NULL,
  at INTEGER NOT NULL,
  PRIMARY KEY (caller, item)
) WITHOUT ROWID;
