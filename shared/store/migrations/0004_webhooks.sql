-- Webhooks that are still to be delivered. A row is written with the job's end, in its transaction, and only for a job that
-- asked for one; it goes when the delivery has succeeded or is given up, which the job's history then tells.
CREATE TABLE webhook (
  job_id TEXT PRIMARY KEY,
  url TEXT NOT NULL,
  due_at INTEGER NOT NULL,       -- when it is to be sent; while a worker sends it, when another may take it over
  attempts INTEGER NOT NULL,
  leased INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX webhook_due ON webhook (due_at);

-- Receivers that answered 410 and are left alone until then.
CREATE TABLE webhook_gone (
  url TEXT PRIMARY KEY,
  gone_until INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TRIGGER job_webhook AFTER UPDATE OF status ON job
WHEN NEW.webhook_url IS NOT NULL AND OLD.status <> NEW.status
  AND NEW.status IN ('completed', 'failed', 'dead_letter', 'cancelled')
BEGIN
  INSERT INTO webhook (job_id, url, due_at, attempts, leased) VALUES (NEW.id, NEW.webhook_url, NEW.updated_at, 0, 0);
END;

-- A parent of nothing has ended when it is created. What a retry carries over has ended before, and was told then.
CREATE TRIGGER job_webhook_at_once AFTER INSERT ON job
WHEN NEW.webhook_url IS NOT NULL AND NEW.status = 'completed' AND NEW.parent_id IS NULL
BEGIN
  INSERT INTO webhook (job_id, url, due_at, attempts, leased) VALUES (NEW.id, NEW.webhook_url, NEW.created_at, 0, 0);
END;
