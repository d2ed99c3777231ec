"""What an outage of the collector costs the hub: `python -m tests.otel.outage [--tasks 20000] [--repeats 3]`.

Runs no-op tasks at full load (`hub bench throughput`) on a new hub with `[otlp] endpoint`, once for each behaviour of the
collector, and repeats that: so neighbouring measurements share the conditions of the machine. Prints for each behaviour the
medians of tasks per second, of the CPU time of engine and worker per task, and the memory of the process of delivery at the end.
"""

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.request import urlopen

from hub import Hub
from hub.bench import REGISTRY, SUBSCRIBER
from hub.bench.measures import throughput
from hub.cli.local_hub import LocalHub

MODES = ("up", "hangs", "refuses", "503")
WARM_UP_TASKS = 2_000
ROUNDS = 3
SLOTS = 500


class Measured(NamedTuple):
    """One round. CPU time in microseconds per task, by role."""

    tasks_per_second: float
    engine_us: float
    worker_us: float
    delivery_us: float
    delivery_mib: float


class Unavailable(BaseHTTPRequestHandler):
    """Answers 503."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Read the request, and refuse it."""
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(503)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *_: object) -> None:
        """Nothing is logged."""


def sink(mode: str) -> None:
    """A collector that is away: prints its port, and serves until its stdin ends."""
    if mode == "503":
        server = ThreadingHTTPServer(("127.0.0.1", 0), Unavailable)
        server.daemon_threads = True
        print(server.server_port, flush=True)
        server.serve_forever()
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    if mode == "refuses":
        listener.close()  # its port stays free: the system gives ephemeral ports in another order
    connections = []
    while mode == "hangs":
        connections.append(listener.accept())
    sys.stdin.read()


@contextmanager
def collector(mode: str) -> Iterator[str]:
    """The address of a collector that behaves like this meanwhile."""
    module = ["hub.bench.otlp_sink"] if mode == "up" else ["tests.otel.outage", "--sink", mode]
    command = [sys.executable, "-m", *module]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


async def measure(mode: str, tasks: int) -> list[Measured]:
    """Rounds on a new hub, whose collector behaves like this."""
    with collector(mode) as endpoint:
        os.environ["HUB_OTLP_ENDPOINT"] = endpoint
        async with LocalHub() as local:
            await local.start_broker()
            await local.start_worker(REGISTRY, slots=SLOTS)
            await local.start_delivery(SUBSCRIBER)
            async with Hub(local.cluster) as hub:
                await throughput(hub, WARM_UP_TASKS)
                found = [await _round(local, hub, tasks) for _ in range(ROUNDS)]
        if mode == "up":
            assert await asyncio.to_thread(_spans_at, endpoint) > 0, "the collector is up and got no spans"
        return found


def _spans_at(endpoint: str) -> int:
    """The number of spans that the collector which is up has received."""
    with urlopen(f"{endpoint}/spans", timeout=60) as answer:
        return int(answer.read())


async def _round(local: LocalHub, hub: Hub, tasks: int) -> Measured:
    before = local.cpu_seconds()
    found = await throughput(hub, tasks)
    assert found.completed == tasks, f"{tasks - found.completed} tasks did not complete"
    used = {role: (seconds - before[role]) / tasks * 1e6 for role, seconds in local.cpu_seconds().items()}
    (delivery,) = [child for child in local.children if child.role == "delivery"]
    memory = delivery.memory_bytes() / 2**20
    return Measured(tasks / found.seconds, used["broker+engine"], used["worker"], used["delivery"], memory)


def main(arguments: Sequence[str] | None = None) -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=20_000, help="tasks per round")
    parser.add_argument("--repeats", type=int, default=3, help=f"hubs per behaviour, with {ROUNDS} rounds each")
    parser.add_argument("--sink", choices=MODES, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.sink is not None:
        sink(options.sink)
        return
    found: dict[str, list[Measured]] = {mode: [] for mode in MODES}
    for repeat in range(options.repeats):
        for mode in MODES if repeat % 2 == 0 else reversed(MODES):
            found[mode] += asyncio.run(measure(mode, options.tasks))
            print(
                json.dumps({"mode": mode, "rounds": [round(one.tasks_per_second) for one in found[mode][-ROUNDS:]]}), flush=True
            )
    for mode, rounds in found.items():
        medians = {name: round(statistics.median(getattr(one, name) for one in rounds), 1) for name in Measured._fields}
        spread = sorted(round(one.tasks_per_second) for one in rounds)
        print(json.dumps({"mode": mode, "rounds": len(rounds), **medians, "tasks_per_second_from_to": [spread[0], spread[-1]]}))


if __name__ == "__main__":
    main()
