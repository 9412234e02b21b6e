"""Uploads."""

from __future__ import annotations

from shared.errors import Conflict, NotFound
from shared.store.rows import to_asset
from shared.store.sql.batches import Batches, Statement
from shared.store.statements import assets
from shared.store.values import Asset


class AssetVerbs(Batches):
    """Uploads from their beginning to their end."""

    def add_asset(self, asset: Asset) -> Asset:
        """Remember an upload that is about to begin; repeats are safe."""
        params = {name: getattr(asset, name) for name in ("id", "owner", "filename", "content_type", "size_bytes")}
        return to_asset(
            self._run([Statement(assets.ADD_ASSET, params), Statement(assets.ASSET, {"id": asset.id})])[1][0]
        )

    def asset_ready(self, asset_id: str, *, sha256: str | None) -> Asset:
        """The bytes are all there."""
        rows = self._run([Statement(assets.ASSET_READY, {"id": asset_id, "sha256": sha256})])[0]
        if not rows:
            raise NotFound(f"There is no upload {asset_id}; begin with POST /api/uploads.")
        return to_asset(rows[0])

    def asset(self, asset_id: str) -> Asset | None:
        """An upload by id."""
        rows = self._read([Statement(assets.ASSET, {"id": asset_id})])[0]
        return to_asset(rows[0]) if rows else None

    def give_up_asset(self, asset_id: str) -> None:
        """No job may begin to need an upload any more. Raises `Conflict` while an unfinished one does."""
        _, left = self._run(
            [Statement(assets.ASSET_GIVEN_UP, {"id": asset_id}), Statement(assets.ASSET, {"id": asset_id})]
        )
        if left and left[0]["state"] != "deleting":
            raise Conflict(f"Upload {asset_id} is needed by an unfinished job; cancel that job first.")

    def forget_asset(self, asset_id: str) -> None:
        """Forget an upload that was given up and whose file is deleted."""
        self._run([Statement(assets.ASSET_FORGOTTEN, {"id": asset_id})])
