"""PEP 249 over the Hrana client, as far as SQLAlchemy needs it. Every statement commits by itself, in one request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from shared.errors import Busy, Refused, Unavailable
from shared.store.hrana import Hrana, Result, Value

apilevel = "2.0"
threadsafety = 2
paramstyle = "qmark"
#: What libSQL servers are built on; SQLAlchemy decides by it what it may write.
sqlite_version_info = (3, 45, 1)
sqlite_version = "3.45.1"
Binary = bytes


class Error(Exception):
    """The root of this module's errors."""


class InterfaceError(Error):
    """The cursor was used in a way that cannot be answered."""


class DatabaseError(Error):
    """The database did not do what was asked."""


class DataError(DatabaseError):
    """A value cannot be stored."""


class OperationalError(DatabaseError):
    """The database cannot be reached, is busy, or does not understand the statement."""


class IntegrityError(DatabaseError):
    """A constraint or trigger refused a write."""


class InternalError(DatabaseError):
    """Never raised; PEP 249 wants the name."""


class ProgrammingError(DatabaseError):
    """A parameter is of a type that no column takes."""


class NotSupportedError(DatabaseError):
    """Never raised; PEP 249 wants the name."""


class Connection:
    """A way to the database; all connections of a client share its sockets."""

    def __init__(self, client: Hrana) -> None:
        self.client = client

    def cursor(self) -> Cursor:
        """A cursor."""
        return Cursor(self.client)

    def commit(self) -> None:
        """Nothing to do: every statement was committed when it was answered."""

    def rollback(self) -> None:
        """Nothing to undo, for the same reason."""

    def close(self) -> None:
        """Nothing to let go of: the client keeps its sockets."""


class Cursor:
    """Runs statements and holds the rows of the last one."""

    arraysize = 1

    def __init__(self, client: Hrana) -> None:
        self._client = client
        self._rows: Iterator[tuple[Value, ...]] = iter(())
        self.description: list[tuple[Any, ...]] | None = None
        self.rowcount = -1
        self.lastrowid: int | None = None

    def execute(self, statement: str, parameters: Sequence[Value] = ()) -> Cursor:
        """Run one statement."""
        (result,) = self._run([(statement, tuple(parameters))], None)
        self._rows = iter(result.values)
        columns = [(name, None, None, None, None, None, None) for name in result.columns]
        self.description = columns or None
        self.rowcount = result.affected
        self.lastrowid = result.last_id
        return self

    def executemany(self, statement: str, rows: Sequence[Sequence[Value]]) -> Cursor:
        """Run one statement with many rows of parameters: all or none, in one request."""
        results = self._run([(statement, tuple(row)) for row in rows], "IMMEDIATE") if rows else []
        self._rows, self.description = iter(()), None
        self.rowcount = sum(result.affected for result in results)
        return self

    def fetchone(self) -> tuple[Value, ...] | None:
        """The next row, None at the end."""
        return next(self._rows, None)

    def fetchmany(self, size: int | None = None) -> list[tuple[Value, ...]]:
        """The next rows."""
        return [row for row, _ in zip(self._rows, range(size or self.arraysize), strict=False)]

    def fetchall(self) -> list[tuple[Value, ...]]:
        """The rows that are left."""
        return list(self._rows)

    def __iter__(self) -> Iterator[tuple[Value, ...]]:
        return self._rows

    def setinputsizes(self, sizes: Sequence[Any]) -> None:
        """Nothing to do; PEP 249 wants it."""

    def setoutputsize(self, size: int, column: int | None = None) -> None:
        """Nothing to do; PEP 249 wants it."""

    def close(self) -> None:
        """Forget the rows."""
        self._rows = iter(())

    def _run(self, statements: Sequence[tuple[str, tuple[Value, ...]]], mode: str | None) -> list[Result]:
        try:
            return self._client.batch(statements, mode)
        except Refused as error:
            kind = IntegrityError if "constraint" in error.message or "illegal move" in error.message else DataError
            raise kind(error.message) from error
        except (Busy, Unavailable) as error:
            raise OperationalError(error.message) from error
        except TypeError as error:
            raise ProgrammingError(str(error)) from error


def connect(*, client: Hrana) -> Connection:
    """A connection over a client."""
    return Connection(client)
