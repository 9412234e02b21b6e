"""Secrets that a deployment keeps in AWS SSM Parameter Store: read once, when an instance starts.

The request is signed here, because importing AWS's own client would double the cold start.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime
from urllib.parse import urlsplit

import urllib3

from shared.errors import ConfigurationError
from shared.settings import AwsIdentity

#: Parameter below the path, and the setting it fills.
SECRETS = {"database-token": "database_token", "api-tokens": "api_tokens", "secret": "secret"}
_TIMEOUT = urllib3.Timeout(connect=3.0, read=5.0)
_RETRIES = urllib3.Retry(total=2, backoff_factor=0.2, status_forcelist=(500, 503), allowed_methods=None)


def read_secrets(path: str, region: str, identity: AwsIdentity) -> dict[str, str]:
    """The settings kept below `path`. Raises `ConfigurationError` with one sentence that says how to mend it."""
    names = {f"{path}/{name}": setting for name, setting in SECRETS.items()}
    url = identity.endpoint_url or f"https://ssm.{region}.amazonaws.com"
    body = json.dumps({"Names": sorted(names), "WithDecryption": True}).encode()
    headers = signed_headers(urlsplit(url).netloc, body, region, identity, datetime.now(UTC))
    try:
        response = urllib3.request("POST", f"{url}/", body=body, headers=headers, timeout=_TIMEOUT, retries=_RETRIES)
    except urllib3.exceptions.HTTPError as error:
        raise ConfigurationError(
            f"The secrets below {path} cannot be read: {url} does not answer ({error})."
        ) from error
    if response.status != 200:
        found = response.data[:300].decode(errors="replace")
        raise ConfigurationError(
            f"AWS refuses to hand out the secrets below {path} ({response.status} {found}); "
            "the function's role needs ssm:GetParameters on them."
        )
    answer = json.loads(response.data)
    if missing := sorted(answer.get("InvalidParameters", ())):
        raise ConfigurationError(
            f"SSM Parameter Store lacks {', '.join(missing)}; put it there as a SecureString: "
            f"aws ssm put-parameter --type SecureString --name {missing[0]} --value …"
        )
    return {names[parameter["Name"]]: parameter["Value"] for parameter in answer["Parameters"]}


def signed_headers(host: str, body: bytes, region: str, identity: AwsIdentity, now: datetime) -> dict[str, str]:
    """The headers of one GetParameters request, signed with AWS Signature Version 4."""
    headers = {
        "content-type": "application/x-amz-json-1.1",
        "host": host,
        "x-amz-date": now.strftime("%Y%m%dT%H%M%SZ"),
        "x-amz-target": "AmazonSSM.GetParameters",
    }
    if identity.session_token:
        headers["x-amz-security-token"] = identity.session_token
    signed = ";".join(sorted(headers))
    listed = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    request = f"POST\n/\n\n{listed}\n{signed}\n{hashlib.sha256(body).hexdigest()}"
    scope = f"{now:%Y%m%d}/{region}/ssm/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{headers['x-amz-date']}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"AWS4{identity.secret_access_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.new(key, text.encode(), "sha256").hexdigest()
    credential = f"{identity.access_key_id}/{scope}"
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={signed}, Signature={signature}"
    )
    return headers
