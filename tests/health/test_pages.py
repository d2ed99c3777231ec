"""The state of a process as its pages."""

import asyncio
import json
import os
from typing import Any

import pytest

from hub import __version__
from hub.metrics import Registry, decode_snapshot
from hub.runtime.health import Check, Health, ProcessPages, Request, Response
from hub.runtime.process import Process


def pages_of(health: Health) -> ProcessPages:
    """Pages with a registry of one gauge."""
    registry = Registry({"role": health.role})
    registry.gauge("hub.process.up").set(1)
    return ProcessPages(health, registry.collect)


async def read(health: Health, path: str, accept: str = "") -> Response:
    """A page."""
    return await pages_of(health).answer(Request("GET", path, accept))


async def read_json(health: Health, path: str) -> tuple[int, Any]:
    """The status and the content of a page."""
    response = await read(health, path)
    assert response.content_type == "application/json"
    return response.status, json.loads(response.body)


async def test_a_process_lives_before_it_is_ready_and_while_it_drains() -> None:
    health = Health("worker")
    assert (await read(health, "/livez")).status == 200
    assert await read_json(health, "/readyz") == (503, {"ready": False, "failed": {"process": "it is starting"}})
    health.started = True
    assert await read_json(health, "/readyz") == (200, {"ready": True, "failed": {}})
    health.draining = True
    assert (await read(health, "/livez")).status == 200
    assert await read_json(health, "/readyz") == (503, {"ready": False, "failed": {"process": "it is draining"}})


async def test_readiness_names_every_failed_check_and_why() -> None:
    health = Health("engine")
    health.started = True
    failed = {"lag": "7 records"}
    health.checks = {"lag": lambda: Check("lag" not in failed, failed.get("lag", "")), "disk": lambda: Check(True, "enough")}
    assert await read_json(health, "/readyz") == (503, {"ready": False, "failed": {"lag": "7 records"}})
    failed.clear()
    assert await read_json(health, "/readyz") == (200, {"ready": True, "failed": {}})


async def test_a_check_that_raises_has_failed_and_the_others_are_computed() -> None:
    health = Health("engine")
    health.started = True
    health.checks = {"broken": lambda: Check(1 / 0 > 0), "well": lambda: Check(True)}
    _, said = await read_json(health, "/readyz")
    assert said["failed"] == {"broken": "the check raised ZeroDivisionError: division by zero"}


async def test_the_status_says_who_the_process_is_and_what_it_knows() -> None:
    now = iter([10.0, 12.5])
    health = Health("engine", clock=lambda: next(now))
    health.started = True
    health.facts = {"partitions": [0, 1]}
    health.checks = {"lag": lambda: Check(True, "3 records")}
    assert await read_json(health, "/status") == (
        200,
        {
            "role": "engine",
            "pid": os.getpid(),
            "version": __version__,
            "uptime_seconds": 2.5,
            "ready": True,
            "draining": False,
            "failed": {},
            "checks": {"lag": {"ok": True, "detail": "3 records"}},
            "facts": {"partitions": [0, 1]},
        },
    )


async def test_metrics_are_text_for_prometheus_and_a_snapshot_for_who_accepts_json() -> None:
    text = await read(Health("engine"), "/metrics", "text/plain;version=0.0.4;q=0.5,*/*;q=0.1")
    assert text.content_type.startswith("text/plain; version=0.0.4")
    assert b'\nhub_process_up{role="engine"} 1\n' in text.body
    openmetrics = await read(Health("engine"), "/metrics", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert openmetrics.content_type.startswith("application/openmetrics-text")
    assert openmetrics.body.endswith(b"# EOF\n")
    snapshot = await read(Health("engine"), "/metrics", "application/json")
    assert decode_snapshot(snapshot.body).value("hub.process.up") == 1


@pytest.mark.parametrize("path", ["/", "/metrics/", "/Livez", "/healthz", "//livez"])
async def test_any_other_path_is_not_found_and_says_which_there_are(path: str) -> None:
    response = await read(Health("broker"), path)
    assert response.status == 404
    assert b"/readyz" in response.body


async def test_a_process_is_ready_once_it_says_so_and_drains_from_the_first_signal(capsys: pytest.CaptureFixture[str]) -> None:
    process = Process("engine")
    process.report(health="127.0.0.1:7")
    assert process.health.failed() == {"process": "it is starting"}
    process.ready(partitions=[1])
    assert json.loads(capsys.readouterr().out.removeprefix("ready engine "))["health"] == "127.0.0.1:7"
    process.report(failing={"a": "why"})
    assert process.health.failed() == {}
    assert process.health.facts == {"partitions": [1], "health": "127.0.0.1:7", "failing": {"a": "why"}}
    process.on_signal(15)
    assert process.stopping.is_set()
    assert process.health.failed() == {"process": "it is draining"}


async def test_the_metrics_of_a_process_have_its_role_and_its_own_figures() -> None:
    process = Process("engine")
    snapshot = await asyncio.to_thread(process.collect)
    assert snapshot.constant == {"role": "engine"}
    assert snapshot.value("hub.process.memory") > 1_000_000
