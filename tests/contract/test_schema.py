"""Row class, tables and migrations describe the same columns."""

import dataclasses

import pytest
from sqlmodel import create_engine, inspect

from shared.job import Job
from shared.schema import TABLES, JobRow
from shared.store.local import LocalJobStore
from shared.store.migrations import migrations


@pytest.fixture
def migrated(tmp_path):
    """A reflection of a database made by the migrations."""
    store = LocalJobStore(tmp_path / "spool.db")
    store.migrate()
    store.close()
    engine = create_engine(f"sqlite:///{tmp_path / 'spool.db'}")
    yield inspect(engine)
    engine.dispose()


@pytest.mark.parametrize("table", TABLES, ids=[table.__tablename__ for table in TABLES])
def test_the_sqlmodel_table_equals_the_migrated_one(migrated, table):
    """Names, types and nullability agree, column by column."""
    affinity = {"VARCHAR": "TEXT", "INTEGER": "INTEGER", "REAL": "REAL"}
    declared = {column.name: (affinity[str(column.type)], bool(column.nullable)) for column in table.__table__.columns}
    primary = {column.name for column in table.__table__.primary_key}
    found = {
        column["name"]: (str(column["type"]), column["name"] not in primary and column["nullable"])
        for column in migrated.get_columns(table.__tablename__)
    }
    assert found == declared


def test_a_job_has_every_column_of_its_row():
    """The read-only Job leaves out only what the queue keeps for itself, and adds only what reads tell besides."""
    fields = {field.name for field in dataclasses.fields(Job)}
    assert fields - {"ahead", "retried_as"} == set(JobRow.model_fields) - {"child_error"}


def test_migrations_are_numbered_without_gap():
    """Names begin 0001, 0002, …"""
    assert [int(name[:4]) for name in migrations()] == list(range(1, len(migrations()) + 1))
