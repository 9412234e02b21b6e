"""Statements of maintenance: when its duties were done, and which files of jobs are still to be there."""

from __future__ import annotations

from shared.store.statements.parts import NOW

UPKEEP = f"SELECT *, {NOW} AS now FROM upkeep ORDER BY duty"
KEPT_OUTPUTS = f"""
SELECT id, outputs, COALESCE(completed_at < {NOW} - :age, 0) AS settled
FROM job WHERE id IN (SELECT value FROM json_each(:ids))
"""
