"""A real S3 API (ministack) for the tests: it checks signatures, sizes and types as AWS does."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import boto3
import urllib3
from botocore import auth

from shared.settings import S3Place
from shared.storage.s3 import S3Storage

BINARY = Path(__file__).parents[2] / ".venv-tools" / "bin" / "ministack"
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
_names = itertools.count(1)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Ministack:
    """One server; stopped when the block is left. While it runs, its keys are the environment's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._connection: Any = None

    def __enter__(self) -> Ministack:
        if not BINARY.exists():
            raise RuntimeError("The S3 server of the tests is not installed; run `make tools`.")
        self._folder.mkdir(parents=True, exist_ok=True)
        self._log = (self._folder / "ministack.log").open("w")
        self._process = subprocess.Popen(
            [BINARY],
            cwd=self._folder,
            env=os.environ | {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(self._port), "HOME": str(self._folder)},
            stdout=self._log,
            stderr=self._log,
        )
        self._keys = patch.dict(os.environ, KEYS)
        self._keys.start()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self._process.poll() is None:
            with suppress(urllib3.exceptions.HTTPError):
                if urllib3.request("GET", f"{self.url}/", retries=False, timeout=1).status < 500:
                    return self
            time.sleep(0.02)
        self.__exit__()
        raise RuntimeError(f"ministack did not start: {(self._folder / 'ministack.log').read_text()[-500:]}")

    def __exit__(self, *_: object) -> None:
        self._keys.stop()
        self._process.terminate()
        self._process.wait(timeout=30)
        self._log.close()

    def bucket(self) -> S3Place:
        """A new, empty bucket, and a prefix in it."""
        place = S3Place(f"spool-{next(_names)}", "studio/one", self.url, "us-east-1")
        self.client().create_bucket(Bucket=place.bucket)
        return place

    def storage(self, **sizes: int) -> S3Storage:
        """A storage in a bucket of its own. They share their connection: to make one takes half a second."""
        storage = S3Storage(self.bucket(), **sizes)
        if self._connection is None:
            self._connection = storage._client
        vars(storage)["_made"] = self._connection
        return storage

    def client(self) -> Any:
        """The server as its operator sees it."""
        return boto3.client("s3", endpoint_url=self.url, region_name="us-east-1")


@contextmanager
def ago(seconds: float) -> Iterator[None]:
    """What is signed in this block is signed so long ago."""

    now = auth.get_current_datetime

    with patch.object(
        auth, "get_current_datetime", lambda *args, **more: now(*args, **more) - timedelta(seconds=seconds)
    ):
        yield
