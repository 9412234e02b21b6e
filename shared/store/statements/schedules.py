"""Statements of schedules. Only who takes a time, by one guarded UPDATE, makes the job for it."""

from __future__ import annotations

from shared.store.statements.parts import NOW, TERMINAL_LIST

SCHEDULES = f"SELECT *, {NOW} AS now FROM schedule ORDER BY name"
SCHEDULE = f"SELECT *, {NOW} AS now FROM schedule WHERE name = :name"
#: A change keeps what the schedule has done so far.
PUT = f"""
INSERT INTO schedule (name, cron, type, params, caller, created_at, due_at, paused_at, skipped)
VALUES (:name, :cron, :type, :params, :caller, {NOW}, :due_at, CASE WHEN :paused THEN {NOW} END, 0)
ON CONFLICT (name) DO UPDATE SET
  cron = excluded.cron, type = excluded.type, params = excluded.params, caller = excluded.caller,
  due_at = excluded.due_at, paused_at = CASE WHEN :paused THEN COALESCE(paused_at, {NOW}) END
"""
REMOVE = "DELETE FROM schedule WHERE name = :name RETURNING name"
_BUSY = f"EXISTS (SELECT 1 FROM job WHERE id = last_job_id AND status NOT IN {TERMINAL_LIST})"
#: Takes the time `due`, for the job `id`; the INSERT of the job that follows asks whether it was taken for it.
TAKE = f"""
UPDATE schedule SET
  due_at = :next, skipped = skipped + {_BUSY},
  last_at = CASE WHEN {_BUSY} THEN last_at ELSE {NOW} END,
  last_job_id = CASE WHEN {_BUSY} THEN last_job_id ELSE :id END
WHERE name = :name AND due_at = :due AND paused_at IS NULL
"""
RUN_NOW = f"UPDATE schedule SET last_at = {NOW}, last_job_id = :id WHERE name = :name"
