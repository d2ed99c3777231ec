"""The health pages of real processes: `hub up` with a worker that is suspended and killed, `hub health`, `hub status`, a taken
port, a process started alone.
"""

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from subprocess import PIPE, CompletedProcess, Popen, run
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hub.cli.health import _failed, address_of, failed_checks
from hub.cli.status import _row
from hub.errors import ConfigurationError, Unreachable
from hub.kafka import Cluster
from hub.runtime import read_run_file
from hub.runtime.health import PageUnavailable
from hub.runtime.status import gather_status
from tests.ports import _is_free, free_port, free_ports
from tests.runtime.conftest import DEADLINE_SECONDS, HUB, HubUps, Up, environment, until


def page(port: int, path: str) -> tuple[int, str]:
    """The status and the body of a page."""
    connection = HTTPConnection("127.0.0.1", port, timeout=DEADLINE_SECONDS)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def failed(port: int) -> dict[str, str]:
    """The failed checks, by `/readyz`."""
    status, body = page(port, "/readyz")
    said = json.loads(body)
    assert status == (200 if said["ready"] else 503)
    assert said["ready"] is not bool(said["failed"])
    return dict(said["failed"])


def hub(folder: Path, *arguments: str, **variables: str) -> "CompletedProcess[str]":
    """Run a command."""
    return run(
        [*HUB, *arguments],
        cwd=folder,
        env=environment() | variables,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )


async def in_status(up: Up, role: str, data: str = "data") -> dict[str, Any]:
    """The line of this role in `hub status --json`."""
    found = await gather_status(Cluster.of(up.address), read_run_file(up.folder / data))
    (process,) = [one for one in found["processes"] if one["role"] == role]
    return dict(process)


