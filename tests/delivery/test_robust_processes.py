"""What code of a plugin does to the process that runs it, as its manager sees it: secrets, cancellations, too few resources."""

import asyncio
import json
import logging
import os

import pytest

from hub.delivery import SubscriberConfig
from hub.delivery.isolation import ForkedProcess, IsolatedSubscriber, Job, Reporter
from hub.delivery.lifecycle import Lifecycle
from hub.delivery.restarting import Restarting
from hub.delivery.status import SubscriberStatus
from hub.kafka import Cluster
from hub.telemetry import conceal


def said(write: int, read: int) -> list[dict[str, object]]:
    os.close(write)
    with open(read, "rb") as pipe:
        return [json.loads(line) for line in pipe]


def test_a_report_masks_the_secrets_that_only_the_process_of_the_plugin_knows() -> None:
    conceal(["hunter2-hunter2"])
    read, write = os.pipe()
    reporter = Reporter(write)
    reporter.status(SubscriberStatus("pager", "pager", "failed", error="401 for token hunter2-hunter2"))
    reporter.invalid("settings.token: hunter2-hunter2 is too short")
    status, invalid = said(write, read)
    assert status["status"]["error"] == "401 for token **********"  # type: ignore[index]
    assert invalid["invalid"] == "settings.token: ********** is too short"


async def test_a_cancellation_from_the_plugins_code_is_a_failure_that_is_tried_again() -> None:
    lifecycle = Lifecycle(logging.getLogger("test"), lambda: None)
    restarting = Restarting(lifecycle)
    lives: list[int] = []

    async def live() -> None:
        lives.append(1)
        gone = asyncio.get_running_loop().create_future()
        gone.cancel()
        await gone

    running = asyncio.get_running_loop().create_task(restarting.run(live))
    while not lives or lifecycle.state != "failed":
        await asyncio.sleep(0)
    assert lifecycle.problem is not None
    assert "cancelled by the subscriber's own code" in lifecycle.problem
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    state: str = lifecycle.state
    assert state == "stopped"


class NoResources:
    """A fork server that cannot fork."""

    async def fork(self, job: bytes, memory: int) -> ForkedProcess:
        read, write = os.pipe()
        os.close(write)
        process = ForkedProcess(1, read, lambda *_: None)
        process.forked.set_result(0)
        process.ended.set_result(1)
        return process


async def test_a_process_that_cannot_be_forked_is_a_failure_of_its_subscriber_alone() -> None:
    config = SubscriberConfig(use="plugins:pager", id="pager")
    job = Job(Cluster.of("127.0.0.1:1"), config, "hub.events", 1.0, {})
    one = IsolatedSubscriber(job, NoResources(), lambda: None)  # type: ignore[arg-type]  # of its methods, `fork` is called
    running = asyncio.get_running_loop().create_task(one.run())
    async with asyncio.timeout(10):
        while one.lifecycle.problem is None:
            await asyncio.sleep(0.01)
    assert one.status().error == "no process could be forked for it: the system has too few resources"
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
