"""A background task that raises what nobody expects ends its service: with that error, logged once and by name, and without a
hang. A stop leaves no task behind."""

import asyncio
import logging
from pathlib import Path
from typing import NoReturn

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from hub import RepliesFailedError
from hub.broker import BrokerServer
from hub.broker.housekeeping import Housekeeper
from hub.broker.storage import MemoryStorage
from hub.client.replies import ReplyReader
from hub.delivery import DeliveryService, SubscriberConfig
from hub.delivery.administration.control import Control
from hub.delivery.lifecycle import Lifecycle
from hub.delivery.service import DeliveryFailedError
from hub.engine import EngineFailedError, EngineService, LoopSettings
from hub.engine.embedded import EmbeddedEngine
from hub.engine.service import OwnedPartitions
from hub.kafka import Cluster, KafkaTransport
from hub.runtime import ChildSpec, CommandLine, Fleet, Process, Supervisor
from hub.runtime.errors import ProcessFailed
from hub.runtime.roles import _serve
from tests.components.running import until
from tests.engine.test_loop import broker, events, submit

__all__ = ["broker"]  # the fixture

NOBODY = Cluster.of("127.0.0.1:1")
DEADLINE_SECONDS = 60


class Mistake(Exception):
    """What nobody expects."""


def raises(*_: object, **__: object) -> NoReturn:
    raise Mistake("a mistake of ours")


async def fails(*_: object, **__: object) -> NoReturn:
    raise Mistake("a mistake of ours")


async def is_cancelled_inside(*_: object, **__: object) -> NoReturn:
    raise asyncio.CancelledError


def errors(logs: list[EventDict]) -> list[EventDict]:
    return [line for line in logs if line["log_level"] == "error"]


def left_running(*names: str) -> list[str]:
    """Tasks of this loop whose name begins with one of these."""
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith(names)]


# The engine


