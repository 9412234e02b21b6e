"""Statements of API keys, and of what a caller may spend."""

from __future__ import annotations

from shared.store.statements.parts import HELD, NOW

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
