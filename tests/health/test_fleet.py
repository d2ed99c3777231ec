"""The pages of a supervisor: of processes that respond, hang, restart, or are not who they should be."""

import asyncio
import json
import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hub.metrics import Registry
from hub.runtime.health import Check, FleetMember, FleetPages, Health, PageUnavailable, ProcessPages, Request, ask_all, fetch

from .clients import responding, serving

PID = os.getpid()
PATIENT_SECONDS = 30.0
SOON_SECONDS = 0.3
"""For processes that may only fail."""
HANG_SECONDS = 1.5
"""For processes that hang beside others that respond."""


def process(role: str, **failed: str) -> ProcessPages:
    """The pages of a process of this role that serves; `failed`: its failed checks."""
    health = Health(role)
    health.started = True
    health.checks = {name: partial(Check, False, detail) for name, detail in failed.items()}
    registry = Registry({"role": role})
    registry.gauge("hub.process.up").set(1)
    registry.counter("hub.metrics.series.overflow", instrument=f"of {role}").add(3)
    return ProcessPages(health, registry.collect)


def fleet(*members: FleetMember, timeout_seconds: float = PATIENT_SECONDS) -> FleetPages:
    """The pages of a supervisor that serves."""
    health = Health("up")
    health.started = True
    registry = Registry({"role": "up"})
    registry.gauge("hub.process.up").set(1)
    return FleetPages(health, lambda: members, registry.collect, timeout_seconds=timeout_seconds)


async def read(pages: FleetPages, path: str) -> tuple[int, Any]:
    """The status and the content of a JSON page."""
    response = await pages.answer(Request("GET", path))
    return response.status, json.loads(response.body)


async def series(pages: FleetPages) -> dict[str, Sequence[Any]]:
    """The samples of `/metrics` by the name of the family, read by Prometheus's own parser."""
    text = (await pages.answer(Request("GET", "/metrics"))).body.decode()
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families) == text.count("# TYPE ") == text.count("# HELP ")
    return {family.name: family.samples for family in families}


async def test_a_hub_is_ready_when_all_its_processes_are() -> None:
    async with serving(process("broker+engine").answer) as broker, serving(process("worker").answer) as worker:
        members = [
            FleetMember("broker+engine", "broker+engine", PID, True, broker),
            FleetMember("worker-1", "worker", PID, True, worker),
        ]
        assert await read(fleet(*members), "/readyz") == (200, {"ready": True, "failed": {}})
        _, status = await read(fleet(*members), "/status")
        assert {name: one["role"] for name, one in status["processes"].items()} == {
            "broker+engine": "broker+engine",
            "worker-1": "worker",
        }


async def test_a_failed_check_has_the_name_of_its_process() -> None:
    async with (
        serving(process("worker").answer) as first,
        serving(process("worker", inbox="the connection is lost").answer) as second,
    ):
        members = [FleetMember("worker-1", "worker", PID, True, first), FleetMember("worker-2", "worker", PID, True, second)]
        assert await read(fleet(*members), "/readyz") == (
            503,
            {"ready": False, "failed": {"worker-2/inbox": "the connection is lost"}},
        )


async def test_processes_that_hang_are_named_and_waited_for_at_the_same_time() -> None:
    async with responding(None) as silent, serving(process("delivery").answer) as delivery:
        hung = [FleetMember(f"worker-{number}", "worker", PID, True, silent) for number in range(8)]
        pages = fleet(*hung, FleetMember("delivery", "delivery", PID, True, delivery), timeout_seconds=HANG_SECONDS)
        began = asyncio.get_running_loop().time()
        status, said = await read(pages, "/readyz")
        assert asyncio.get_running_loop().time() - began < 4 * HANG_SECONDS
        assert status == 503
        assert said["failed"] == {f"worker-{number}/response": "no response within 1.5 s" for number in range(8)}
        _, known = await read(pages, "/status")
        assert known["processes"]["worker-3"] == {
            "role": "worker",
            "pid": PID,
            "ready": False,
            "failed": {"response": "no response within 1.5 s"},
        }


