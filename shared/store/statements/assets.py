"""Statements of uploads."""

from __future__ import annotations

from shared.store.statements.parts import HELD, NOW

#: Whether an unfinished job names the asset.
_NEEDED = f"""(
    EXISTS (SELECT 1 FROM job INDEXED BY job_pending WHERE status = 'pending' AND instr(params, asset.id) > 0)
    OR EXISTS (SELECT 1 FROM job INDEXED BY job_running WHERE status = 'running' AND instr(params, asset.id) > 0)
    OR EXISTS (SELECT 1 FROM job INDEXED BY job_held WHERE status IN {HELD} AND instr(params, asset.id) > 0))"""
ADD_ASSET = f"""
INSERT INTO asset (id, owner, filename, content_type, size_bytes, state, created_at)
VALUES (:id, :owner, :filename, :content_type, :size_bytes, 'uploading', {NOW}) ON CONFLICT DO NOTHING
"""
ASSET = "SELECT * FROM asset WHERE id = :id"
ASSETS = "SELECT * FROM asset WHERE id IN (SELECT value FROM json_each(:ids))"
ASSET_READY = """
UPDATE asset SET state = 'ready', sha256 = COALESCE(:sha256, sha256) WHERE id = :id AND state <> 'deleting' RETURNING *
"""
ASSET_GIVEN_UP = f"UPDATE asset SET state = 'deleting' WHERE id = :id AND NOT {_NEEDED}"
ASSET_FORGOTTEN = "DELETE FROM asset WHERE id = :id AND state = 'deleting'"
PRUNABLE_ASSETS = f"""
SELECT id FROM asset WHERE created_at < {NOW} - :age
  AND NOT {_NEEDED}
ORDER BY created_at LIMIT :limit
"""
PRUNE_ASSETS = f"""
DELETE FROM asset WHERE id IN (SELECT value FROM json_each(:ids))
  AND NOT {_NEEDED}
RETURNING id
"""
