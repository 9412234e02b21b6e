"""The built zip, and what the managed runtime has besides."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Packages that AWS's managed Python runtime brings: its client, and boto3 with what boto3 needs.
RUNTIME = (
    "awslambdaric",
    "simplejson",
    "snapshot_restore_py",
    "boto3",
    "botocore",
    "s3transfer",
    "jmespath",
    "dateutil",
)
RUNTIME_MODULES = ("runtime_client", "six")


@pytest.fixture(scope="session")
def task_root(tmp_path_factory) -> Path:
    """The content of the zip, built by the same make target that `sam build` calls, with a file of programs."""
    folder = tmp_path_factory.mktemp("zip")
    tools = {"PYTHON": sys.executable, "UV": str(Path(sys.executable).with_name("uv")), "ARTIFACTS_DIR": str(folder)}
    tools["PROGRAMS"] = "examples/programs.toml"
    command = ["make", "-s", "build-ApiFunction", *(f"{name}={value}" for name, value in tools.items())]
    ended = subprocess.run(command, cwd=ROOT / "infra", capture_output=True, text=True, check=False, env=os.environ)
    assert ended.returncode == 0, ended.stderr
    return folder


@pytest.fixture(scope="session")
def runtime(tmp_path_factory) -> Path:
    """A folder with the runtime's own packages and no others, so that the zip has to bring its own."""
    folder = tmp_path_factory.mktemp("runtime")
    for name in (*RUNTIME, *RUNTIME_MODULES):
        found = Path(import_module(name).__file__)
        source = found.parent if found.name == "__init__.py" else found
        (folder / source.name).symlink_to(source)
    yield folder
    shutil.rmtree(folder)
