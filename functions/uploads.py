"""The upload routes: a place for the bytes, and the word that they are all there."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from functions.call import Call, answer
from functions.models import NoQuery, UploadRequest
from functions.sources import completed
from functions.view import UploadTargetView, UploadView, asset_view, part_view
from shared.errors import Conflict, NotFound
from shared.job import new_id
from shared.storage.protocol import UploadPart
from shared.store.values import Asset

#: Time to begin sending; an upload that has begun may take as long as it needs.
_BEGIN_S = 3600
#: A link to an upload outlives a long listen, and little more.
_LINK_S = 3600


def begin(call: Call[NoQuery, UploadRequest]) -> Response:
    """Remember an upload and say where its bytes go."""
    file = call.body
    asset = call.store.add_asset(
        Asset(
            id=new_id(),
            owner=call.caller,
            filename=file.filename,
            content_type=file.content_type,
            size_bytes=file.size_bytes,
            state="uploading",
        )
    )
    return answer(_where(call, asset, _begin_parts(call, asset)), 201)


def resume(call: Call[NoQuery, None]) -> Response:
    """What an upload still lacks, at fresh addresses."""
    asset = _asset(call)
    if asset.state == "ready":
        raise Conflict("This upload is already complete; it cannot be written twice.")
    parts = call.storage.missing_parts(asset.key, size_bytes=asset.size_bytes, expires_s=_BEGIN_S)
    return answer(_where(call, asset, _begin_parts(call, asset) if parts is None else parts))


def show(call: Call[NoQuery, None]) -> Response:
    """An upload, with an address where its bytes are for a while."""
    asset = _asset(call)
    if asset.state != "ready":
        return answer(asset_view(asset))
    url = call.storage.download_url(
        asset.key, filename=asset.filename, content_type=asset.content_type, expires_s=_LINK_S
    )
    return answer(asset_view(asset, call.absolute(url)))


def complete(call: Call[NoQuery, None]) -> Response:
    """The upload, once all its bytes are there."""
    return answer(asset_view(completed(_asset(call), call.store, call.storage)))


def delete(call: Call[NoQuery, None]) -> Response:
    """Delete an upload that no unfinished job needs."""
    asset = _asset(call, also_deleting=True)
    # The file before its row: when this is cut short, the same request deletes the rest, or the janitor does.
    call.store.give_up_asset(asset.id)
    call.storage.delete_prefix(asset.key)
    call.store.forget_asset(asset.id)
    return Response(status_code=204)


def _begin_parts(call: Call[NoQuery, Any], asset: Asset) -> tuple[UploadPart, ...] | None:
    return call.storage.begin_parts(
        asset.key, size_bytes=asset.size_bytes, content_type=asset.content_type, expires_s=_BEGIN_S
    )


def _where(call: Call[NoQuery, Any], asset: Asset, parts: tuple[UploadPart, ...] | None) -> UploadView:
    """Where the bytes go: the parts, or everything in one request."""
    if parts is not None:
        return UploadView(asset=asset.id, parts=[part_view(part) for part in parts])
    target = call.storage.upload_target(
        asset.key, size_bytes=asset.size_bytes, content_type=asset.content_type, expires_s=_BEGIN_S
    )
    upload = UploadTargetView(method=target.method, url=call.absolute(target.url), headers=target.headers)
    return UploadView(asset=asset.id, upload=upload)


def _asset(call: Call[NoQuery, None], *, also_deleting: bool = False) -> Asset:
    asset = call.store.asset(call.id)
    deleting = asset is not None and asset.state == "deleting" and not also_deleting
    if asset is None or asset.owner != call.caller or deleting:
        raise NotFound(f"There is no upload {call.id}; begin with POST /api/uploads.")
    return asset
