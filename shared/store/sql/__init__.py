"""The job store in SQL: the verbs of each subject, put together in one class."""

from __future__ import annotations

from shared.store.sql.batches import Bound, Statement
from shared.store.sql.store import SqlJobStore

__all__ = ["Bound", "SqlJobStore", "Statement"]
