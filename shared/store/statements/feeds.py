"""Statements of what `collect` remembers: when its sources last changed, and which items are taken care of."""

from __future__ import annotations

from shared.store.statements import owners
from shared.store.statements.parts import NOW

_OWNER = f"EXISTS ({owners.OWNER})"
FEED = "SELECT etag, last_modified FROM feed WHERE caller = :caller AND url = :url"
#: Which of these items are taken care of.
SEEN = """
SELECT k.value AS item FROM json_each(:items) AS k JOIN seen ON seen.caller = :caller AND seen.item = k.value
"""
VISITED = f"""
INSERT INTO feed (caller, url, etag, last_modified, read_at)
SELECT :caller, :url, :etag, :last_modified, {NOW} WHERE {_OWNER}
ON CONFLICT (caller, url) DO UPDATE SET
  etag = excluded.etag, last_modified = excluded.last_modified, read_at = excluded.read_at
"""
#: Whoever comes first has an item; the same parent may come again.
TAKE = f"""
INSERT INTO seen (caller, item, job_id, at)
SELECT :caller, value, :id, {NOW} FROM json_each(:items) WHERE {_OWNER}
ON CONFLICT DO NOTHING
"""
