"""A copy of the code in which one line at a time is changed, and a process that runs a test on it.

The process has imported what our code imports from others, and forks for every test: ours is imported afresh each
time, from the copy. `python copied.py` is that process: orders on stdin, exit codes on stdout.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = ("cli", "functions", "shared", "worker", "tests", "pyproject.toml", "README.md", "docs")
#: What takes longest to import. A name that is missing here, or not needed any more, costs time and nothing else.
OTHERS = (
    *("_hypothesis_pytestplugin", "_pytest.assertion.rewrite", "_pytest.pytester", "anyio.pytest_plugin", "boto3"),
    *(
        "encodings.idna",
        "cryptography.hazmat.primitives.asymmetric.ed25519",
        "cryptography.x509",
        "httpx2",
        "hypothesis.stateful",
    ),
    *("imageio_ffmpeg", "numpy", "prometheus_client", "pydantic_settings", "pytest_timeout", "sqlmodel"),
    *("starlette.testclient", "structlog", "tarfile", "tenacity", "typer", "urllib3", "uuid_utils", "uvicorn"),
    "xdist.looponfail",
)


@dataclass(frozen=True)
class Ran:
    """How a test ended on the changed copy: pytest's exit code, and what it printed."""

    code: int
    said: str


class Copy:
    """The code below `folder`, as it is in this tree but for what is planted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "code"
        self._log = folder / "said"
        self._planted = 0
        self._folder.mkdir()
        for part in PARTS:
            source = ROOT / part
            if source.is_dir():
                shutil.copytree(source, self._folder / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, self._folder / part)
        media = ROOT / ".media"
        media.mkdir(exist_ok=True)
        (self._folder / ".media").symlink_to(media)  # recordings and servers, fetched once for all
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # A process of several threads is not to be forked; and what one test has compiled, the next need not.
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": ""},
            text=True,
        )

    @contextlib.contextmanager
    def planted(self, file: str, old: str, new: str) -> Iterator[None]:
        """`new` stands where `old` stood in `file`."""
        target = self._folder / file
        text, times = target.read_text(), target.stat()
        assert old in text, "the guard is no longer where this list says"
        target.write_text(text.replace(old, new))
        # Python takes compiled code for current when size and second are those of the source: no second comes twice.
        self._planted += 1
        os.utime(target, (self._planted, self._planted))
        try:
            yield
        finally:
            target.write_text(text)
            os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))

    def run(self, test: str, *, timeout_s: float) -> Ran:
        """Run a test or a file of tests, up to the first failure."""
        plugins = ("-p", "no:cacheprovider", "-p", "no:xdist")
        quiet = ("-W", "ignore::pytest.PytestAssertRewriteWarning")  # the plugins have been imported, that is the point
        options = ("-q", "-x", *plugins, *quiet, f"--timeout={timeout_s}", f"--basetemp={self._folder}/temporary")
        order = {"folder": str(self._folder), "log": str(self._log), "argv": [*options, test]}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return Ran(int(self._process.stdout.readline()), self._log.read_text(errors="replace"))

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def main() -> None:
    """Fork for every order, and tell how that ended."""
    for name in OTHERS:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.freeze()  # what stays is not looked through again in every child
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _run(**json.loads(line))
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201 - the answer


def _run(folder: str, log: str, argv: list[str]) -> None:
    """In the forked child. Does not return."""
    code = 70
    try:
        said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        null = os.open(os.devnull, os.O_RDONLY)
        for here, there in ((null, 0), (said, 1), (said, 2)):
            os.dup2(here, there)
        os.chdir(folder)
        sys.path[0] = folder  # in the place of this file's folder, as `python -m pytest` has it
        import pytest  # noqa: PLC0415 - imported by the parent already

        code = int(pytest.main(argv))
    except BaseException:  # noqa: BLE001 - told, whatever it is: nobody else does
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
