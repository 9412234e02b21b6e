"""Statements that tell which migrations a database has."""

from __future__ import annotations

from shared.store.statements.parts import NOW

MIGRATION_TABLE = "CREATE TABLE IF NOT EXISTS migration (name TEXT PRIMARY KEY, applied_at INTEGER NOT NULL)"
MIGRATIONS = "SELECT name FROM migration"
MIGRATED = f"INSERT INTO migration VALUES (:name, {NOW})"
