"""The API against generated requests: everything that its OpenAPI document allows, and much that it does not."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3

from tests.cli.conftest import environment

ROOT = Path(__file__).parents[2]
SPOOL = str(Path(sys.executable).parent / "spool")
SCHEMATHESIS = ROOT / ".venv-tools/bin/schemathesis"
TOKEN = "a-token-that-is-long-enough-for-a-server"
#: Requests generated per operation, beyond the boundary cases that the document itself implies.
EXAMPLES, SEED = 3, 20


@pytest.fixture
def api(tmp_path: Path) -> Iterator[str]:
    """A real API on an empty database, with a token; returns its address."""
    places = {"SPOOL_DATABASE_URL": f"sqlite:///{tmp_path}/spool.db", "SPOOL_STORAGE_URL": f"file:{tmp_path}/storage"}
    settings = environment(SPOOL_API_TOKENS=TOKEN, SPOOL_SECRET="s" * 40, **places)
    subprocess.run([SPOOL, "migrate"], env=settings, check=True, capture_output=True)
    with (tmp_path / "api.log").open("wb") as log:
        server = subprocess.Popen(
            [SPOOL, "api", "--port", "0"], env=settings, stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            assert server.stdout is not None
            yield next(found[0] for line in server.stdout if (found := re.search(r"http://[\d.]+:\d+", line)))
        finally:
            server.terminate()
            server.communicate()


#: A request that may wait for a change would wait its 20 s out, again and again. And behind an id that nobody has, no
#: request would get far.
CONFIG = """
[parameters]
"query.wait" = 0

[[operations]]
include-path-regex = "^/api/jobs/"
parameters = {{ "path.id" = "{job}" }}

[[operations]]
include-path-regex = "^/api/(uploads|assets)/"
parameters = {{ "path.id" = "{asset}" }}
"""


def test_generated_requests_find_no_fault(api: str, tmp_path: Path) -> None:
    """No 5xx, no answer that the document does not describe, no invalid request that passes, no door without a token.

    Left out is the check that every request the schema allows is accepted: a schema cannot say all (a cursor is one
    that the server gave, a child needs a parent), and those rules have tests of their own.
    """
    head = {"Authorization": f"Bearer {TOKEN}"}
    file = {"filename": "talk.wav", "content_type": "audio/wav", "size_bytes": 1000}
    asset = urllib3.request("POST", f"{api}/api/uploads", json=file, headers=head).json()["asset"]
    link = {"type": "ingest", "params": {"source": "https://example.com/talk.wav"}}
    job = urllib3.request("POST", f"{api}/api/jobs", json=link, headers=head).json()["id"]
    (tmp_path / "schemathesis.toml").write_text(CONFIG.format(job=job, asset=asset))
    ended = subprocess.run(
        [
            *(str(SCHEMATHESIS), "run", f"{api}/openapi.json", "--url", api, "-H", f"Authorization: Bearer {TOKEN}"),
            *("--max-examples", str(EXAMPLES), "--seed", str(SEED), "--no-color"),
            *("--exclude-checks", "positive_data_acceptance", "--continue-on-failure"),
            # A stream of events has no end to wait for.
            *("--request-timeout", "60", "--exclude-path", "/api/events"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-2000:]
    generated = re.search(r"(\d+) generated, (\d+) (passed|found)", ended.stdout)
    assert generated is not None, ended.stdout[-2000:]
    assert int(generated[1]) > 500
    assert re.search(r"Tested: (\d+)", ended.stdout)[1] == re.search(r"Selected: (\d+)/", ended.stdout)[1]
