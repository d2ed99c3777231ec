"""A collector for benchmarks: `python -m hub.bench.otlp_sink` prints its port and accepts every message until its stdin ends.

`GET /spans` returns the number of spans that it has received. They are counted then, and not while they arrive.
"""

import gzip
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MESSAGES: list[bytes] = []
RESOURCE_SPANS, SCOPE_SPANS, SPANS = 1, 2, 2
"""Field numbers of ExportTraceServiceRequest, ResourceSpans and ScopeSpans (opentelemetry-proto 1.9)."""


class Sink(BaseHTTPRequestHandler):
    """Keeps messages."""

    protocol_version = "HTTP/1.1"  # keeps connections open

    def do_POST(self) -> None:
        """Accept a message."""
        body = self.rfile.read(int(self.headers["content-length"]))
        MESSAGES.append(gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body)
        self._answer(b"")

    def do_GET(self) -> None:
        """The number of spans so far."""
        self._answer(str(sum(count_spans(message) for message in list(MESSAGES))).encode())

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *_: object) -> None:
        """Nothing is logged."""


def count_spans(message: bytes) -> int:
    """The number of spans in an encoded ExportTraceServiceRequest."""
    return sum(
        1
        for resource in _messages_in(message, RESOURCE_SPANS)
        for scope in _messages_in(resource, SCOPE_SPANS)
        for _ in _messages_in(scope, SPANS)
    )


def _messages_in(message: bytes, field: int) -> Iterator[bytes]:
    """The values of a length-delimited field of a protobuf message, all of whose fields have this wire type."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        length, at = _varint(message, at)
        if tag == field << 3 | 2:
            yield message[at : at + length]
        at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while message[at] & 0x80:
        number |= (message[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return number | message[at] << shift, at + 1


def main() -> None:
    """Serve until stdin ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.shutdown()


if __name__ == "__main__":
    main()
