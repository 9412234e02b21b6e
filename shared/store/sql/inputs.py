"""What jobs read: uploads, files of other jobs, sources on the net."""

from __future__ import annotations

import json
from collections.abc import Sequence

from shared.job import Claim
from shared.store.rows import to_sources
from shared.store.sql.batches import Batches, Bound, Statement
from shared.store.sql.fences import fence, lost
from shared.store.statements import assets, feeds, owners, reading
from shared.store.values import Feed, Sources


class InputVerbs(Batches):
    """What there is of what jobs want to read."""

    def sources(
        self,
        asset_ids: Sequence[str] = (),
        job_ids: Sequence[str] = (),
        *,
        parent_id: str | None = None,
        child_keys: Sequence[str] = (),
    ) -> Sources:
        """What there is of these uploads, jobs and children of a parent, in one round trip; in none for nothing."""
        if not (asset_ids or job_ids or child_keys):
            return Sources()
        wanted = Statement(assets.ASSETS, {"ids": json.dumps(list(asset_ids))})
        uploads, jobs, children = self._read([wanted, *made(job_ids, child_keys, parent_id=parent_id)])
        return to_sources(jobs, children, uploads)

    def inputs(self, claim: Claim, job_ids: Sequence[str], child_keys: Sequence[str]) -> Sources:
        """The jobs, and the children of the running job's own parent, whose files it reads."""
        owned = Statement(owners.OWNER, fence(claim))
        owner, jobs, children = self._read([owned, *made(job_ids, child_keys, child_id=claim.job_id)])
        if not owner:
            raise lost(claim)
        return to_sources(jobs, children)

    def feed(self, caller: str, url: str) -> Feed | None:
        """What was said of a source when it was last read."""
        rows = self._read([Statement(feeds.FEED, {"caller": caller, "url": url})])[0]
        return Feed(rows[0]["etag"], rows[0]["last_modified"]) if rows else None

    def seen(self, caller: str, items: Sequence[str]) -> frozenset[str]:
        """Those of the items that a job takes care of, or that were passed over."""
        rows = self._read([Statement(feeds.SEEN, {"caller": caller, "items": json.dumps(items)})])[0]
        return frozenset(row["item"] for row in rows)


def made(
    job_ids: Sequence[str], child_keys: Sequence[str], *, parent_id: str | None = None, child_id: str | None = None
) -> tuple[Statement, Statement]:
    """The jobs, and the children of a parent, or of the parent that a child has."""
    siblings: Bound = {"keys": json.dumps(list(child_keys)), "parent": parent_id, "child": child_id}
    return Statement(reading.MADE, {"ids": json.dumps(list(job_ids))}), Statement(reading.SIBLINGS_MADE, siblings)
