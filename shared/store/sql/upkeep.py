"""The maintenance of the database itself."""

from __future__ import annotations

import json
from collections.abc import Sequence

from shared.store.rows import to_upkeep
from shared.store.sql.batches import Batches, Bound, Statement
from shared.store.statements import integrity, upkeep
from shared.store.values import Upkeep


class UpkeepVerbs(Batches):
    """When duties were done, and what they ask of the database."""

    def upkeep(self) -> Sequence[Upkeep]:
        """When each duty of maintenance was last done."""
        return [to_upkeep(row) for row in self._read([Statement(upkeep.UPKEEP)])[0]]

    def vacuum(self, pages: int) -> int | None:
        """None: a server keeps its own disk."""
        del pages
        return None

    def integrity(self) -> Sequence[str]:
        """What is wrong with the database, in sentences."""
        found = self._read([Statement(text) for text in integrity.CHECKS])
        return [row["wrong"] for rows in found for row in rows]

    def kept_outputs(self, job_ids: Sequence[str], *, ended_before_s: float) -> dict[str, frozenset[str] | None]:
        """The keys of the files of jobs, by id."""
        params: Bound = {"ids": json.dumps(list(job_ids)), "age": int(ended_before_s * 1000)}
        rows = self._read([Statement(upkeep.KEPT_OUTPUTS, params)])[0]
        return {
            row["id"]: frozenset(output["key"] for output in json.loads(row["outputs"])) if row["settled"] else None
            for row in rows
        }
