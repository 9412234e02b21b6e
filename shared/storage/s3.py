"""Storage in an S3 bucket: AWS, R2, B2, MinIO, or whatever else speaks the same API.

boto3 is loaded at first use, so that a process which only serves pages never pays for it.
"""

from __future__ import annotations

import base64
import hashlib
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from functools import cached_property, partial
from pathlib import Path
from threading import Lock
from typing import Any

import urllib3

from shared.errors import NotFound, SpoolError, Unavailable
from shared.settings import S3Place
from shared.storage.protocol import (
    Stored,
    TransferProgress,
    UploadPart,
    UploadTarget,
    are_plain,
    disposition,
    segments_of,
)
from shared.storage.s3_faults import clock_fault, explained, fault_in, unreachable
from shared.storage.slices import CheckedFile, Slice, read_sums
from shared.storage.watched import Moving, watched

#: Above this a file travels in parts: a client's by the contract of `POST /api/uploads`, and so do ours.
PARTS_ABOVE = 100_000_000
#: Large files have larger parts, so that announcing 20 GB takes 250 signatures and not thousands.
PART_BYTES, MOST_PARTS = 16 << 20, 250
_AT_ONCE = 4
_CHUNK = 1 << 20
#: A download that breaks so often in a row without a byte in between is given up.
_BREAKS = 5
#: Servers refuse signatures that are 15 minutes off, and links of an hour lose what the clock is slow.
_CLOCK_OFF_S = 300
_SHA256 = "sha256"


