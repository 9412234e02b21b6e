"""What the janitor does on every tick."""

from __future__ import annotations

from collections.abc import Sequence

from shared.job import Job
from shared.store.sql.batches import Batches, Statement
from shared.store.statements import janitor


class JanitorVerbs(Batches):
    """Lost owners, due jobs, and families that are owed something."""

    def reap(self) -> Sequence[Job]:
        """Take jobs whose lease has run out from their owners; each costs its job one failure."""
        return [Job.from_row(row) for row in self._run_families([Statement(janitor.REAP)])[0]]

    def tend(self) -> None:
        """Promote due jobs and finish what a family still owes."""
        self._run_families([Statement(janitor.PROMOTE), Statement(janitor.PARENT_TIMEOUT)])