@pytest.mark.parametrize(
    ("member", "why"),
    [
        (FleetMember("engine", "engine", None, False, None), "it has ended or is starting"),
        (FleetMember("engine", "engine", PID, False, "127.0.0.1:1"), "it has ended or is starting"),
        (FleetMember("engine", "engine", PID, True, None), "it serves no health pages"),
        (FleetMember("engine", "engine", PID, True, "127.0.0.1:1"), "no connection to its health pages"),
    ],
)
async def test_a_process_that_ended_or_serves_no_pages_is_not_ready(member: FleetMember, why: str) -> None:
    status, said = await read(fleet(member), "/readyz")
    assert status == 503
    assert said["failed"]["engine/response"].startswith(why)


async def test_the_address_of_a_process_that_was_replaced_may_belong_to_another() -> None:
    async with serving(process("worker").answer) as address:
        _, said = await read(fleet(FleetMember("worker", "worker", 1, True, address)), "/readyz")
    assert said["failed"] == {"worker/response": f"process {PID} responds at its address, not 1"}


def http(body: bytes, status: str = "200 OK") -> bytes:
    """A response."""
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status.encode(), len(body), body)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"220 mail\r\n\r\n",
        http(b"{}"),
        http(b"[]"),
        http(b"null"),
        http(b'{"pid": 1, "failed": []}'),
        http(b"\xff"),
        http(b"not here", "404 Not Found"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
    ],
)
async def test_what_is_not_a_status_page_is_not_a_failure_of_the_supervisor(data: bytes) -> None:
    async with responding(data) as address:
        member = FleetMember("worker", "worker", PID, True, address)
        pages = fleet(member, timeout_seconds=SOON_SECONDS)
        status, said = await read(pages, "/readyz")
        assert (status, list(said["failed"])) == (503, ["worker/response"])
        up = {one.labels["process"]: one.value for one in (await series(pages))["hub_process_up"]}
        assert up == {"up": 1, "worker": 0}


async def test_a_response_without_an_end_is_given_up_by_its_size() -> None:
    async with responding(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(17 << 20)) as address:
        with pytest.raises(PageUnavailable, match="more than 16777216 bytes"):
            await fetch(address, "/status", timeout_seconds=10)


async def test_the_metrics_of_all_processes_are_one_exposition_with_role_and_process() -> None:
    async with (
        serving(process("worker").answer) as first,
        serving(process("engine").answer) as second,
        responding(None) as silent,
    ):
        found = await series(
            fleet(
                FleetMember("worker-1", "worker", PID, True, first),
                FleetMember("worker-2", "worker", PID, True, first),
                FleetMember("engine", "engine", PID, True, second),
                FleetMember("delivery", "delivery", PID, True, silent),
                timeout_seconds=HANG_SECONDS,
            )
        )
    up = {one.labels["process"]: (one.labels["role"], one.value) for one in found["hub_process_up"]}
    workers = {"worker-1": ("worker", 1), "worker-2": ("worker", 1)}
    assert up == {"up": ("up", 1), **workers, "engine": ("engine", 1), "delivery": ("delivery", 0)}
    counted = {(one.labels["process"], one.labels["instrument"]): one.value for one in found["hub_metrics_series_overflow"]}
    assert counted == {("worker-1", "of worker"): 3, ("worker-2", "of worker"): 3, ("engine", "of engine"): 3}


async def test_a_supervisor_that_drains_is_not_ready_and_lives() -> None:
    pages = fleet()
    assert (await read(pages, "/readyz"))[0] == 200
    pages._health.draining = True
    assert await read(pages, "/readyz") == (503, {"ready": False, "failed": {"process": "it is draining"}})
    assert (await pages.answer(Request("GET", "/livez"))).status == 200
    assert (await pages.answer(Request("GET", "/other"))).status == 404


async def test_no_process_is_asked_longer_than_the_limit() -> None:
    async with responding(None) as silent:
        asked = await ask_all([FleetMember("worker", "worker", PID, True, silent)], 0.05)
    assert asked["worker"]["failed"] == {"response": "no response within 0.05 s"}
