"""What happens inside one instance of the function: `python -S -P inside.py POLLS JOB`, with the zip as PYTHONPATH.

Prints JSON: CPU of the import, milliseconds of each poll, and of a plain question to the same database in turn.
"""

from __future__ import annotations

import time

CPU_BEGAN = time.process_time()
import functions.handler  # noqa: E402 - its cost is what is measured

IMPORT_CPU_MS = 1000 * (time.process_time() - CPU_BEGAN)

import json  # noqa: E402 - after the import that is measured
import sys  # noqa: E402 - after the import that is measured
from collections.abc import Callable  # noqa: E402 - after the import that is measured
from typing import Any  # noqa: E402 - after the import that is measured

from shared.settings import load_settings  # noqa: E402 - after the import that is measured
from shared.store import get_job_store  # noqa: E402 - after the import that is measured


def main() -> None:
    """Ask and poll, in turn."""
    polls, job = int(sys.argv[1]), sys.argv[2]
    store = get_job_store(load_settings())
    event = _event(f"/api/jobs/{job}")
    polled, asked = [], []
    etag = ""
    for _ in range(polls):
        asked.append(_ms(store.check))
        polled.append(_ms(lambda: _answer(event)))
    etag = _answer(event)["headers"]["etag"]
    event["headers"]["if-none-match"] = etag
    unchanged = [_ms(lambda: _answer(event, 304)) for _ in range(polls)]
    print(
        json.dumps({"import_cpu_ms": IMPORT_CPU_MS, "polled_ms": polled, "asked_ms": asked, "unchanged_ms": unchanged})
    )


def _answer(event: dict[str, Any], status: int = 200) -> Any:  # noqa: ANN401 - what the gateway gets
    answer = functions.handler.handler(event, None)
    if answer["statusCode"] != status:
        raise SystemExit(f"the function answered {answer['statusCode']}: {answer['body']}")
    return answer


def _ms(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - began)


def _event(path: str) -> dict[str, Any]:
    about = {"method": "GET", "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "bench"}
    headers = {"host": "spool.example.org", "authorization": "Bearer a-token", "x-forwarded-proto": "https"}
    return {
        "version": "2.0",
        "rawPath": path,
        "rawQueryString": "",
        "headers": headers,
        "requestContext": {"http": about, "domainName": "spool.example.org", "stage": "$default"},
        "isBase64Encoded": False,
    }


if __name__ == "__main__":
    main()
