"""What went wrong with a bucket, in one sentence that says how to mend it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from shared.errors import NotFound, SpoolError, Unavailable
from shared.settings import S3Place

_MISSING = {"NoSuchKey", "NoSuchUpload", "NotFound", "404"}
_REGION = {"AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect", "301"}
_CLOCK = {"RequestTimeTooSkewed", "RequestExpired"}
#: The codes of the servers, and what each stands for. `{where}` answered, `{bucket}` was asked for.
_SENTENCES = {
    ("NoSuchBucket", "InvalidBucketName"): "{where} has no bucket {bucket}; make it, or correct SPOOL_STORAGE_URL.",
    (
        "AuthFailure", "ExpiredToken", "InvalidAccessKeyId", "InvalidSecurity", "InvalidToken",
        "SignatureDoesNotMatch", "TokenRefreshRequired", "Unauthorized", "401",
    ): "{where} does not accept the storage keys ({code}); correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
       "or the role they come from.",
    ("AccessDenied", "AllAccessDisabled", "AccountProblem", "Forbidden", "NotSignedUp", "403"):
        "The storage keys may not do this in the bucket {bucket} ({code}); allow them to list the bucket and to "
        "read, write and delete in it.",
    ("NotImplemented",): "{where} does not know a header that Spool sends; add write_once=no to SPOOL_STORAGE_URL.",
    ("InsufficientStorage", "QuotaExceeded", "StorageFull", "XMinioStorageFull"):
        "The bucket {bucket} is full; free some space, or raise its quota.",
}  # fmt: skip
_TAG = {name: re.compile(rf"<{name}>([^<]*)</{name}>") for name in ("Code", "Message", "Region")}


def fault(place: S3Place, status: int, error: Mapping[str, Any]) -> SpoolError:
    """What an answer of the server means: its status, and the `Code`, `Message` and `Region` of its body."""
    code = str(error.get("Code") or status)
    if code in _MISSING:
        return NotFound("There is no stored file of this name.")
    if code in _CLOCK:
        return Unavailable(_clock_is_off(place))
    if (region := error.get("Region")) or code in _REGION:
        found = f"the region {region}" if region else "another region"
        return Unavailable(
            f"The bucket {place.bucket} is in {found}, not in {place.region}; set region={region or '…'} in "
            "SPOOL_STORAGE_URL."
        )
    for codes, sentence in _SENTENCES.items():
        if code in codes:
            return Unavailable(sentence.format(where=_where(place), bucket=place.bucket, code=code))
    said = f"{code}: {error['Message']}" if error.get("Message") else code
    return Unavailable(f"{_where(place)} could not do this ({said.rstrip('.')}); it is worth trying again.")


def fault_in(place: S3Place, status: int, body: bytes) -> SpoolError:
    """The same of an answer that no client library has read."""
    text = body.decode(errors="replace")
    return fault(place, status, {name: found[1] for name, tag in _TAG.items() if (found := tag.search(text))})


def clock_fault(place: S3Place, off_s: float) -> SpoolError:
    """This machine's clock is wrong by so much that signatures are refused, or soon will be."""
    return Unavailable(_clock_is_off(place, f" by {abs(off_s) / 60:.0f} minutes"))


def unreachable(place: S3Place, error: Exception) -> SpoolError:
    """Nothing answered."""
    return Unavailable(
        f"Nothing answers at {_where(place)} ({type(error).__name__}); check endpoint_url in SPOOL_STORAGE_URL and "
        "the network."
    )


@contextmanager
def explained(place: S3Place) -> Iterator[None]:
    """Turn the client library's errors into sentences."""
    from botocore import exceptions  # noqa: PLC0415 - loaded with the client, at first use

    try:
        yield
    except exceptions.ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        raise fault(place, status, error.response.get("Error", {})) from error
    except (
        exceptions.NoCredentialsError,
        exceptions.PartialCredentialsError,
        exceptions.CredentialRetrievalError,
        exceptions.ProfileNotFound,
    ) as error:
        raise Unavailable(
            "There are no storage keys; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this machine a role."
        ) from error
    except (exceptions.HTTPClientError, exceptions.BotoCoreError) as error:
        raise unreachable(place, error) from error


def _where(place: S3Place) -> str:
    return place.endpoint_url or f"AWS S3 in {place.region}"


def _clock_is_off(place: S3Place, by: str = "") -> str:
    return (
        f"This machine's clock and that of {_where(place)} differ{by}, so signatures are refused; set this machine's "
        "clock (chrony or systemd-timesyncd)."
    )
