"""`make rehearse`: a whole deployment on this machine, without any account.

`sam build` and `sam deploy` run as they do for AWS, against an emulator of it; the database is a real libSQL server;
the worker gets the documented settings and nothing else; then infra/smoke.py sends a job through the Function URL.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3

from cli.samples import SPEECH, fetch
from shared.settings import load_settings
from shared.store import get_job_store
from tests.real.s3 import Ministack
from tests.real.sqld import Sqld

ROOT = Path(__file__).parents[2]
SAM = ROOT / ".venv-aws" / "bin" / "sam"
REGION, STACK = "us-east-1", "spool-rehearsal"
SECRETS = {
    "database-token": "unused-by-this-server",
    "api-tokens": secrets.token_hex(16),
    "secret": secrets.token_hex(16),
}


def main() -> int:
    """Deploy, work, look at the result, tear down; returns the exit code of the smoke check."""
    with (
        tempfile.TemporaryDirectory(prefix="spool-rehearsal-") as name,
        Sqld(Path(name) / "sqld") as database,
        Ministack(Path(name) / "aws") as aws,
    ):
        folder = Path(name)
        for kept, value in SECRETS.items():
            client("ssm", aws).put_parameter(Name=f"/spool/{kept}", Value=value, Type="SecureString")
        get_job_store(load_settings(database_url=database.url)).migrate()
        with deployed(aws, database, folder) as outputs:
            recording = fetch(SPEECH, ROOT / ".media")
            url = f"{aws.url}/_aws/lambda-url/{outputs['Url'].split('//')[1].split('.')[0]}"
            say(f"deployed: {outputs['Url']}, here {url}")
            with access_key(aws, outputs["WorkerUser"]) as key, working(settings(outputs, database, key), folder):
                smoke = [sys.executable, "infra/smoke.py", url, SECRETS["api-tokens"], str(recording)]
                ended = subprocess.run(smoke, cwd=ROOT, check=False, timeout=300)
            if ended.returncode:
                for log in folder.glob("*.log"):
                    say(f"--- {log.name}\n{log.read_text()[-3000:]}")
    say("rehearsal: green" if ended.returncode == 0 else "rehearsal: NOT green")
    return ended.returncode


@contextmanager
def deployed(aws: Ministack, database: Sqld, folder: Path) -> Iterator[dict[str, str]]:
    """The stack's outputs while it stands; it is deleted when the block is left."""
    build, template = folder / "build", folder / "build" / "template.yaml"
    sam(aws, "build", "--build-dir", str(build), "--cache-dir", str(folder / "cache"))
    parameters = [f"DatabaseUrl={database.url}", f"S3Endpoint={aws.url}"]
    sam(
        aws,
        *("deploy", "--template-file", str(template), "--stack-name", STACK),
        *("--config-file", str(ROOT / "infra" / "samconfig.toml")),
        *("--parameter-overrides", *parameters),
    )
    (stack,) = client("cloudformation", aws).describe_stacks(StackName=STACK)["Stacks"]
    try:
        yield {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
    finally:
        sam(aws, "delete", "--stack-name", STACK, "--no-prompts", "--region", REGION)


@contextmanager
def access_key(aws: Ministack, user: str) -> Iterator[dict[str, str]]:
    """A key of the worker's user, deleted afterwards: a user with keys cannot be deleted."""
    key = client("iam", aws).create_access_key(UserName=user)["AccessKey"]
    yield {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
    client("iam", aws).delete_access_key(UserName=user, AccessKeyId=key["AccessKeyId"])


def settings(outputs: Mapping[str, str], database: Sqld, key: Mapping[str, str]) -> dict[str, str]:
    """What docs/deploy.md tells to set for a worker."""
    return {
        "SPOOL_DATABASE_URL": database.url,
        "SPOOL_DATABASE_TOKEN": SECRETS["database-token"],
        "SPOOL_STORAGE_URL": outputs["StorageUrl"],
        "SPOOL_DRAIN_S": "20",
        "SPOOL_LOG_FORMAT": "json",
        **key,
    }


@contextmanager
def working(given: Mapping[str, str], folder: Path) -> Iterator[None]:
    """A worker, started and stopped as Render does it."""
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(folder)} | dict(given)
    with (folder / "worker.log").open("w") as log:
        worker = subprocess.Popen(["sh", "-c", "exec python -m worker"], cwd=ROOT, env=environment, stderr=log)
        try:
            yield
        finally:
            worker.send_signal(signal.SIGTERM)
            say(f"worker ended with exit code {worker.wait(timeout=60)}")


def client(service: str, aws: Ministack) -> Any:
    """A client of the emulated AWS."""
    return boto3.client(service, endpoint_url=aws.url, region_name=REGION)


def sam(aws: Ministack, *arguments: str) -> None:
    """One sam command in infra/; its output is shown when it fails."""
    environment = os.environ | {
        "AWS_ENDPOINT_URL": aws.url,
        "AWS_DEFAULT_REGION": REGION,
        "SAM_CLI_TELEMETRY": "0",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    ended = subprocess.run(
        [SAM, *arguments], cwd=ROOT / "infra", env=environment, capture_output=True, text=True, check=False, timeout=280
    )
    if ended.returncode:
        raise SystemExit(f"sam {arguments[0]} failed:\n{ended.stdout[-3000:]}\n{ended.stderr[-3000:]}")
    say(f"sam {arguments[0]}: done")


def say(line: str) -> None:
    """One line about the rehearsal."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