async def test_the_engine_ends_when_a_snapshot_fails(
    broker: BrokerServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("write_snapshot", "extend_snapshot"):
        monkeypatch.setattr(f"hub.engine.restoring.{name}", raises)
    engine = EmbeddedEngine(broker.local, data_dir=tmp_path, loop_settings=LoopSettings(snapshot_bytes=1))
    with capture_logs() as logs:
        await engine.start()
        await submit(broker, range(3))
        async with asyncio.timeout(DEADLINE_SECONDS):
            with pytest.raises(EngineFailedError, match="a mistake of ours") as raised:
                await engine.watch()
        await engine.stop()
    assert isinstance(raised.value.__cause__, Mistake)
    assert raised.value.__cause__.__notes__ == ["In the background task 'engine-0-snapshot' of engine partition 0."]
    assert [(line["action"], line["exc_info"]) for line in errors(logs)] == [("engine_failed", raised.value)]
    assert (await events(broker))[-1].type == "engine.stopped", "the partition ends in order"
    assert left_running("engine") == []


async def test_the_engine_ends_when_what_follows_its_partitions_fails(
    broker: BrokerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = EmbeddedEngine(broker.local)
    with capture_logs() as logs:
        await engine.start()
        monkeypatch.setattr(OwnedPartitions, "own", fails)
        engine._owned._gone.set()  # as after the end of a loop
        async with asyncio.timeout(DEADLINE_SECONDS):
            with pytest.raises(EngineFailedError, match="a mistake of ours") as raised:
                await engine.watch()
        monkeypatch.undo()
        await engine.stop()
    assert raised.value.__notes__ == ["In the background task 'engine-assignment' of the engine."]
    assert [line["action"] for line in errors(logs)] == ["engine_failed"]
    assert left_running("engine") == []


async def test_an_engine_that_fails_while_it_starts_is_not_waited_for(
    broker: BrokerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OwnedPartitions, "_begin", raises)
    engine = EmbeddedEngine(broker.local)
    with pytest.raises(EngineFailedError, match="a mistake of ours"):
        await engine.start(timeout_seconds=2 * DEADLINE_SECONDS)
    await engine.stop()
    assert left_running("engine") == []


@pytest.mark.parametrize(("ends", "why"), [(fails, "a mistake of ours"), (is_cancelled_inside, "was cancelled by an awaited")])
async def test_an_engine_over_tcp_ends_when_its_membership_fails(
    broker: BrokerServer, monkeypatch: pytest.MonkeyPatch, ends: object, why: str
) -> None:
    engine = EngineService(Cluster.of(broker.bootstrap))
    with capture_logs() as logs:
        await engine.start()
        await engine.ready()
        assert engine._membership is not None
        monkeypatch.setattr(engine._membership._consumer, "getmany", ends)
        async with asyncio.timeout(DEADLINE_SECONDS):
            with pytest.raises(EngineFailedError, match=why) as raised:
                await engine.watch()
        await engine.stop()
    assert raised.value.__cause__ is not None
    assert raised.value.__cause__.__notes__ == ["In the background task 'membership-hub.intake' of the group membership."]
    assert [line["action"] for line in errors(logs)] == ["engine_failed"]
    assert left_running("engine", "membership") == []


# Clients


@pytest.mark.parametrize("name", ["_read", "_ask_again"])
async def test_who_waits_for_a_reply_gets_the_error_that_ended_the_reading(
    broker: BrokerServer, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(ReplyReader, name, fails)
    replies = ReplyReader(KafkaTransport(Cluster.of(broker.bootstrap)), "test", fails)
    with capture_logs() as logs:
        await replies.start()
        early = replies.expect("t", "t")
        assert await early.wait(DEADLINE_SECONDS)
        with pytest.raises(RepliesFailedError, match=r"can no longer read replies \(Mistake: a mistake of ours\)") as raised:
            early.result()
        late = replies.expect("u", "u")
        with pytest.raises(RepliesFailedError):
            late.result()
        await replies.stop()
    assert isinstance(raised.value.__cause__, Mistake)
    assert raised.value.exit_code == 1
    assert [(line["action"], line["exc_info"]) for line in errors(logs)] == [("replies_failed", raised.value.__cause__)]
    assert left_running("replies") == []


# Delivery


def quiet(subscriber: str) -> SubscriberConfig:
    """A subscriber that nothing is delivered to: no broker answers."""
    return SubscriberConfig(use="console", id=subscriber, delivery={"on_error": "skip"})


async def test_delivery_ends_when_what_keeps_a_subscriber_alive_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    service = DeliveryService(NOBODY, [quiet("one"), quiet("two")])
    with capture_logs() as logs:
        await service.start()
        monkeypatch.setattr(service._supervisors[0].lifecycle, "enter", raises)
        async with asyncio.timeout(DEADLINE_SECONDS):
            with pytest.raises(DeliveryFailedError, match="Delivery stopped: Mistake: a mistake of ours") as raised:
                await service.watch()
        await service.stop()
    assert raised.value.exit_code == 1
    (line,) = errors(logs)
    assert (line["action"], line["service"], line["background_task"]) == ("service_failed", "delivery", "subscriber one")
    assert left_running("subscriber", "one", "two") == []


async def test_a_subscriber_whose_watch_fails_is_recreated(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    join, failures = Lifecycle.join, [Mistake("a mistake of ours")]

    def fails_once(self: Lifecycle, **about: bool) -> None:
        if failures:
            raise failures.pop()
        join(self, **about)

    monkeypatch.setattr(Lifecycle, "join", fails_once)
    monkeypatch.setattr(Control, "start", lambda self: self.caught_up.set())  # no broker says that it is not paused
    service = DeliveryService(NOBODY, [quiet("one")])
    with caplog.at_level(logging.ERROR, logger="hub.delivery.one"):
        await service.start()
        await until(lambda: service.status()[0].restarts == 1)
        await service.stop()
    (record,) = [record for record in caplog.records if record.__dict__.get("action") == "subscriber_failed"]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], Mistake)
    assert record.exc_info[1].__notes__ == ["In the background task 'one watch' of subscriber one."]
    assert left_running("subscriber", "one") == []


# The broker


async def test_the_broker_ends_when_its_maintenance_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    storage, ended = MemoryStorage(), list[BaseException]()
    monkeypatch.setattr(storage, "maintain", raises)
    server = BrokerServer(None, storage=storage, on_fatal=ended.append)
    await server.start()
    await until(lambda: bool(ended))
    await server.stop()
    assert [(str(error), error.__notes__) for error in ended] == [
        ("a mistake of ours", ["In the background task 'broker-maintenance' of the broker."])
    ]
    assert left_running("broker") == []


class Hard(BaseException):
    """What the rounds of housekeeping do not take as a failure of one round."""


async def test_the_broker_ends_when_its_housekeeping_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ends(_: Housekeeper) -> None:
        raise Hard

    monkeypatch.setattr(Housekeeper, "retain", ends)
    ended: list[BaseException] = []
    server = BrokerServer(None, on_fatal=ended.append)
    await server.start()
    await until(lambda: bool(ended))
    await server.stop()
    assert [error.__notes__ for error in ended] == [["In the background task 'broker-retention' of the broker."]]
    assert left_running("broker") == []


# Processes


async def test_the_supervisor_ends_with_its_children_when_a_task_of_its_own_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Supervisor, "_keep_address", raises)
    spec = ChildSpec("broker", "broker", CommandLine("broker", (), {"host": "127.0.0.1", "port": 0}))
    supervisor = Supervisor(Fleet([spec], None, None), lambda _: None)
    async with asyncio.timeout(DEADLINE_SECONDS):
        with pytest.raises(Mistake) as raised:
            await supervisor.run(Process("up"))
    assert raised.value.__notes__ == ["In the background task 'broker serves' of the supervisor."]
    (child,) = supervisor.children
    assert await child.ended() == 0, "it was drained"
    assert left_running("broker", "loss") == []


class Steps:
    """A service that notes its steps, and fails in one of them."""

    def __init__(self, fails_in: str | None) -> None:
        self._fails_in = fails_in
        self.steps: list[str] = []

    async def start(self) -> None:
        await self._take("start")

    async def watch(self) -> None:
        await self._take("watch")
        await asyncio.Event().wait()

    async def stop(self) -> None:
        await self._take("stop")

    async def _take(self, step: str) -> None:
        self.steps.append(step)
        if step == self._fails_in:
            raise ProcessFailed(f"{step} failed")


@pytest.mark.parametrize(("fails_in", "steps"), [("start", ["start", "stop"]), ("watch", ["start", "ready", "watch", "stop"])])
async def test_a_process_ends_with_the_error_of_its_service(
    monkeypatch: pytest.MonkeyPatch, fails_in: str, steps: list[str]
) -> None:
    service, process = Steps(fails_in), Process("test")
    monkeypatch.setattr(process, "ready", lambda **facts: service.steps.append("ready"))
    with pytest.raises(ProcessFailed, match=f"{fails_in} failed") as raised:
        await _serve(process, service, service.start(), dict)
    assert (service.steps, raised.value.exit_code) == (steps, 1)


async def test_a_process_stops_its_service_on_a_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    service, process = Steps(None), Process("test")
    monkeypatch.setattr(process, "ready", lambda **facts: process.stopping.set())
    await _serve(process, service, service.start(), dict)
    assert service.steps == ["start", "watch", "stop"]
