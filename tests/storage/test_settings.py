"""`SPOOL_STORAGE_URL`: what it may say, and the sentence for what it may not."""

from __future__ import annotations

import pytest

from shared.errors import ConfigurationError
from shared.settings import S3Place, load_settings


def settings(url: str, **more: str):
    """Settings with this storage, and no region from the environment."""
    return load_settings(_env_file=None, storage_url=url, **({"aws_region": None} | more))


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("s3://studio?region=eu-central-1", S3Place("studio", "", None, "eu-central-1")),
        ("s3://studio/a/b/?region=eu-central-1", S3Place("studio", "a/b", None, "eu-central-1")),
        ("s3://studio?endpoint_url=https://a1.r2.cloudflarestorage.com/&region=auto",
         S3Place("studio", "", "https://a1.r2.cloudflarestorage.com", "auto")),
        ("s3://studio?endpoint_url=https%3A%2F%2Fs3.eu-central-003.backblazeb2.com&write_once=no",
         S3Place("studio", "", "https://s3.eu-central-003.backblazeb2.com", "eu-central-003", write_once=False)),
        ("s3://studio/dev?endpoint_url=http://127.0.0.1:9000",
         S3Place("studio", "dev", "http://127.0.0.1:9000", "us-east-1")),
    ],
)  # fmt: skip
def test_a_bucket_is_read(url, place):
    """AWS, R2, B2 and MinIO."""
    assert settings(url).s3 == place


def test_the_region_of_aws_tools_is_taken_for_aws_only():
    """A Lambda function has its own region set, which says nothing about another provider's bucket."""
    assert settings("s3://studio", aws_region="eu-west-1").s3.region == "eu-west-1"
    elsewhere = "s3://studio?endpoint_url=http://127.0.0.1:9000"
    assert settings(elsewhere, aws_region="eu-west-1").s3.region == "us-east-1"


def test_a_folder_is_no_bucket():
    """The default stays."""
    assert settings("file:.spool/storage").s3 is None


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("gs://studio", "use file:path/to/folder or s3://bucket"),
        ("s3://?region=x", "is no name of a bucket"),
        ("s3://a_/x?region=x", "is no name of a bucket"),
        ("s3://key:secret@studio?region=x", "leave the keys out of the address; set AWS_ACCESS_KEY_ID"),
        ("s3://studio/a//b?region=x", "the prefix 'a//b' may hold"),
        ("s3://studio/../b?region=x", "the prefix '../b' may hold"),
        ("s3://studio", "say where the bucket is: s3://bucket?region="),
        ("s3://studio?region=Frankfurt am Main", "say where the bucket is"),
        ("s3://studio?endpoint=http://127.0.0.1", "there is no option 'endpoint'"),
        ("s3://studio?endpoint_url=127.0.0.1:9000", "endpoint_url is the provider's address alone"),
        ("s3://studio?endpoint_url=https://s3.example.org/studio", "endpoint_url is the provider's address alone"),
        ("s3://studio?endpoint_url=https://k:s@s3.example.org", "endpoint_url is the provider's address alone"),
        ("s3://studio?endpoint_url=https://x.org;script-src", "endpoint_url is the provider's address alone"),
        ("s3://studio?region=x&write_once=maybe", "write_once is yes or no"),
    ],
)
def test_a_wrong_storage_stops_the_start_with_a_sentence(url, sentence):
    """The setting is named, and no secret of it is repeated."""
    with pytest.raises(ConfigurationError) as failed:
        settings(url)
    assert failed.value.message.startswith("SPOOL_STORAGE_URL: ")
    assert sentence in failed.value.message
    assert "secret" not in failed.value.message.replace("SECRET", "")
