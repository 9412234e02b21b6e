"""The packages that Spool is measured against, in an environment of their own, made when one of them is asked for."""

from __future__ import annotations

import subprocess  # noqa: TID251 - installs the competitors
import sys
from functools import cache
from pathlib import Path

HOME = Path(__file__).parent / ".venv-peers"
#: The newest releases that install on the oldest Python that Spool runs on.
NORMALIZE = "ffmpeg-normalize==1.43.0"
FFMPEG_PYTHON, PYLOUDNORM = "ffmpeg-python==0.2.0", "pyloudnorm==0.2.0"
HUEY, LITEQUEUE, PERSIST_QUEUE = "huey==3.5.4", "litequeue==0.9", "persist-queue==1.1.0"
LIBSQL_CLIENT, SQLALCHEMY_LIBSQL = "libsql-client==0.3.1", "sqlalchemy-libsql==0.2.0"


@cache
def python_for(package: str) -> Path:
    """The interpreter of an environment in which a package is installed."""
    python = HOME / "bin" / "python"
    uv = [sys.executable, "-m", "uv", "-q"]
    if not python.exists():
        subprocess.run([*uv, "venv", "--python", sys.executable, str(HOME)], check=True)
    subprocess.run([*uv, "pip", "install", "--python", str(python), package], check=True)
    return python
