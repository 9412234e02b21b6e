"""Lambda on this machine: a Function URL in front of AWS's own runtime client, which runs the unpacked zip.

`Function` takes HTTP, makes events of payload format 2.0 of it, and hands them to environments: one process each, one
event at a time, started when none is free, killed when it takes too long. The Runtime API between is real HTTP.
"""

from __future__ import annotations

import base64
import json
import os
import queue
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

MAX_PAYLOAD_BYTES = 6 * 1024 * 1024
_NEXT = "/2018-06-01/runtime/invocation/next"


class Quiet(BaseHTTPRequestHandler):
    """A handler that keeps connections open and prints nothing."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def read(self) -> bytes:
        """The request's body."""
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def send(self, status: int, body: bytes = b"", headers: Mapping[str, str] = {}, cookies: list[str] = []) -> None:  # noqa: B006 - never changed
        """One whole answer."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        for cookie in cookies:
            self.send_header("Set-Cookie", cookie)
        if status not in {204, 304}:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status not in {204, 304}:
            self.wfile.write(body)


def serve(handler: type[Quiet]) -> tuple[ThreadingHTTPServer, str]:
    """A server on a free port of this machine, and its `host:port`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return server, f"127.0.0.1:{server.server_address[1]}"


class Environment:
    """One instance: a Runtime API of its own, and the runtime client with the function loaded into it."""

    def __init__(self, task_root: Path, runtime: Path, settings: Mapping[str, str], timeout_s: float) -> None:
        self.events: queue.Queue[dict[str, Any]] = queue.Queue()
        self.answers: queue.Queue[tuple[str, Any]] = queue.Queue()
        self.handled = 0
        self._timeout_s = timeout_s
        environment = self

        class RuntimeApi(Quiet):
            def do_GET(self) -> None:
                event = environment.events.get()
                deadline_ms = round(1000 * (time.time() + timeout_s))
                headers = {
                    "Lambda-Runtime-Aws-Request-Id": str(uuid.uuid4()),
                    "Lambda-Runtime-Deadline-Ms": str(deadline_ms),
                    "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:eu-central-1:123456789012:function:spool",
                    "Content-Type": "application/json",
                }
                environment.answers.put(("taken", None))
                self.send(200, json.dumps(event).encode(), headers)

            def do_POST(self) -> None:
                body = self.read()
                kind = "answer" if self.path.endswith("/response") else "error"
                self.send(202, b"{}", {"Content-Type": "application/json"})
                environment.answers.put((kind, json.loads(body)))

        self._server, address = serve(RuntimeApi)
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-m", "awslambdaric", "functions.handler.handler"],
            cwd=task_root,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": f"{task_root}:{runtime}",
                "PYTHONDONTWRITEBYTECODE": "1",
                "AWS_LAMBDA_RUNTIME_API": address,
                "AWS_LAMBDA_FUNCTION_NAME": "spool-api",
                "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
                "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/spool-api",
                "AWS_LAMBDA_LOG_STREAM_NAME": "stream",
                "AWS_EXECUTION_ENV": "AWS_Lambda_python3.11",
                "AWS_REGION": "eu-central-1",
                "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
                "AWS_SECRET_ACCESS_KEY": "an example of a key",
                "LAMBDA_TASK_ROOT": str(task_root),
                **settings,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self.log: list[str] = []
        self._reader = threading.Thread(target=lambda: self.log.extend(self.process.stdout or ()), daemon=True)
        self._reader.start()

    def invoke(self, event: dict[str, Any]) -> tuple[str, Any]:
        """("answer", what was returned), ("error", why) or ("timeout", None); the time to start does not count."""
        self.events.put(event)
        kind, value = self.answers.get(timeout=60)  # starting, or an error while starting
        if kind == "taken":
            try:
                kind, value = self.answers.get(timeout=self._timeout_s)
            except queue.Empty:
                kind = "timeout"
        self.handled += 1
        if kind != "answer":
            self.close()
        return kind, value

    def close(self) -> None:
        """Kill the process; the runtime client never ends by itself."""
        self.process.kill()
        self.process.wait()
        self._reader.join()
        if self.process.stdout:
            self.process.stdout.close()
        self._server.shutdown()
        self._server.server_close()


class Function:
    """A function with a Function URL (`url`); `environments` are all that were ever started."""

    def __init__(
        self, task_root: Path, runtime: Path, settings: Mapping[str, str], *, timeout_s: float = 60, most: int = 4
    ) -> None:
        self.environments: list[Environment] = []
        self._made_of = (task_root, runtime, settings, timeout_s)
        self._free: list[Environment] = []
        self._most, self._lock = most, threading.Lock()
        function = self

        class Url(Quiet):
            def answer(self) -> None:
                body = self.read()
                if len(body) > MAX_PAYLOAD_BYTES:
                    self.send(413, b'{"message":"Request Entity Too Large"}')
                    return
                self.send(*function._answer(_event(self, body)))

        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            setattr(Url, f"do_{method}", Url.answer)
        self._server, address = serve(Url)
        self.url = f"http://{address}"

    def __enter__(self) -> Function:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        for environment in self.environments:
            if environment.process.returncode is None:
                environment.close()

    def _answer(self, event: dict[str, Any]) -> tuple[int, bytes, dict[str, str], list[str]]:
        with self._lock:
            if self._free:
                environment = self._free.pop()
            elif sum(one.process.returncode is None for one in self.environments) < self._most:
                environment = Environment(*self._made_of)
                self.environments.append(environment)
            else:
                return 429, b'{"Reason":"ConcurrentInvocationLimitExceeded"}', {}, []
        kind, value = environment.invoke(event)
        if kind != "answer":
            return 502, json.dumps({"kind": kind, "error": value}).encode(), {}, []
        with self._lock:
            self._free.append(environment)
        body = value.get("body") or ""
        sent = base64.b64decode(body) if value.get("isBase64Encoded") else body.encode()
        headers = {name: value for name, value in value["headers"].items() if name.lower() != "content-length"}
        return value["statusCode"], sent, headers, value.get("cookies") or []


def _event(request: Quiet, body: bytes) -> dict[str, Any]:
    """The request as a Function URL tells it: names in lower case, cookies apart, bodies that are no text in base64."""
    parts = urlsplit(request.path)
    headers: dict[str, str] = {}
    cookies: list[str] = []
    for name, value in request.headers.items():
        if name.lower() == "cookie":
            cookies += [cookie.strip() for cookie in value.split(";")]
        else:
            headers[name.lower()] = f"{headers[name.lower()]},{value}" if name.lower() in headers else value
    domain = "abcdefgh.lambda-url.eu-central-1.on.aws"
    headers |= {"host": domain, "x-forwarded-proto": "https", "x-forwarded-port": "443", "x-forwarded-for": "192.0.2.1"}
    kind = headers.get("content-type", "")
    text = kind.startswith("text/") or "json" in kind
    event = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": parts.path,
        "rawQueryString": parts.query,
        "headers": headers,
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "abcdefgh",
            "domainName": domain,
            "domainPrefix": "abcdefgh",
            "http": {
                "method": request.command,
                "path": parts.path,
                "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.1",
                "userAgent": headers.get("user-agent", ""),
            },
            "requestId": str(uuid.uuid4()),
            "routeKey": "$default",
            "stage": "$default",
        },
        "isBase64Encoded": not text,
    }
    if cookies:
        event["cookies"] = cookies
    if body:
        event["body"] = body.decode() if text else base64.b64encode(body).decode()
    return event
