"""SQLAlchemy and SQLModel over a real libSQL server, on the tables that the queue has."""

import datetime

import pytest
from sqlalchemy import JSON, Column, DateTime, LargeBinary, exc, inspect
from sqlmodel import Field, Session, SQLModel, create_engine, select, update

from shared.schema import TABLES, AssetRow, JobRow
from shared.store.hrana import Hrana
from shared.store.turso import TursoJobStore
from tests.contract.factory import create
from tests.real.authority import Authority, Tokens
from tests.real.proxy import Proxy
from tests.real.sqld import Sqld


class Scratch(SQLModel, table=True):
    """A table with the kinds of column that the queue has not."""

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    number: int = 0
    content: bytes = Field(default=b"", sa_column=Column(LargeBinary))
    at: datetime.datetime | None = Field(default=None, sa_column=Column(DateTime))
    extra: dict = Field(default_factory=dict, sa_column=Column(JSON))


@pytest.fixture
def proxy(tmp_path):
    """An empty database whose requests are counted."""
    with Sqld(tmp_path) as server, Proxy(server.url) as proxy:
        yield proxy


@pytest.fixture
def engine(proxy):
    """An engine by its address alone: the entry point names the dialect."""
    return create_engine(f"{proxy.url.replace('http', 'sqlite+hrana')}/?tls=false")


def test_the_queues_tables_can_be_made_and_reflected(engine):
    """create_all, and every column comes back."""
    tables = [table.__table__ for table in TABLES]
    SQLModel.metadata.create_all(engine, tables=tables)
    found = inspect(engine)
    for table in tables:
        assert {column["name"] for column in found.get_columns(table.name)} == set(table.columns.keys())
    assert found.get_pk_constraint("asset")["constrained_columns"] == ["id"]


def test_a_session_writes_and_reads_rows(engine, proxy):
    """Insert, get, select, update and delete; every statement is one request."""
    SQLModel.metadata.create_all(engine, tables=[Scratch.__table__])
    at = datetime.datetime(2026, 11, 22, 1, 2, 3)  # noqa: DTZ001 - SQLite stores no zone
    with Session(engine) as session:
        row = Scratch(name="a\u2028🎙\0", number=2**53 + 1, content=b"\0\xff", at=at, extra={"k": [1, None]})
        session.add(row)
        before = proxy.requests
        session.commit()
        assert proxy.requests == before + 1
        session.expunge_all()
        found = session.get(Scratch, 1)
        assert (found.name, found.number, found.content) == ("a\u2028🎙\0", 2**53 + 1, b"\0\xff")
        assert (found.at, found.extra) == (at, {"k": [1, None]})
        session.add_all(Scratch(name=str(number), number=number) for number in range(5))
        session.commit()
        assert session.exec(select(Scratch.number).where(Scratch.number < 3).order_by(Scratch.number)).all() == [
            0,
            1,
            2,
        ]
        changed = session.exec(update(Scratch).where(Scratch.number < 3).values(number=9).returning(Scratch.name))
        assert sorted(changed.scalars()) == ["0", "1", "2"]
        session.delete(session.exec(select(Scratch).where(Scratch.name == "4")).one())
        session.commit()
        assert len(session.exec(select(Scratch)).all()) == 5


def test_a_broken_constraint_is_an_integrity_error(engine):
    """As on any other database, and the session goes on."""
    SQLModel.metadata.create_all(engine, tables=[Scratch.__table__])
    with Session(engine) as session:
        session.add(Scratch(name="one"))
        session.commit()
        session.add(Scratch(name="one"))
        with pytest.raises(exc.IntegrityError, match="UNIQUE"):
            session.commit()
        session.rollback()
        assert len(session.exec(select(Scratch)).all()) == 1


def test_a_statement_that_cannot_run_is_an_operational_error(engine):
    """So is a server that does not answer."""
    with Session(engine) as session, pytest.raises(exc.OperationalError, match="no such table"):
        session.exec(select(Scratch)).all()
    with Proxy("http://127.0.0.1:9") as gone:
        away = create_engine(f"{gone.url.replace('http', 'sqlite+hrana')}/?tls=false")
    with pytest.raises(exc.OperationalError, match="does not answer"), Session(away) as session:
        session.exec(select(Scratch)).all()


def test_many_rows_are_one_request_and_all_or_none(engine, proxy):
    """executemany is a batch."""
    SQLModel.metadata.create_all(engine, tables=[Scratch.__table__])
    before = proxy.requests
    rows = [{"name": str(number), "number": number} for number in range(100)]
    with engine.connect() as connection:
        connection.execute(Scratch.__table__.insert(), rows)
        assert proxy.requests == before + 1
        with pytest.raises(exc.IntegrityError):
            connection.execute(Scratch.__table__.insert(), [{"name": "new", "number": 1}, {"name": "7", "number": 1}])
        assert connection.exec_driver_sql("SELECT COUNT(*) FROM scratch WHERE name = 'new'").scalar() == 0


def test_a_script_reads_the_queue_behind_tls_and_a_token(tmp_path):
    """The row class sees what the job store wrote."""
    authority, tokens = Authority(tmp_path / "tls"), Tokens(tmp_path / "tls")
    options = ("--auth-jwt-key-file", str(tokens.key_file))
    with Sqld(tmp_path / "sqld", *options) as server, Proxy(server.url, tls=authority.context) as proxy:
        token = tokens.sign(a="rw")
        store = TursoJobStore(Hrana(proxy.url, token, ca_certs=str(authority.ca_file)))
        store.migrate()
        job = create(store)
        store.close()
        place = proxy.url.removeprefix("https://")
        engine = create_engine(f"sqlite+hrana://:{token}@{place}/?ca_certs={authority.ca_file}")
        with Session(engine) as session:
            row = session.exec(select(JobRow).where(JobRow.id == job.id)).one()
            assert (row.seq, row.status, row.created_at) == (job.seq, "pending", job.created_at)
            assert session.exec(select(AssetRow)).all() == []
        assert token not in str(engine.url)
