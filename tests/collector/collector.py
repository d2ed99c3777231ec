"""A running collector that writes what it receives to files, one JSON message per line."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from subprocess import Popen, TimeoutExpired
from typing import Any, NamedTuple, Self

from tests.ports import free_ports

DEADLINE_SECONDS = 60.0
SIGNALS = ("traces", "metrics", "logs")

CONFIG = """
receivers:
  otlp:
    protocols:
      http:
        endpoint: 127.0.0.1:{port}
exporters:
  debug: {{}}
{exporters}
extensions:
  health_check:
    endpoint: 127.0.0.1:{health_port}
service:
  extensions: [health_check]
  telemetry:
    metrics:
      level: none
  pipelines:
{pipelines}
"""
EXPORTER = "  file/{name}:\n    path: {path}\n    append: true\n    flush_interval: 50ms"
PIPELINE = "    {name}:\n      receivers: [otlp]\n      exporters: [debug, file/{name}]"


class Span(NamedTuple):
    """A span as the collector wrote it; times in nanoseconds. `link`: the id of the linked span. `text`: all of it as JSON."""

    name: str
    id: str
    parent: str
    trace: str
    start: int
    end: int
    link: str
    failed: bool
    attributes: dict[str, Any]
    text: str

    @property
    def seconds(self) -> float:
        """Its duration."""
        return (self.end - self.start) / 1e9


class Collector:
    """A collector process on two free ports; started again, it has the same ports and appends to the same files."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.program, self.folder = program, folder
        self.port, self._health_port = free_ports(2)
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._process: Popen[bytes] | None = None
        names = [(name, folder / f"{name}.jsonl") for name in SIGNALS]
        config = CONFIG.format(
            port=self.port,
            health_port=self._health_port,
            exporters="\n".join(EXPORTER.format(name=name, path=path) for name, path in names),
            pipelines="\n".join(PIPELINE.format(name=name) for name in SIGNALS),
        )
        (folder / "collector.yaml").write_text(config)

    def start(self) -> Self:
        """Start it, and wait until it is healthy. Raises AssertionError with the end of its log."""
        with (self.folder / "collector.log").open("ab") as log:
            self._process = Popen([self.program, "--config", self.folder / "collector.yaml"], stdout=log, stderr=log)
        until(self._is_healthy, self._log)
        return self

    def _is_healthy(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log()
        connection = HTTPConnection("127.0.0.1", self._health_port, timeout=5)
        with contextlib.suppress(OSError), contextlib.closing(connection):
            connection.request("GET", "/")
            return connection.getresponse().status == 200
        return False

    def _log(self) -> str:
        return (self.folder / "collector.log").read_text()[-2000:]

    def stop(self) -> None:
        """End it; requests that it has accepted are in its files."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(DEADLINE_SECONDS)
            except TimeoutExpired:
                self._process.kill()
                self._process.wait()
                raise

    def spans(self) -> list[Span]:
        """All spans in the order in which they arrived, repeats included."""
        return [
            _span(one)
            for message in self._messages("traces")
            for resource in message["resourceSpans"]
            for scope in resource["scopeSpans"]
            for one in scope["spans"]
        ]

    def records(self) -> list[dict[str, Any]]:
        """All log records."""
        return [
            one
            for message in self._messages("logs")
            for resource in message["resourceLogs"]
            for scope in resource["scopeLogs"]
            for one in scope["logRecords"]
        ]

    def metrics(self) -> dict[str, dict[str, Any]]:
        """The newest metric of each name."""
        return {
            one["name"]: one
            for message in self._messages("metrics")
            for resource in message["resourceMetrics"]
            for scope in resource["scopeMetrics"]
            for one in scope["metrics"]
        }

    def _messages(self, name: str) -> list[dict[str, Any]]:
        path = self.folder / f"{name}.jsonl"
        lines = path.read_text().split("\n")[:-1] if path.exists() else []  # the last line may not be complete
        return [json.loads(line) for line in lines if line]


@contextlib.contextmanager
def running(program: Path, folder: Path) -> Iterator[Collector]:
    """A collector meanwhile."""
    collector = Collector(program, folder)
    try:
        yield collector.start()
    finally:
        collector.stop()


def until(condition: Callable[[], Any], about: Callable[[], object] = lambda: "it did not come true in time") -> Any:
    """Wait until `condition` returns something true, and return that. Real time, also where a test controls that of its loop."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, about()
        time.sleep(0.02)
    return found


def attributes_of(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    """Attributes as a dict; integers, which JSON has as text, as text."""
    return {pair["key"]: next(iter(pair["value"].values())) for pair in pairs}


def _span(one: dict[str, Any]) -> Span:
    return Span(
        one["name"],
        one["spanId"],
        one.get("parentSpanId", ""),
        one["traceId"],
        int(one["startTimeUnixNano"]),
        int(one["endTimeUnixNano"]),
        next((link["spanId"] for link in one.get("links", [])), ""),
        one.get("status", {}).get("code") == 2,
        attributes_of(one.get("attributes", [])),
        json.dumps(one, sort_keys=True),
    )
