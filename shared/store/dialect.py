"""SQLAlchemy on libSQL servers: `create_engine("sqlite+hrana://:TOKEN@host")` for sessions, reflection and scripts.

Each statement is one request and commits by itself, so `Session.rollback()` undoes nothing that was sent. What must
happen together goes through a job store's batch instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from sqlalchemy import URL, Connection, NullPool, Pool
from sqlalchemy.dialects.sqlite.base import SQLiteDialect

from shared.store import dbapi
from shared.store.hrana import Hrana

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import (
        ConnectArgsType,
        DBAPIConnection,
        DBAPICursor,
        IsolationLevel,
        PoolProxiedConnection,
    )


class HranaDialect(SQLiteDialect):
    """SQLite's SQL over Hrana.

    The password of the address is the token; `?tls=false` is for a server on this machine, `?ca_certs=` names a file of
    authorities to trust.
    """

    driver = "hrana"
    default_paramstyle = "qmark"
    supports_statement_cache = True

    @classmethod
    def import_dbapi(cls) -> ModuleType:
        """The PEP 249 module."""
        return dbapi

    @classmethod
    def get_pool_class(cls, url: URL) -> type[Pool]:
        """Connections are made of nothing, so none are kept; the sockets live in the client."""
        return NullPool

    def create_connect_args(self, url: URL) -> ConnectArgsType:
        """One client for all connections of an engine."""
        query = dict(url.query)
        scheme = "http" if query.pop("tls", "true") == "false" else "https"
        ca_certs = query.pop("ca_certs", None)
        address = f"{scheme}://{url.host}{f':{url.port}' if url.port else ''}/{url.database or ''}"
        return [], {"client": Hrana(address, url.password, ca_certs=str(ca_certs) if ca_certs else None)}

    def get_isolation_level_values(self, dbapi_conn: DBAPIConnection) -> Sequence[IsolationLevel]:
        """There is one way to run statements."""
        return ["AUTOCOMMIT"]

    def get_default_isolation_level(self, dbapi_conn: DBAPIConnection) -> IsolationLevel:
        """Known without asking the server."""
        return "AUTOCOMMIT"

    def get_isolation_level(self, dbapi_connection: DBAPIConnection) -> IsolationLevel:
        """Known without asking the server."""
        return "AUTOCOMMIT"

    def set_isolation_level(self, dbapi_connection: DBAPIConnection, level: IsolationLevel) -> None:
        """Nothing to do."""

    def is_disconnect(
        self,
        e: Exception,
        connection: PoolProxiedConnection | DBAPIConnection | None,
        cursor: DBAPICursor | None,
    ) -> bool:
        """A connection holds nothing that could be lost."""
        return False

    def _get_server_version_info(self, connection: Connection) -> tuple[int, ...]:
        return dbapi.sqlite_version_info
