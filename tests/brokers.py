"""Brokers for tests: the embedded one and Apache Kafka, behind the same fixtures.

`kafka_bootstrap` is the address of one Apache Kafka per test process (`kafka_nodes.py` says where it comes from);
`embedded_bootstrap` of one embedded broker (in memory, in a thread of its own); `bootstrap` runs a test on both.
`private_kafka` is the Apache Kafka without a hub on it, and for one test alone; `empty_bootstrap` is that or a new embedded
broker: for tests that make a whole hub, whose topics have fixed names. `own_kafka` may be stopped and killed.
Topics, groups and transactional ids are unique per test: `unique(name)`.
"""

import asyncio
import itertools
import os
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest

from hub.broker import BrokerServer
from hub.kafka import Cluster, make_admin
from tests.apache_kafka import KafkaUnavailable, locked
from tests.collector.binary import collector_origin
from tests.dashboards.prometheus import prometheus_origin
from tests.kafka_container import why_no_engine
from tests.kafka_nodes import ADDRESS, DISPOSABLE, SOURCES, KafkaNode, cluster, origin, own_node

START_SECONDS = 60
REQUIRE = "HUB_REQUIRE"
REQUIRABLE = {
    "kafka": origin,
    "docker": lambda: None if why_no_engine() else "an engine",
    "prometheus": prometheus_origin,
    "collector": collector_origin,
}
"""What HUB_REQUIRE may name, and what this machine has of it: a phrase, or None."""
HUB_TOPICS = "hub."
BROKERS = [pytest.param("embedded", id="embedded"), pytest.param("kafka", id="kafka", marks=pytest.mark.kafka)]
_run_id = uuid.uuid4().hex[:6]
_count = itertools.count(1)


def unique(name: str) -> str:
    """`name` with an ending that no other test uses."""
    return f"{name}-{_run_id}-{next(_count)}"


def required() -> frozenset[str]:
    """What may not be missing: the names in HUB_REQUIRE. Raises pytest.UsageError for one that is not known."""
    names = frozenset(os.environ.get(REQUIRE, "").replace(",", " ").split())
    if unknown := sorted(names - REQUIRABLE.keys()):
        raise pytest.UsageError(f"{REQUIRE} names {', '.join(unknown)}; it may name {', '.join(REQUIRABLE)}.")
    return names


def missing(name: str, reason: object) -> NoReturn:
    """Skip the test for want of `name`, or fail where HUB_REQUIRE names it."""
    if name in required():
        pytest.fail(f"{REQUIRE} names {name}, and it is not there: {reason}", pytrace=False)
    pytest.skip(f"{name} is not there: {reason}")


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
    """host:port of Apache Kafka. Skips (or fails, if `HUB_REQUIRE` names kafka) where it cannot run."""
    with ExitStack() as stack:
        try:
            address = stack.enter_context(cluster(tmp_path_factory.mktemp("apache-kafka")))
        except KafkaUnavailable as reason:
            missing("kafka", reason)
        yield address


@pytest.fixture(scope="module")
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaNode]:
    """An Apache Kafka for the tests of a file that kill it and start it again: never the one of KAFKA_BOOTSTRAP."""
    with ExitStack() as stack:
        try:
            node = stack.enter_context(own_node(tmp_path_factory.mktemp("own-kafka")))
        except KafkaUnavailable as reason:
            missing("kafka", reason)
        yield node


@pytest.fixture(scope="session")
def embedded_bootstrap() -> Iterator[str]:
    """host:port of an embedded broker in memory."""
    with broker_in_thread() as server:
        yield server.bootstrap


@pytest.fixture
def private_kafka(kafka_bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of an Apache Kafka without a hub, for this test alone."""
    with whole_cluster(kafka_bootstrap, tmp_path_factory.getbasetemp().parent, os.environ):
        yield kafka_bootstrap


@contextmanager
def whole_cluster(bootstrap: str, run: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """Have a cluster without topics of a hub, and remove those that came meanwhile.

    The node of this test process is its own. The cluster that KAFKA_BOOTSTRAP names is everybody's: the test processes of a
    run take turns (a lock in the folder `run`), and a hub that was there before is deleted with KAFKA_DISPOSABLE=1 only."""
    with ExitStack() as stack:
        if environment.get(ADDRESS):
            stack.enter_context(locked(run / "whole-cluster.lock"))
            refuse_foreign_hub(asyncio.run(hub_topics_of(bootstrap)), environment)
        asyncio.run(delete_topics(bootstrap))
        try:
            yield
        finally:
            asyncio.run(delete_topics(bootstrap))


def refuse_foreign_hub(topics: set[str], environment: Mapping[str, str]) -> None:
    """Fail where there are `topics` of a hub that nobody called disposable."""
    if topics and environment.get(DISPOSABLE) != "1":
        pytest.fail(
            f"The cluster at {environment[ADDRESS]} ({ADDRESS}) holds a hub: {', '.join(sorted(topics))}. "
            "This test makes a hub of its own, under the same names. Name another cluster, or allow the removal of these topics "
            f"with {DISPOSABLE}=1.",
            pytrace=False,
        )


async def topics_of(bootstrap: str) -> set[str]:
    """The names of a cluster's topics."""
    admin = make_admin(Cluster.of(bootstrap))
    try:
        await admin.start()
        return set(await admin.list_topics())
    finally:
        await admin.close()


async def hub_topics_of(bootstrap: str) -> set[str]:
    """The names of a cluster's topics that are a hub's."""
    return {name for name in await topics_of(bootstrap) if name.startswith(HUB_TOPICS)}


async def delete_topics(bootstrap: str) -> None:
    """Remove every topic of a hub, and wait until they are gone."""
    names = await hub_topics_of(bootstrap)
    if not names:
        return
    admin = make_admin(Cluster.of(bootstrap))
    try:
        await admin.start()
        answer = await admin.delete_topics(sorted(names))
        assert {code for _, code in answer.topic_error_codes} == {0}, answer
        async with asyncio.timeout(START_SECONDS):
            while not names.isdisjoint(await admin.list_topics()):
                await asyncio.sleep(0.01)
    finally:
        await admin.close()


@pytest.fixture(params=BROKERS)
def empty_bootstrap(request: pytest.FixtureRequest) -> Iterator[str]:
    """host:port of a broker without a hub, for this test alone."""
    if request.param == "embedded":
        with broker_in_thread() as server:
            yield server.bootstrap
    else:
        yield request.getfixturevalue("private_kafka")


@pytest.fixture(params=BROKERS)
def bootstrap(request: pytest.FixtureRequest) -> str:
    """host:port, once of the embedded broker and once of Apache Kafka."""
    address: str = request.getfixturevalue(f"{request.param}_bootstrap")
    return address


def summary_lines() -> list[str]:
    """What the end of a test run says about the parts that a machine may lack."""
    found = origin()
    if found is not None:
        return [f"tests marked `kafka` run on {found}"]
    reasons = "; ".join(f"{source.name}: {source.why_not()}" for source in SOURCES)
    return [f"tests marked `kafka` did not run: {reasons}; {REQUIRE}=kafka makes that a failure"]
