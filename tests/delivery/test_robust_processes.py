"""What code of a plugin does to the process that runs it, as its manager sees it: secrets, cancellations, too few resources."""

import asyncio
import json
import logging
import os
import socket
from contextlib import closing
from types import SimpleNamespace

import pytest

from hub.delivery import SubscriberConfig
from hub.delivery.current_events import ENDS_MAX, KILLS_MAX, CurrentEvents, ProcessEnded, ProcessKilled
from hub.delivery.isolation import IsolatedSubscriber, Job, Reporter, isolated
from hub.delivery.lifecycle import Lifecycle
from hub.delivery.restarting import Restarting
from hub.delivery.status import SubscriberStatus
from hub.fork_server import ForkedProcess, ForkServer, ForkServerEnded
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


class Busy(NoResources):
    """A fork server whose processes are handling an event: this process stands for them. `reported`: what they report."""

    def __init__(self, reported: bytes, *, ends: bool) -> None:
        self.reported, self.ends = reported, ends

    async def fork(self, job: bytes, memory: int) -> ForkedProcess:
        current = CurrentEvents(memory, Job.of_bytes(job).suspects)
        current.open(1, 1, 1)
        current.begin(0, [SimpleNamespace(partition=0, offset=5, timestamp_ms=7)])  # type: ignore[list-item]  # of an item, its place
        read, write = os.pipe()
        os.write(write, self.reported)
        os.close(write)
        process = ForkedProcess(1, read, lambda _, number, code: process.ended.set_result(-code))
        process.forked.set_result(os.getpid())
        if self.ends:
            process.ended.set_result(0)
        return process


@pytest.mark.parametrize(
    ("reported", "memory_bytes_max", "silent_seconds", "cause", "counted"),
    [
        (b"", 1 << 40, 30, "ended with exit code 0", ProcessEnded),
        (b'{"draining": true}\n', 1 << 40, 30, "ended with exit code 0", ProcessKilled),
        (b"", 1 << 40, 0, "did not report for 0 s", ProcessEnded),
        (b'{"draining": true}\n', 1 << 40, 0, "did not report for 0 s", ProcessKilled),
        (b"", 16 << 20, 30, "memory_bytes_max is 16,777,216", ProcessKilled),
    ],
)
async def test_an_end_that_may_have_another_cause_than_the_event_counts_as_a_kill(
    monkeypatch: pytest.MonkeyPatch,
    reported: bytes,
    memory_bytes_max: int,
    silent_seconds: float,
    cause: str,
    counted: type[ProcessEnded],
) -> None:
    monkeypatch.setattr(isolated, "WATCH_SECONDS", 0.01)
    monkeypatch.setattr(isolated, "KILL_AFTER_SILENT_SECONDS", silent_seconds)
    config = SubscriberConfig(use="plugins:pager", id="pager", memory_bytes_max=memory_bytes_max)
    job = Job(Cluster.of("127.0.0.1:1"), config, "hub.events", 1.0, {})
    server = Busy(reported, ends="exit code" in cause)
    one = IsolatedSubscriber(job, server, lambda: None)  # type: ignore[arg-type]  # of its methods, `fork` is called
    limit = KILLS_MAX if counted is ProcessKilled else ENDS_MAX
    async with asyncio.timeout(30):
        for ends in range(1, limit + 1):
            with pytest.raises(ProcessEnded, match=cause):
                await one._one_process()
            [suspect] = one._suspicion.suspects
            assert (suspect.place, suspect.ends) == ((0, 5, 7), ends)
            assert (suspect.error is None) == (ends < limit), "an event that is the cause of every end is given up at last"


def open_pipes() -> int:
    """How many pipes this process has open."""
    names = (os.path.join("/proc/self/fd", number) for number in os.listdir("/proc/self/fd"))
    return sum(os.path.lexists(name) and os.readlink(name).startswith("pipe:") for name in names)


def server_without_a_process(monkeypatch: pytest.MonkeyPatch) -> tuple[ForkServer, socket.socket]:
    """A handle, and the socket that its server would read."""
    ours, theirs = socket.socketpair()
    monkeypatch.setattr(socket, "socketpair", lambda: (ours, theirs.dup()))
    monkeypatch.setattr(os, "fork", lambda: 1)
    monkeypatch.setattr(os, "waitpid", lambda pid, _: (pid, 0))
    return ForkServer(lambda *_: os._exit(0), "delivery"), theirs


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="lists the descriptors of this process")
@pytest.mark.parametrize("how", ["cancelled", "ended before", "ended meanwhile"])
async def test_a_process_that_is_not_forked_leaves_no_descriptor(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    server, theirs = server_without_a_process(monkeypatch)
    before = open_pipes()
    with theirs, closing(server):
        if how == "ended before":
            theirs.close()
        forking = asyncio.ensure_future(server.fork(b"job", theirs.fileno() if how != "ended before" else 0))
        await asyncio.sleep(0)
        if how == "ended meanwhile":
            theirs.close()
        elif how == "cancelled":
            forking.cancel()
        with pytest.raises(asyncio.CancelledError if how == "cancelled" else ForkServerEnded):
            await forking
        assert open_pipes() == before
