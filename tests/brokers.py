"""Brokers for tests: the embedded one and Apache Kafka, behind the same fixtures.

`kafka_bootstrap` is the address of one Apache Kafka per test session; `embedded_bootstrap` of one embedded broker (in
memory, in a thread of its own); `bootstrap` runs a test on both; `empty_bootstrap` does so on brokers without topics,
for tests that make a whole hub. Topics, groups and transactional ids are unique per test: `unique(name)`.
"""

import asyncio
import itertools
import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest

from hub.broker import BrokerServer
from hub.kafka import make_admin
from tests.apache_kafka import ApacheKafka, KafkaUnavailable, shared_broker, why_unavailable

START_SECONDS = 10
BROKERS = [pytest.param("embedded", id="embedded"), pytest.param("kafka", id="kafka", marks=pytest.mark.kafka)]
_run_id = uuid.uuid4().hex[:6]
_count = itertools.count(1)


def unique(name: str) -> str:
    """`name` with an ending that no other test uses."""
    return f"{name}-{_run_id}-{next(_count)}"


def kafka_required() -> bool:
    """Whether a missing Apache Kafka is a failure."""
    return "kafka" in os.environ.get("HUB_REQUIRE", "").replace(",", " ").split()


def _give_up(reason: KafkaUnavailable) -> NoReturn:
    if kafka_required():
        pytest.fail(f"Apache Kafka is required and cannot run: {reason}", pytrace=False)
    pytest.skip(f"Apache Kafka cannot run: {reason}")


@contextmanager
def broker_in_thread(data_dir: Path | None = None, **options: Any) -> Iterator[BrokerServer]:
    """An embedded broker with an event loop and a thread of its own, as far from the test's loop as another process."""
    with broker_and_loop(data_dir, **options) as (server, _):
        yield server


@contextmanager
def broker_and_loop(data_dir: Path | None = None, **options: Any) -> Iterator[tuple[BrokerServer, asyncio.AbstractEventLoop]]:
    """The same with its loop, for tests that go in by the door inside the process."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="embedded-broker", daemon=True)
    thread.start()
    server = BrokerServer(data_dir, "127.0.0.1", **options)
    try:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result(START_SECONDS)
        try:
            yield server, loop
        finally:
            asyncio.run_coroutine_threadsafe(server.stop(), loop).result(START_SECONDS)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(START_SECONDS)
        loop.close()


@pytest.fixture(scope="session")
def kafka_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of Apache Kafka: the one that KAFKA_BOOTSTRAP names, or one of our own.

    Skips (or fails, if `HUB_REQUIRE` names kafka) where it cannot run."""
    if running := os.environ.get("KAFKA_BOOTSTRAP"):
        yield running
        return
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    try:
        with shared_broker(shared / "apache-kafka") as address:
            yield address
    except KafkaUnavailable as reason:
        _give_up(reason)


@pytest.fixture(scope="session")
def embedded_bootstrap() -> Iterator[str]:
    """host:port of an embedded broker in memory."""
    with broker_in_thread() as server:
        yield server.bootstrap


@pytest.fixture(scope="session")
def private_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of an Apache Kafka that only this test process uses."""
    broker = ApacheKafka(tmp_path_factory.mktemp("private-kafka"))
    try:
        broker.start()
    except KafkaUnavailable as reason:
        _give_up(reason)
    try:
        yield broker.bootstrap
    finally:
        broker.kill()


async def delete_topics(bootstrap: str) -> None:
    """Remove every topic that is not Kafka's own."""
    admin = make_admin(bootstrap)
    try:
        await admin.start()
        names = {name for name in await admin.list_topics() if not name.startswith("__")}
        if names:
            answer = await admin.delete_topics(sorted(names))
            assert {code for _, code in answer.topic_error_codes} == {0}, answer
            async with asyncio.timeout(START_SECONDS):
                while not names.isdisjoint(await admin.list_topics()):
                    await asyncio.sleep(0.01)
    finally:
        await admin.close()


@pytest.fixture(params=BROKERS)
def empty_bootstrap(request: pytest.FixtureRequest) -> Iterator[str]:
    """host:port of a broker without topics and for this test alone: for tests that make a whole hub, whose topics have
    fixed names."""
    if request.param == "embedded":
        with broker_in_thread() as server:
            yield server.bootstrap
    else:
        address: str = request.getfixturevalue("private_kafka")
        asyncio.run(delete_topics(address))
        yield address


@pytest.fixture(params=BROKERS)
def bootstrap(request: pytest.FixtureRequest) -> str:
    """host:port, once of the embedded broker and once of Apache Kafka."""
    address: str = request.getfixturevalue(f"{request.param}_bootstrap")
    return address


def summary_line() -> str | None:
    """What the end of a test run says when Apache Kafka could not take part."""
    reason = None if os.environ.get("KAFKA_BOOTSTRAP") else why_unavailable()
    if reason is None:
        return None
    return f"tests marked `kafka` did not run: {reason}; HUB_REQUIRE=kafka makes that a failure"
