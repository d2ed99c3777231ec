"""A hub under a varied load, and a Prometheus that scrapes it for some minutes; afterwards one that only answers.

The configuration of Prometheus is that of `hub dashboards write`, with its interval and rules.
"""

import asyncio
import contextlib
import json
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import psutil

from hub import Hub
from hub.dashboards import Site, write_files
from tests.e2e.processes import HubProcess
from tests.ports import free_ports

from .prometheus import binary
from .traffic import NAME, configuration, produce

READY_SECONDS = 60.0
WORKERS = (f"{NAME}:tasks", "hub.demo.app:tasks")


class Recorded(NamedTuple):
    """The time of a load in seconds since the epoch."""

    begin: float
    end: float


async def record(folder: Path, seconds: float) -> Recorded:
    """Run a hub under load for so many seconds. `folder` gets the data of Prometheus and the time of the load."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hub.toml").write_text(configuration())
    ports = free_ports(2)
    write_files(folder, Site("/dashboards", tuple(f"127.0.0.1:{port}" for port in ports)))
    with prometheus(folder):
        async with _hub(folder, ports) as (up, receiver):
            begin = time.time()
            async with Hub(up.about["address"]) as hub, asyncio.TaskGroup() as group:
                group.create_task(produce(hub, seconds))
                group.create_task(_disturb(up, receiver, seconds))
            recorded = Recorded(begin, time.time())
    (folder / "recorded.json").write_text(json.dumps(recorded._asdict()))
    return recorded


def recorded_in(folder: Path) -> Recorded:
    """The time of the load that was recorded in a folder. Raises OSError if there is none."""
    return Recorded(**json.loads((folder / "recorded.json").read_text()))


@contextlib.asynccontextmanager
async def _hub(folder: Path, ports: list[int]) -> AsyncIterator[tuple[HubProcess, HubProcess]]:
    """`hub up` and a receiver of alerts, whose health pages have these ports."""
    environment = {"HUB_CONFIG": str(folder / "hub.toml")}
    arguments = ["up", "--data", str(folder / "data"), "--port", "0", "--health-port", str(ports[0]), "--analytics"]
    arguments += ["--partitions", "2", "--slots", "16", "--workers", "1"]
    for registry in WORKERS:
        arguments += ["--worker", registry]
    up = await HubProcess("up", arguments, folder, environment).start()
    try:
        listen = ["--listen", "127.0.0.1:0", "--task", "send-mail", "--health-port", str(ports[1])]
        receiver = HubProcess("alerts", ["alerts", "receive", "--bootstrap", up.about["address"], *listen], folder, environment)
        await receiver.start()
        try:
            yield up, receiver
        finally:
            await receiver.stop()
    finally:
        await up.stop()


async def _disturb(up: HubProcess, receiver: HubProcess, seconds: float) -> None:
    """Alerts arrive; after half of the time a worker is killed, which `hub up` starts again."""
    loop = asyncio.get_running_loop()
    begin = loop.time()
    killed = False
    while (passed := loop.time() - begin) < seconds:
        await asyncio.to_thread(_notify, receiver.about["listen"], int(passed) // 20)
        if passed > seconds / 2 and not killed:
            killed = True
            _worker_of(up.pid).send_signal(signal.SIGKILL)
        await asyncio.sleep(10)


def _worker_of(pid: int) -> psutil.Process:
    return next(one for one in psutil.Process(pid).children(recursive=True) if WORKERS[0] in one.cmdline())


def _notify(address: str, number: int) -> None:
    """Post a notification as Alertmanager does; every second one is a repetition."""
    alert = {
        "status": "firing",
        "labels": {"alertname": "DiskFull", "host": f"host-{number}"},
        "startsAt": "2026-01-01T00:00:00Z",
        "fingerprint": f"{number:016x}",
    }
    body = json.dumps({"version": "4", "alerts": [alert]})
    connection = HTTPConnection(address.removeprefix("http://"), timeout=10)
    with contextlib.closing(connection):
        connection.request("POST", "/alerts", body, {"content-type": "application/json"})
        connection.getresponse().read()


class Prometheus:
    """The HTTP API of a Prometheus on a loopback port. Source: "HTTP API" in Prometheus's documentation."""

    def __init__(self, port: int) -> None:
        self.port = port

    def is_ready(self) -> bool:
        """Whether it answers queries."""
        with contextlib.suppress(OSError):
            return self._get("/-/ready")[0] == 200
        return False

    def over_time(self, expression: str, begin: float, end: float, step: float) -> list[dict[str, Any]]:
        """The series of a range query. Raises ValueError with the answer if it is refused."""
        return self._query("query_range", query=expression, start=f"{begin:.3f}", end=f"{end:.3f}", step=f"{step:g}")

    def at(self, expression: str, when: float) -> list[dict[str, Any]]:
        """The samples of an instant query. Raises ValueError with the answer if it is refused."""
        return self._query("query", query=expression, time=f"{when:.3f}")

    def _query(self, kind: str, **fields: str) -> list[dict[str, Any]]:
        status, body = self._get(f"/api/v1/{kind}?{urlencode(fields)}")
        if status != 200:
            raise ValueError(f"{fields['query']}: {body.decode(errors='replace')[:500]}")
        found: list[dict[str, Any]] = json.loads(body)["data"]["result"]
        return found

    def _get(self, path: str) -> tuple[int, bytes]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()


@contextlib.contextmanager
def prometheus(folder: Path) -> Iterator[Prometheus]:
    """A Prometheus with the configuration and the data in a folder. Raises PrometheusUnavailable."""
    (port,) = free_ports(1)
    command = [str(binary("prometheus")), f"--config.file={folder}/prometheus/prometheus.yaml"]
    command += [f"--storage.tsdb.path={folder}/tsdb", f"--web.listen-address=127.0.0.1:{port}"]
    with (folder / "prometheus.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        found = Prometheus(port)
        deadline = time.monotonic() + READY_SECONDS
        while not found.is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Prometheus is not ready: {(folder / 'prometheus.log').read_text()[-2000:]}")
            time.sleep(0.1)
        yield found
    finally:
        process.terminate()
        process.wait()
