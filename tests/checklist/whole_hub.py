"""A real `hub up`, shared by the tests of this folder: broker, engine, worker, subscribers, analytics; and a collector."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from hub import Hub, Workflow
from hub.errors import HubError
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
SECONDS = 60
SETTINGS = """
log_format = "json"
log_level = "info"
[otlp]
endpoint = "{collector}"
compression = "none"
metrics_interval_seconds = 1
[[rules]]
name = "bad-fails"
kind = "threshold"
match = {{ type = "task.failed", task = "bad" }}
window = "1m"
at_least = 2
[[subscribers]]
use = "tests.checklist.app:Witness"
id = "witness"
start_from = "earliest"
settings = {{ path = "{folder}/seen" }}
[[subscribers]]
use = "tests.checklist.app:raises"
id = "raises"
start_from = "earliest"
[[subscribers]]
use = "tests.checklist.app:exits"
id = "exits"
start_from = "earliest"
"""


class Collector:
    """Accepts whatever is posted. `bodies`: path and body of each request."""

    def __init__(self) -> None:
        bodies: list[tuple[str, bytes]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                bodies.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing."""

        self.bodies = bodies
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "Collector":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class WholeHub:
    """`hub up` in a folder. `address`: of its broker."""

    def __init__(self, folder: Path, collector: Collector) -> None:
        self.folder, self.collector = folder, collector
        self.health_port = free_port()
        (folder / "hub.toml").write_text(SETTINGS.format(folder=folder, collector=collector.url))
        self._environment = {**os.environ, "PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}:{ROOT}"}
        self.address = ""

    @contextmanager
    def up(self) -> Iterator["WholeHub"]:
        """The hub, ready, and stopped at the end."""
        command = [sys.executable, "-m", "hub", "up", "--port", "0", "--health-port", str(self.health_port), "--analytics"]
        command += ["--worker", "tests.checklist.app:tasks", "--grace-seconds", "1"]
        with (self.folder / "log").open("wb") as log:
            process = subprocess.Popen(
                command, cwd=self.folder, env=self._environment, stdout=subprocess.PIPE, stderr=log, text=True
            )
        with process:
            try:
                assert process.stdout is not None
                ready = next((line for line in process.stdout if line.startswith("ready ")), "")
                assert ready, self.log
                self.address = json.loads(ready.split(" ", 2)[2])["address"]
                yield self
            finally:
                process.terminate()
                try:
                    process.wait(SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    raise

    @property
    def log(self) -> str:
        """What the processes logged."""
        return (self.folder / "log").read_text()

    def log_lines(self) -> list[dict[str, Any]]:
        """The records of the log."""
        return [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]

    def events(self, pattern: str) -> list[dict[str, Any]]:
        """The events that the witness has received, whose type begins with `pattern`."""
        path = self.folder / "seen"
        text = path.read_text() if path.exists() else ""
        events = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        return [event for event in events if event["type"].startswith(pattern)]

    def page(self, path: str) -> tuple[int, str]:
        """Status and body of a health page."""
        connection = HTTPConnection("127.0.0.1", self.health_port, timeout=SECONDS)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def hub(self, *arguments: str) -> str:
        """The output of a `hub` command that succeeds."""
        environment = {**self._environment, "HUB_BOOTSTRAP": self.address}
        done = subprocess.run(
            [sys.executable, "-m", "hub", *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run_tasks(self) -> None:
        """Run an order of two steps with a correlation id, four charges, and two tasks that fail."""

        async def run() -> None:
            async with Hub(self.address) as hub:
                order = Workflow("order", id="order-7", correlation_id="customer-4711").step("first", "charge")
                handles = [await hub.submit(order.step("second", "charge", after=["first"]))]
                handles += [await hub.submit("charge", {"amount": amount}) for amount in range(4)]
                handles += [await hub.submit("bad") for _ in range(2)]
                for handle in handles:
                    with suppress(HubError):
                        await handle.result(timeout_seconds=SECONDS)

        asyncio.run(run())


def until(condition: Callable[[], object], what: str) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(0.1)
