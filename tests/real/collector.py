"""A collector of OpenTelemetry traces on this machine: OTLP over HTTP, read with the protocol's own definitions."""

from __future__ import annotations

import contextlib
import gzip
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass
class Collector:
    """What has come: each span with the name of the service that sent it."""

    url: str
    spans: list[tuple[str, Span]] = field(default_factory=list)

    def named(self, name: str, **attributes: Any) -> Span:
        """The only span with this name and these attributes, dots written as `__`."""
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}
        found = [span for _, span in self.spans if span.name == name and wanted.items() <= told(span).items()]
        assert len(found) == 1, f"{len(found)} spans {name} {wanted}; there are {[span.name for _, span in self.spans]}"
        return found[0]

    def service_of(self, wanted: Span) -> str:
        """Who sent it."""
        return next(service for service, span in self.spans if span.span_id == wanted.span_id)


def told(span: Span) -> dict[str, Any]:
    """A span's attributes."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


@contextlib.contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that takes what comes."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            request = ExportTraceServiceRequest()
            request.ParseFromString(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
            for resource in request.resource_spans:
                service = {one.key: one.value.string_value for one in resource.resource.attributes}["service.name"]
                collector.spans += [(service, span) for scope in resource.scope_spans for span in scope.spans]
            self.send_response(200 if self.path == "/v1/traces" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_address[1]}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield collector
        finally:
            server.shutdown()
