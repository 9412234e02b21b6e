"""The job store over any SQL database that runs a batch of statements atomically."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

from shared.store.protocol import JobStore, Watch
from shared.store.sql.access import AccessVerbs
from shared.store.sql.assets import AssetVerbs
from shared.store.sql.batches import Statement
from shared.store.sql.deletion import DeletionVerbs
from shared.store.sql.inputs import InputVerbs
from shared.store.sql.janitor import JanitorVerbs
from shared.store.sql.owners import OwnerVerbs
from shared.store.sql.schedules import ScheduleVerbs
from shared.store.sql.steering import SteeringVerbs
from shared.store.sql.upkeep import UpkeepVerbs
from shared.store.sql.webhooks import WebhookVerbs
from shared.store.statements import overview
from shared.store.values import Admission, Clocks


class SqlJobStore(
    SteeringVerbs,
    OwnerVerbs,
    InputVerbs,
    DeletionVerbs,
    JanitorVerbs,
    ScheduleVerbs,
    UpkeepVerbs,
    AssetVerbs,
    AccessVerbs,
    WebhookVerbs,
):
    """Implements `JobStore` with the statements of `shared/store/statements/`; each base has the verbs of one subject.

    An adapter says how a batch runs (`_run` and `_read`, see `Batches`), and what is abstract here.
    """

    @abstractmethod
    def migrate(self) -> Sequence[str]:
        """Apply the migrations that are missing."""

    @abstractmethod
    def pending_migrations(self) -> Sequence[str]:
        """The migrations that this database lacks."""

    @abstractmethod
    def copy_to(self, path: Path) -> None:
        """Write the queue, as it is at one moment, to a new SQLite file."""

    @abstractmethod
    def watch(self) -> Watch:
        """A watch on the queue."""

    @abstractmethod
    def close(self) -> None:
        """Let go of all connections."""

    def admitting(self, admission: Admission) -> JobStore:
        """This queue for one request, whose batches also carry what the request itself costs."""
        from shared.store.admitted import Admitted  # noqa: PLC0415 - it is made of this class

        return Admitted(self, admission)

    def check(self) -> int:
        """Read the database's clock (milliseconds UTC)."""
        return int(self._read([Statement(overview.CLOCK)])[0][0]["now"])

    def clocks(self) -> Clocks:
        """The database's clock, beside those of the workers' hosts."""
        return Clocks(**self._read([Statement(overview.CLOCKS)])[0][0])
