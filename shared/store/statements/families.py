"""What a family owes after one of its jobs moved: children to stop, a phase to open, a parent to settle."""

from __future__ import annotations

from shared.store.statements.parts import CANCELLED, LEFT, NOW, percent

_TO_CASCADE = "stopping = 1"
_TO_ADVANCE = f"""stopping = 0 AND status NOT IN ('waiting', 'scheduled') AND {LEFT} > 0
  AND CASE open_phase WHEN 0 THEN pre_left WHEN 1 THEN core_left WHEN 2 THEN post_left ELSE 0 END = 0"""
_TO_SETTLE = f"status = 'waiting_children' AND {LEFT} = 0"
#: Whether any family owes something: a look at three indexes that are nearly always empty.
OWED = f"""
SELECT 1 WHERE EXISTS (SELECT 1 FROM job WHERE {_TO_CASCADE})
  OR EXISTS (SELECT 1 FROM job WHERE {_TO_ADVANCE}) OR EXISTS (SELECT 1 FROM job WHERE {_TO_SETTLE})
"""
CASCADE = f"UPDATE job SET stopping = 2, updated_at = {NOW} WHERE {_TO_CASCADE}"
ADVANCE = f"""
UPDATE job SET open_phase = CASE WHEN pre_left > 0 THEN 0 WHEN core_left > 0 THEN 1 ELSE 2 END, updated_at = {NOW}
WHERE {_TO_ADVANCE}
"""
SETTLE = f"""
UPDATE job SET
  status = CASE WHEN cancel_requested_at IS NOT NULL THEN 'cancelled'
    WHEN COALESCE(error, child_error) IS NOT NULL THEN 'failed' ELSE 'completed' END,
  error = CASE WHEN cancel_requested_at IS NOT NULL THEN {CANCELLED} ELSE COALESCE(error, child_error) END,
  progress = CASE WHEN cancel_requested_at IS NULL AND COALESCE(error, child_error) IS NULL THEN 100.0
    WHEN own_work THEN progress ELSE {percent("job")} END,
  overall = CASE WHEN cancel_requested_at IS NULL AND COALESCE(error, child_error) IS NULL THEN 100.0 ELSE overall END,
  completed_at = {NOW}, updated_at = {NOW}
WHERE {_TO_SETTLE}
"""
