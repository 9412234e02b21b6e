"""The packages that Spool is measured against, in an environment of their own, made when one of them is asked for."""

from __future__ import annotations

import shutil
import subprocess  # noqa: TID251 - installs the competitors
import sys
from functools import cache
from pathlib import Path

HOME = Path(__file__).parent / ".venv-peers"
NODE = HOME.with_name(".venv-peers-node")
#: The newest releases that install on the oldest Python that Spool runs on.
NORMALIZE = "ffmpeg-normalize==1.43.0"
FFMPEG_PYTHON, PYLOUDNORM = "ffmpeg-python==0.2.0", "pyloudnorm==0.2.0"
HUEY, LITEQUEUE, PERSIST_QUEUE = "huey==3.5.4", "litequeue==0.9", "persist-queue==1.1.0"
#: plainjob with the driver that its own benchmark uses. honker 0.5.0 is a peer, too, but comes as Rust source only.
PLAINJOB = ("plainjob@0.0.14", "better-sqlite3@11.10.0")
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


@cache
def node_home() -> Path | None:
    """A folder with the packages of Node's registry; None where there is no Node to run them."""
    if not (shutil.which("npm") and shutil.which("node")):
        return None
    home = NODE
    if not (home / "node_modules" / "better-sqlite3" / "build").exists():
        home.mkdir(parents=True, exist_ok=True)
        (home / "package.json").write_text("{}")
        npm = ["npm", "install", "--no-audit", "--no-fund", "--loglevel", "error", "--prefix", str(home)]
        if subprocess.run([*npm, *PLAINJOB], check=False, stdout=subprocess.DEVNULL).returncode:
            return None
    return home
