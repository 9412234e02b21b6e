"""Secrets from SSM: signed as AWS's own library signs, read in one request, and every fault a sentence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from functions.secrets import read_secrets, signed_headers
from shared.errors import ConfigurationError
from shared.settings import AwsIdentity, aws_identity, load_settings
from tests.deploy.runtime import Function, Quiet, serve
from tests.deploy.test_zip import call

KEPT = {"/spool/database-token": "a-database-token", "/spool/api-tokens": "one, two", "/spool/secret": "a long secret"}
IDENTITY = AwsIdentity("AKIDEXAMPLE", "an example of a key", "a session", None)


class Ssm:
    """Parameter Store as far as GetParameters goes; refuses what is not signed as AWS's own library would sign it."""

    def __init__(self) -> None:
        self.kept = dict(KEPT)
        self.requests = 0
        self.refuse: int | None = None
        ssm = self

        class Api(Quiet):
            def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
                body = self.read()
                ssm.requests += 1
                status, answer = ssm._answer(dict(self.headers.items()), body)
                self.send(status, json.dumps(answer).encode(), {"Content-Type": "application/x-amz-json-1.1"})

        self.server, address = serve(Api)
        self.url = f"http://{address}"

    def _answer(self, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, Any]]:
        sent = {name.lower(): value for name, value in headers.items()}
        if self.refuse is not None:
            return self.refuse, {"__type": "AccessDeniedException", "Message": "not authorized"}
        if sent.get("x-amz-security-token") != IDENTITY.session_token:
            return 400, {"__type": "UnrecognizedClientException"}
        if sent["authorization"] != by_botocore(sent, body, IDENTITY.session_token):
            return 400, {"__type": "InvalidSignatureException"}
        asked = json.loads(body)
        assert asked["WithDecryption"] is True
        found = [{"Name": name, "Value": self.kept[name]} for name in asked["Names"] if name in self.kept]
        return 200, {"Parameters": found, "InvalidParameters": [one for one in asked["Names"] if one not in self.kept]}


def by_botocore(sent: dict[str, str], body: bytes, session: str | None) -> str:
    """The Authorization header that AWS's own library makes for this request."""
    names = sent["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
    request = AWSRequest("POST", f"http://{sent['host']}/", data=body, headers={name: sent[name] for name in names})
    request.context["timestamp"] = sent["x-amz-date"]
    signer = SigV4Auth(Credentials(IDENTITY.access_key_id, IDENTITY.secret_access_key, session), "ssm", "eu-central-1")
    canonical = signer.canonical_request(request)
    signature = signer.signature(signer.string_to_sign(request, canonical), request)
    signed = signer.signed_headers(signer.headers_to_sign(request))
    return f"AWS4-HMAC-SHA256 Credential={signer.scope(request)}, SignedHeaders={signed}, Signature={signature}"


@pytest.fixture
def ssm() -> Iterator[Ssm]:
    """A parameter store with our three secrets."""
    ssm = Ssm()
    yield ssm
    ssm.server.shutdown()
    ssm.server.server_close()


def identity(ssm: Ssm) -> AwsIdentity:
    """Ours, for this parameter store."""
    return AwsIdentity(IDENTITY.access_key_id, IDENTITY.secret_access_key, IDENTITY.session_token, ssm.url)


def test_the_secrets_become_settings(ssm):
    """One signed request brings all three, and they win over what the environment says."""
    secrets = read_secrets("/spool", "eu-central-1", identity(ssm))
    assert ssm.requests == 1
    settings = load_settings(**secrets)
    assert settings.database_token.get_secret_value() == "a-database-token"
    assert [token.get_secret_value() for token in settings.api_tokens] == ["one", "two"]
    assert settings.secret.get_secret_value() == "a long secret"


def test_a_changed_body_has_another_signature():
    """The signature covers the body."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    one, other = (signed_headers("h", body, "eu-central-1", IDENTITY, now) for body in (b"one", b"other"))
    assert one["authorization"] != other["authorization"]


def test_a_missing_secret_is_named(ssm):
    """The sentence says which parameter to put where."""
    del ssm.kept["/spool/secret"]
    with pytest.raises(ConfigurationError, match=r"lacks /spool/secret; put it there as a SecureString: aws ssm put"):
        read_secrets("/spool", "eu-central-1", identity(ssm))


def test_a_refusal_says_which_permission_is_missing(ssm):
    """AWS says no: the sentence names the permission."""
    ssm.refuse = 400
    with pytest.raises(ConfigurationError, match=r"needs ssm:GetParameters"):
        read_secrets("/spool", "eu-central-1", identity(ssm))


def test_outside_lambda_the_path_is_refused(monkeypatch):
    """Without AWS's own environment the sentence says to set the secrets themselves."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    with pytest.raises(ConfigurationError, match="SPOOL_SECRETS_PATH is set but AWS_ACCESS_KEY_ID is not"):
        aws_identity()


def test_the_deployed_function_starts_with_secrets_from_ssm(task_root, runtime, ssm, tmp_path):
    """The zip under AWS's runtime client reads its secrets once per instance and asks for the token it found."""
    settings = {
        "SPOOL_SECRETS_PATH": "/spool",
        "SPOOL_DATABASE_URL": "http://127.0.0.1:9",
        "SPOOL_STORAGE_URL": "s3://bucket?region=eu-central-1",
        "AWS_SESSION_TOKEN": "a session",
        "AWS_ENDPOINT_URL_SSM": ssm.url,
    }
    with Function(task_root, runtime, settings) as function:
        assert call(function, "GET", "/api/job-types", authorization="Bearer two").status == 200
        assert call(function, "GET", "/api/job-types").status == 401
    assert ssm.requests == 1