class S3Storage:
    """A bucket by presigned requests for clients and signed ones for workers. May be used from several threads.

    Files are whole by nature: a PUT or the joining of parts replaces in one step. `sha256` is kept as metadata of
    what Spool puts; what clients upload has none until a worker has read it.
    """

    def __init__(self, place: S3Place, *, parts_above: int = PARTS_ABOVE, part_bytes: int = PART_BYTES) -> None:
        self.place = place
        self._parts_above, self._part_bytes = parts_above, part_bytes
        self._lock = Lock()

    # --- uploads of clients ----------------------------------------------------------------------------------
    @property
    def origin(self) -> str:
        """Where presigned requests go."""
        if self.place.endpoint_url is not None:
            return self.place.endpoint_url
        bucket = "" if "." in self.place.bucket else f"{self.place.bucket}."
        suffix = ".cn" if self.place.region.startswith("cn-") else ""
        return f"https://{bucket}s3.{self.place.region}.amazonaws.com{suffix}"

    def upload_target(self, key: str, *, size_bytes: int, content_type: str, expires_s: int) -> UploadTarget:
        """A presigned PUT for exactly `size_bytes` of `content_type`, once; anything else is refused there."""
        params: dict[str, Any] = {"ContentLength": size_bytes, "ContentType": content_type}
        headers = {"Content-Type": content_type}
        if self.place.write_once:
            params["IfNoneMatch"] = headers["If-None-Match"] = "*"
        return UploadTarget("PUT", self._sign("put_object", key, expires_s, params), headers)

    def begin_parts(
        self, key: str, *, size_bytes: int, content_type: str, expires_s: int
    ) -> tuple[UploadPart, ...] | None:
        """Presigned PUTs of exactly each part's size; None up to 100 MB."""
        if size_bytes <= self._parts_above:
            return None
        with explained(self.place):
            begun = self._client.create_multipart_upload(**self._at(key), ContentType=content_type)
        return self._parts(key, begun["UploadId"], size_bytes, expires_s, {})

    def missing_parts(self, key: str, *, size_bytes: int, expires_s: int) -> tuple[UploadPart, ...] | None:
        """Fresh places for the parts that are not there yet; None where none was begun."""
        upload_id = self._begun(key) if size_bytes > self._parts_above else None
        if upload_id is None:
            return None
        return self._parts(key, upload_id, size_bytes, expires_s, self._there(key, upload_id))

    def join_parts(self, key: str, *, size_bytes: int) -> Stored | None:
        """Make one file of the parts, which the server itself lists: clients need not remember what they sent."""
        upload_id = self._begun(key) if size_bytes > self._parts_above else None
        if upload_id is None:
            return None
        there = self._there(key, upload_id)
        if self._parts(key, upload_id, size_bytes, 60, there):
            return None
        once = {"IfNoneMatch": "*"} if self.place.write_once else {}
        parts = [{"PartNumber": number, "ETag": there[number]["ETag"]} for number in sorted(there)]
        with explained(self.place):
            self._client.complete_multipart_upload(
                **self._at(key), UploadId=upload_id, MultipartUpload={"Parts": parts}, **once
            )
        return self.stat(key)

    # --- files -----------------------------------------------------------------------------------------------
    def stat(self, key: str) -> Stored | None:
        """What is stored under the key, or None. A half-finished upload is not there."""
        at = self._at(key)
        try:
            with explained(self.place):
                return _stored(key, self._client.head_object(**at))
        except NotFound:
            return None

    def fetch(self, key: str, path: Path, progress: TransferProgress) -> Stored:
        """Copy a stored file to `path`, going on where a connection broke; `sha256` of the result is always set.

        An `OSError` is the target's, such as a full disk there.
        """
        return watched([partial(self._download, key, path)], None, progress)[0]

    def put(self, path: Path, key: str, *, content_type: str, progress: TransferProgress) -> Stored:
        """Store a file under the key, whole or not at all, in place of what was there; the server checks each byte."""
        size = path.stat().st_size
        in_parts = size > self._parts_above
        piece = _part_size(size, self._part_bytes) if in_parts else max(size, 1)
        file = read_sums(path, size, piece, lambda: progress(0, size))
        made = {**self._at(key), "ContentType": content_type, "Metadata": {_SHA256: file.sha256}}
        if in_parts:
            self._put_parts(file, made, progress)
        else:
            watched([partial(self._put_whole, file, made)], size, progress)
        return Stored(key, size, content_type, file.sha256)

    def download_url(self, key: str, *, filename: str, content_type: str, expires_s: int) -> str:
        """A time-limited URL that answers Range requests and names the file for a browser."""
        answer = {"ResponseContentDisposition": disposition(filename), "ResponseContentType": content_type}
        return self._sign("get_object", key, expires_s, answer)

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys of all files below a folder such as `outputs/`."""
        before = len(self._name(""))
        where = {"Bucket": self.place.bucket, "Prefix": self._name(prefix)}
        with explained(self.place):
            for page in self._client.get_paginator("list_objects_v2").paginate(**where):
                yield from (item["Key"][before:] for item in page.get("Contents", ()))

    def delete_prefix(self, prefix: str) -> int:
        """Delete every file whose key begins with `prefix`, and uploads in parts that were never joined."""
        parent, _, start = prefix.rpartition("/")
        if not are_plain(parent.split("/") if parent else []) or not (parent or start):
            raise ValueError(f"{prefix!r} is no prefix of a key")
        where = {"Bucket": self.place.bucket, "Prefix": self._name(prefix)}
        count = 0
        with explained(self.place):
            for page in self._client.get_paginator("list_objects_v2").paginate(**where):
                found = [{"Key": item["Key"]} for item in page.get("Contents", ())]
                count += len(found)
                self._delete(found)
            for page in self._client.get_paginator("list_multipart_uploads").paginate(**where):
                for begun in page.get("Uploads", ()):
                    self._abort(begun["Key"], begun["UploadId"])
        return count

    def check(self) -> None:
        """Send, read and delete one small file as a client does it, so that the signatures are tried too."""
        key = f"check/{uuid.uuid4().hex}"
        target = self.upload_target(key, size_bytes=5, content_type="text/plain", expires_s=60)
        self._request(target.method, target.url, b"spool", target.headers)
        link = self.download_url(key, filename="check.txt", content_type="text/plain", expires_s=60)
        found = self._request("GET", link)
        if self.delete_prefix(key) != 1 or found != b"spool":
            raise Unavailable(
                f"The bucket {self.place.bucket} gives back other bytes than were written; check its provider."
            )

    # --- inside ----------------------------------------------------------------------------------------------
    @property
    def _client(self) -> Any:  # noqa: ANN401 - boto3 makes its clients at run time and has no types
        with self._lock, explained(self.place):
            return self._made

    @cached_property
    def _made(self) -> Any:  # noqa: ANN401 - as above
        import boto3  # noqa: PLC0415, TID251 - loaded at first use; this is the file that knows boto3
        from botocore.config import Config  # noqa: PLC0415 - as above

        by_path = self.place.endpoint_url is not None or "." in self.place.bucket
        config = Config(
            signature_version="s3v4",
            s3={
                "addressing_style": "path" if by_path else "virtual",
                "payload_signing_enabled": False,
                "us_east_1_regional_endpoint": "regional",
            },
            # Checksums by trailer are AWS's alone; Content-MD5, which we send, is checked by all.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            ignore_configured_endpoint_urls=True,
            connect_timeout=3,
            read_timeout=30,
            retries={"mode": "standard", "total_max_attempts": 3},
            max_pool_connections=16,
        )
        session = boto3.session.Session()
        client = session.client(
            "s3", endpoint_url=self.place.endpoint_url, region_name=self.place.region, config=config
        )
        client.meta.events.register("before-sign.s3.DeleteObjects", _add_md5)
        return client

    def _name(self, key: str) -> str:
        return f"{self.place.prefix}/{key}" if self.place.prefix else key

    def _at(self, key: str) -> dict[str, str]:
        segments_of(key)
        return {"Bucket": self.place.bucket, "Key": self._name(key)}

    def _sign(self, verb: str, key: str, expires_s: int, params: Mapping[str, Any]) -> str:
        with explained(self.place):
            return str(
                self._client.generate_presigned_url(verb, Params={**self._at(key), **params}, ExpiresIn=expires_s)
            )

    def _parts(
        self, key: str, upload_id: str, size_bytes: int, expires_s: int, there: Mapping[int, Mapping[str, Any]]
    ) -> tuple[UploadPart, ...]:
        """The parts of an upload that are not `there` in their full size."""
        piece = _part_size(size_bytes, self._part_bytes)
        missing = []
        for number, first in enumerate(range(0, size_bytes, piece), 1):
            length = min(piece, size_bytes - first)
            if there.get(number, {}).get("Size") != length:
                params = {"UploadId": upload_id, "PartNumber": number, "ContentLength": length}
                url = self._sign("upload_part", key, expires_s, params)
                missing.append(UploadPart(number, first, length, UploadTarget("PUT", url, {})))
        return tuple(missing)

    def _begun(self, key: str) -> str | None:
        """The upload in parts of this very key."""
        at = self._at(key)
        with explained(self.place):
            listed = self._client.list_multipart_uploads(Bucket=at["Bucket"], Prefix=at["Key"])
        return next((str(one["UploadId"]) for one in listed.get("Uploads", ()) if one["Key"] == at["Key"]), None)

    def _there(self, key: str, upload_id: str) -> dict[int, Mapping[str, Any]]:
        with explained(self.place):
            pages = self._client.get_paginator("list_parts").paginate(**self._at(key), UploadId=upload_id)
            return {part["PartNumber"]: part for page in pages for part in page.get("Parts", ())}

    def _put_whole(self, file: CheckedFile, made: Mapping[str, Any], moving: Moving) -> None:
        with explained(self.place), Slice(file.path, 0, file.size_bytes, moving) as body:
            self._client.put_object(**made, Body=body, ContentLength=file.size_bytes, ContentMD5=file.md5s[0])

    def _put_parts(self, file: CheckedFile, made: Mapping[str, Any], progress: TransferProgress) -> None:
        with explained(self.place):
            begun = self._client.create_multipart_upload(**made)
        upload = {"Bucket": made["Bucket"], "Key": made["Key"], "UploadId": begun["UploadId"]}

        def send(number: int, moving: Moving) -> dict[str, Any]:
            first = (number - 1) * file.piece
            length = min(file.piece, file.size_bytes - first)
            with explained(self.place), Slice(file.path, first, length, moving) as body:
                about = {"PartNumber": number, "ContentLength": length, "ContentMD5": file.md5s[number - 1]}
                sent = self._client.upload_part(**upload, **about, Body=body)
            return {"PartNumber": number, "ETag": sent["ETag"]}

        try:
            tasks = [partial(send, number) for number in range(1, len(file.md5s) + 1)]
            parts = watched(tasks, file.size_bytes, progress, at_once=_AT_ONCE)
            with explained(self.place):
                self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        except BaseException:  # raised again: parts without a whole would be paid for
            with suppress(SpoolError):  # the first error is the one to tell
                self._abort(upload["Key"], upload["UploadId"])
            raise

    def _download(self, key: str, path: Path, moving: Moving) -> Stored:
        """Read the file from its first byte to its last, in as many requests as it takes."""
        from botocore.exceptions import HTTPClientError, IncompleteReadError  # noqa: PLC0415 - loaded at first use

        stored: Stored | None = None
        etag, done, breaks = "", 0, 0
        digest = hashlib.sha256()
        with path.open("wb") as target:
            while stored is None or done < stored.size_bytes:
                more = {} if stored is None else {"Range": f"bytes={done}-", "IfMatch": etag}
                with explained(self.place):
                    reply = self._client.get_object(**self._at(key), **more)
                if stored is None:
                    stored, etag = _stored(key, reply), reply["ETag"]
                    moving.total = stored.size_bytes
                try:
                    for chunk in _chunks(reply["Body"]):
                        target.write(chunk)
                        digest.update(chunk)
                        done += len(chunk)
                        breaks = 0
                        moving.add(len(chunk))
                except (HTTPClientError, IncompleteReadError) as error:
                    breaks += 1
                    if breaks >= _BREAKS:
                        raise unreachable(self.place, error) from error
                    moving.stopped.wait(0.2 * 2**breaks)
                    moving.add(0)
                finally:
                    reply["Body"].close()
        if done != stored.size_bytes or stored.sha256 not in {None, digest.hexdigest()}:
            raise Unavailable(f"The stored file {key} did not arrive as it was stored; it is worth trying again.")
        return Stored(key, stored.size_bytes, stored.content_type, digest.hexdigest())

    def _delete(self, objects: list[dict[str, str]]) -> None:
        if not objects:
            return
        gone = self._client.delete_objects(Bucket=self.place.bucket, Delete={"Objects": objects, "Quiet": True})
        if errors := gone.get("Errors"):
            raise fault_in(self.place, 0, f"<Code>{errors[0].get('Code')}</Code>".encode())

    def _abort(self, name: str, upload_id: str) -> None:
        try:
            with explained(self.place):
                self._client.abort_multipart_upload(Bucket=self.place.bucket, Key=name, UploadId=upload_id)
        except NotFound:
            return  # NoSuchUpload: it was joined, or another was first

    def _request(
        self, method: str, url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """One presigned request, as any client would send it."""
        try:
            reply = urllib3.request(
                method, url, body=body, headers=dict(headers or {}), timeout=urllib3.Timeout(connect=3, read=10),
                retries=False,
            )  # fmt: skip
        except urllib3.exceptions.HTTPError as error:
            raise unreachable(self.place, error) from error
        if (date := reply.headers.get("Date")) is not None:
            off_s = parsedate_to_datetime(date).timestamp() - time.time()
            if abs(off_s) > _CLOCK_OFF_S:
                raise clock_fault(self.place, off_s)
        if reply.status >= 300:
            raise fault_in(self.place, reply.status, reply.data)
        return reply.data


def _stored(key: str, reply: Mapping[str, Any]) -> Stored:
    content_type = reply.get("ContentType", "application/octet-stream")
    return Stored(key, reply["ContentLength"], content_type, reply.get("Metadata", {}).get(_SHA256))


def _part_size(size: int, least: int) -> int:
    """Equal parts, as R2 wants them, of whole MiB where there would be too many."""
    return max(least, -(-size // (MOST_PARTS << 20)) << 20)


def _chunks(body: Any) -> Iterator[bytes]:  # noqa: ANN401 - botocore has no types
    while chunk := body.read(_CHUNK):
        yield chunk


def _add_md5(request: Any, **_: object) -> None:  # noqa: ANN401 - botocore has no types
    """Deleting many needs a checksum, and some servers know this one only."""
    digest = hashlib.md5(request.body, usedforsecurity=False).digest()
    request.headers["Content-MD5"] = base64.b64encode(digest).decode()