@contextmanager
def suspended(pid: int) -> Iterator[None]:
    """A process that does not run meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_a_process_that_hangs_or_is_replaced_makes_the_hub_not_ready_with_its_name(hub_up: HubUps, tmp_path: Path) -> None:
    port = free_port()
    up = hub_up("--worker", "app:tasks", "--health-port", str(port)).ready()
    assert up.about["health"] == f"127.0.0.1:{port}"
    until(lambda: not failed(port))
    assert page(port, "/livez") == (200, "ok\n")
    assert_metrics_of(port, {"up": "up", "broker+engine": "broker+engine", "worker": "worker", "delivery": "delivery"})
    ready = hub(tmp_path, "health", HUB_HEALTH_PORT=str(port))
    assert (ready.returncode, ready.stdout, ready.stderr) == (0, "ready\n", "")
    worker = await in_status(up, "worker")
    assert (worker["ready"], worker["not_ready"]) == (True, {})

    pid = up.children()["worker"]["pid"]
    with suspended(pid), ThreadPoolExecutor() as pool:
        began = time.monotonic()
        assert failed(port) == {"worker/response": "no response within 1 s"}
        assert time.monotonic() - began < 3
        asked = pool.submit(hub, tmp_path, "health", "--url", f"http://127.0.0.1:{port}")
        pages = [pool.submit(page, port, path) for path in ("/metrics", "/status", "/livez")]
        worker = await in_status(up, "worker")
        assert (worker["ready"], worker["not_ready"]) == (False, {"response": "no response within 1 s"})
        assert (asked.result().returncode, asked.result().stdout) == (1, "worker/response: no response within 1 s\n")
        assert [one.result()[0] for one in pages] == [200, 200, 200]
        row = _row(worker)
        assert (row[3], "response: no response within 1 s" in row[-1]) == ("not ready", True)
    until(lambda: not failed(port))

    os.kill(pid, signal.SIGKILL)
    until(lambda: "worker/response" in failed(port) or up.restarted("worker", pid))
    until(lambda: up.restarted("worker", pid))
    until(lambda: not failed(port))
    assert json.loads(page(port, "/status")[1])["processes"]["worker"]["pid"] == up.children()["worker"]["pid"] != pid
    assert up.end() == 0
    assert up.errors().count("hub: ") == 0


def assert_metrics_of(port: int, processes: dict[str, str]) -> None:
    """`/metrics` has these processes (role by name), and each instrument once."""
    text = page(port, "/metrics")[1]
    families = list(text_string_to_metric_families(text))
    assert len(families) == len({family.name for family in families}) == text.count("# TYPE ")
    (up,) = [family for family in families if family.name == "hub_process_up"]
    assert {one.labels["process"]: one.labels["role"] for one in up.samples if one.value == 1} == processes
    (memory,) = [family for family in families if family.name == "hub_process_memory_bytes"]
    assert len(memory.samples) == len(processes)
    assert all(one.value > 1_000_000 for one in memory.samples)


async def test_a_taken_port_is_a_sentence_and_the_hub_runs_without_pages(hub_up: HubUps) -> None:
    port = free_port()
    first = hub_up("--no-subscribers", "--health-port", str(port), data="one")
    until(lambda: not _is_free(port))
    second = hub_up("--no-subscribers", "--health-port", str(port), data="two").ready()
    first.ready()
    assert second.about["health"] is None
    assert second.errors() == (
        f"hub: No health pages and metrics are served: cannot listen on 127.0.0.1:{port} (address already in use)."
        " Choose another port with --health-port (0: none).\n"
    )
    assert json.loads(page(port, "/status")[1])["pid"] == first.process.pid
    broker = await in_status(second, "broker+engine", "two")
    assert broker["ready"] is True, "its processes serve pages on ports of their own"
    assert (second.end(), first.end()) == (0, 0)


def test_a_process_started_alone_serves_its_own_pages(tmp_path: Path) -> None:
    port, health_port = free_ports(2)
    command = [*HUB, "broker", "--engine", "--port", str(port), "--log-level", "warning"]
    variables = environment() | {"HUB_HEALTH_PORT": str(health_port)}
    process = Popen(command, cwd=tmp_path, env=variables, stdout=PIPE, text=True)
    try:
        assert process.stdout is not None
        facts = json.loads(process.stdout.readline().removeprefix("ready broker+engine "))
        assert facts["health"] == f"127.0.0.1:{health_port}"
        assert failed(health_port) == {}
        status = json.loads(page(health_port, "/status")[1])
        assert (status["role"], status["pid"], status["facts"]["partitions"]) == ("broker+engine", process.pid, [0])
        assert {"listening", "writable", "intake_lag", "commit_age", "watermark_age", "disk_space"} == status["checks"].keys()
        assert 'hub_process_up{role="broker+engine"} 1' in page(health_port, "/metrics")[1]
    finally:
        process.terminate()
        process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1:9464/readyz", "127.0.0.1:9464"),
        ("hub:9500", "hub:9500"),
        ("http://[::1]:9464", "[::1]:9464"),
        ("http://hub", "hub:80"),
    ],
)
def test_a_url_is_an_address(url: str, address: str) -> None:
    assert address_of(url) == address


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("https://127.0.0.1:1", "must be of the form http://host:port"),
        ("http://:1", "must be of the form http://host:port"),
        ("http://127.0.0.1:port", "has no valid port"),
    ],
)
def test_a_url_without_a_host_or_with_another_scheme_is_refused(url: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        address_of(url)


async def test_where_no_pages_are_hub_health_says_so() -> None:
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(Unreachable, match=f"No health pages respond at {address}: no connection to its health pages"):
        await failed_checks(address)


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"<html>"), (404, b"{}"), (404, b'{"failed": {}}'), (200, b'{"failed": {"a": "b"}}'), (503, b'{"failed": {}}')],
)
def test_what_is_not_a_page_of_readiness_is_not_taken_for_one(status: int, body: bytes) -> None:
    with pytest.raises(PageUnavailable, match=f"status {status}"):
        _failed(status, body)


def test_a_broker_that_hangs_makes_engine_and_worker_not_ready_by_the_ages_they_know(hub_up: HubUps, tmp_path: Path) -> None:
    (tmp_path / "hub.toml").write_text("[health]\nwatermark_age_max_seconds = 2.0\n")
    port = free_port()
    options = ("--separate-engine", "--no-subscribers", "--worker", "app:tasks", "--lease-seconds", "2")
    up = hub_up(*options, "--health-port", str(port)).ready()
    until(lambda: not failed(port))
    with suspended(up.children()["broker"]["pid"]):
        until(lambda: failed(port).keys() >= {"broker/response", "engine/watermark_age", "worker/heartbeats"})
        detail = failed(port)["engine/watermark_age"]
        assert detail.startswith("partition 0: the time watermark is ")
        assert detail.endswith(" s old (limit 2)")
        assert failed(port)["worker/heartbeats"] == "the engine's partitions 0 have accepted no heartbeat in time"
    until(lambda: not failed(port))
    assert up.end() == 0
