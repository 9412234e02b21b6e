"""Statements of sessions. Their turns are jobs, and what was said is history: here is only what ties them together."""

from __future__ import annotations

from shared.store.statements.parts import NOW

#: How many of the last messages are looked through for a preview, what it shows, and how much of each.
_LOOKED_THROUGH, _SHOWN, _LENGTH = 50, 3, 500

#: Safe to repeat: the same id, or the same key, makes no second one.
ADD = f"""
INSERT INTO session (id, place, program, title, params, caller, idempotency_key, request_hash, created_at, updated_at)
SELECT :id, COALESCE((SELECT MAX(place) FROM session), 0) + 1, :program, :title, :params, :caller, :key, :hash, {NOW},
  {NOW}
WHERE true ON CONFLICT DO NOTHING
"""
#: What another attempt at the same turn said is no part of the conversation once that attempt is over.
_SAID = """FROM event AS e JOIN job AS j ON j.id = e.job_id
WHERE e.session_id = {session} AND (e.attempt = 0 OR e.attempt = j.attempt)"""
_PREVIEW = f"""(SELECT json_group_array(
    json_object('id', id, 'job_id', job_id, 'text', text, 'at', at, 'parts', parts)) FROM (
  SELECT * FROM (
      SELECT e.id, e.job_id, e.at, j.children_total AS parts,
        CASE WHEN LENGTH(e.message) > {_LENGTH} THEN substr(e.message, 1, {_LENGTH - 1}) || '…'
          ELSE e.message END AS text,
        e.data ->> 'role' AS role
      {_SAID.format(session="s.id")} ORDER BY e.id DESC LIMIT {_LOOKED_THROUGH})
  WHERE role = 'assistant' ORDER BY id DESC LIMIT {_SHOWN}))"""
_SESSION = f"""
SELECT s.*, j.id AS job_id, j.status AS job_status, j.error AS job_error, j.updated_at AS job_updated_at,
  j.children_total AS parts, j.children_done AS parts_done, j.children_failed AS parts_failed,
  j.cancel_requested_at IS NOT NULL AS cancelling, COALESCE(j.result ->> 'needs_input', 0) AS needs_input,
  {_PREVIEW} AS preview
FROM session AS s
LEFT JOIN job AS j ON j.seq = (SELECT seq FROM job WHERE session_id = s.id ORDER BY seq DESC LIMIT 1)
"""
BY_ID_OR_KEY = f"""
{_SESSION} WHERE s.id = :id
UNION ALL SELECT * FROM ({_SESSION} WHERE s.caller = :caller AND s.idempotency_key = :key AND s.id <> :id LIMIT 1)
"""
ONE = f"{_SESSION} WHERE s.id = :id"
LIST = f"{_SESSION} WHERE s.place < :before ORDER BY s.place DESC LIMIT :limit"
_MESSAGE = "SELECT e.id, e.job_id, e.message AS text, e.at, e.data, j.children_total AS parts"
MESSAGES_AFTER = f"{_MESSAGE} {_SAID.format(session=':id')} AND e.id > :after ORDER BY e.id LIMIT :limit"
MESSAGES_BEFORE = f"{_MESSAGE} {_SAID.format(session=':id')} AND e.id < :before ORDER BY e.id DESC LIMIT :limit"
#: A session goes when nothing was said in it for as long as jobs are kept; its turns go before it.
PRUNABLE = f"""
SELECT id FROM (SELECT * FROM session ORDER BY place LIMIT :limit) AS s
WHERE updated_at < {NOW} - :age AND NOT EXISTS (SELECT 1 FROM job WHERE session_id = s.id)
"""
PRUNE = """
DELETE FROM session WHERE id IN (SELECT value FROM json_each(:ids))
  AND NOT EXISTS (SELECT 1 FROM job WHERE session_id = session.id)
"""
