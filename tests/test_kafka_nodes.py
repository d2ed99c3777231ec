"""The order of the sources of Apache Kafka for tests, and the report if none is available."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.broker import BrokerServer
from hub.kafka import Cluster, ensure_topics
from tests.apache_kafka import KafkaUnavailable
from tests.brokers import broker_in_thread, missing, refuse_foreign_hub, whole_cluster
from tests.delivery.event_log import create_topic
from tests.docker_engine import DockerEngine, docker_engine
from tests.kafka_container import IMAGE, why_no_engine
from tests.kafka_nodes import ADDRESS, DISPOSABLE, SOURCES, Source, cluster, origin, start_node

ROOT = Path(__file__).parents[1]
RYUK = "testcontainers/ryuk:0.8.1"
SECONDS = 100
NOWHERE = "tcp://127.0.0.1:1"

START = """
import json, sys, tempfile, pathlib
from tests.kafka_nodes import own_node
with own_node(pathlib.Path(tempfile.mkdtemp(dir=sys.argv[1]))) as node:
    print(json.dumps([type(node).__name__, node.bootstrap]), flush=True)
    if sys.argv[2:] == ["stay"]:
        sys.stdin.read()
"""


def environment(**changes: str) -> dict[str, str]:
    """The one of this process without what decides about Kafka, and with `changes`."""
    deciding = ("PYTEST_", "DOCKER_", "TESTCONTAINERS_", "KAFKA_", "HUB_")
    ours = {name: value for name, value in os.environ.items() if not name.startswith(deciding)}
    return {**ours, "RYUK_CONTAINER_IMAGE": RYUK, **changes}


def pytest_run(*arguments: str, **changes: str) -> tuple[int, str]:
    """Run pytest on its own; its exit code and what it said."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(**changes), capture_output=True, text=True, timeout=SECONDS, check=False
    )
    return done.returncode, done.stdout + done.stderr


def start(folder: Path, **changes: str) -> "subprocess.CompletedProcess[str]":
    """Start a node in a process of its own, and end it."""
    command = [sys.executable, "-c", START, str(folder)]
    return subprocess.run(
        command, cwd=ROOT, env=environment(**changes), capture_output=True, text=True, timeout=SECONDS, check=False
    )


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[DockerEngine]:
    """A Docker engine that can pull the images."""
    with docker_engine(tmp_path / "containers", {IMAGE, RYUK}) as engine:
        yield engine


class Node:
    """A node that starts, or says why not."""

    def __init__(self, failure: str | None = None) -> None:
        self.failure, self.bootstrap, self.state = failure, "127.0.0.1:1", "new"

    def start(self) -> None:
        if self.failure:
            raise KafkaUnavailable(self.failure)
        self.state = "started"

    def kill(self) -> None:
        self.state = "killed"

    def close(self) -> None:
        self.state = "closed"


def source(name: str, node: Node, why_not: str | None = None) -> Source:
    """A source that gives this node."""
    return Source(name, lambda: why_not, lambda _: node)


def closed(_: Any = None) -> Any:
    """A source that nobody may look at."""
    raise AssertionError("it was not to be looked at")


def test_a_named_cluster_comes_first_and_nothing_is_started(tmp_path: Path) -> None:
    sources = [Source("other", closed, closed)]
    with cluster(tmp_path, {ADDRESS: "kafka:9092"}, sources) as address:
        assert address == "kafka:9092"
    assert origin({ADDRESS: "kafka:9092"}, sources) == "the cluster at kafka:9092 (KAFKA_BOOTSTRAP)"


def test_then_a_container_then_the_jars() -> None:
    assert [source.name for source in SOURCES] == ["a container", "the Maven jars"]


def test_the_first_source_that_can_be_tried_is_taken(tmp_path: Path) -> None:
    first, second, third = Node(), Node(), Node()
    sources = [source("first", first, "not here"), source("second", second), source("third", third)]
    assert start_node(tmp_path, sources) is second
    assert (first.state, second.state, third.state) == ("new", "started", "new")
    assert origin({}, sources) == "second; not here"
    with cluster(tmp_path, {}, sources) as address:
        assert address == second.bootstrap
    assert second.state == "closed"


def test_a_source_that_does_not_start_is_closed_and_the_next_is_tried(tmp_path: Path) -> None:
    first, second = Node("no image"), Node()
    assert start_node(tmp_path, [source("first", first), source("second", second)]) is second
    assert first.state == "closed"


def test_where_none_starts_every_reason_is_given(tmp_path: Path) -> None:
    with pytest.raises(KafkaUnavailable, match="^first: not here; second: no image$"):
        start_node(tmp_path, [source("first", Node(), "not here"), source("second", Node("no image"))])
    assert origin({}, [source("first", Node(), "not here")]) is None


def test_where_an_engine_answers_a_container_is_started_and_removed(engine: DockerEngine, tmp_path: Path) -> None:
    done = start(tmp_path, DOCKER_HOST=engine.address)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0] == "KafkaContainer"
    assert [action for action, image in engine.done if image == IMAGE] == ["create", "start", "remove"]
    assert engine.pulled == [RYUK, IMAGE]


def test_the_container_of_a_killed_test_run_is_removed(engine: DockerEngine, tmp_path: Path) -> None:
    command = [sys.executable, "-c", START, str(tmp_path), "stay"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=environment(DOCKER_HOST=engine.address), stdin=pipe, stdout=pipe) as run:
        assert run.stdout is not None
        assert b"KafkaContainer" in run.stdout.readline()
        run.send_signal(signal.SIGKILL)
    assert engine.removed(IMAGE).wait(SECONDS)


def test_an_engine_without_the_image_is_passed_over_with_the_reason(tmp_path: Path) -> None:
    with docker_engine(tmp_path, {RYUK}) as engine:
        done = start(tmp_path, DOCKER_HOST=engine.address, PATH="", XDG_CACHE_HOME=str(tmp_path))
    last = done.stderr.strip().splitlines()[-1]
    assert f"a container: the container of {IMAGE} did not start: 404 Client Error" in last
    assert "; the Maven jars: no `java` on the path" in last


def test_a_broker_that_ends_at_once_is_not_waited_for(engine: DockerEngine, tmp_path: Path) -> None:
    misconfigured = "from tests.apache_kafka import SETTINGS; del SETTINGS['process.roles']\n" + START
    changes = environment(DOCKER_HOST=engine.address, PATH="", XDG_CACHE_HOME=str(tmp_path))
    command = [sys.executable, "-c", misconfigured, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=changes, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert 'Missing required configuration "process.roles"' in done.stderr.strip().splitlines()[-1]


@pytest.mark.docker
def test_on_a_real_engine_too(tmp_path: Path) -> None:
    if reason := why_no_engine():
        missing("docker", reason)
    host = {"DOCKER_HOST": os.environ["DOCKER_HOST"]} if "DOCKER_HOST" in os.environ else {}
    done = start(tmp_path, **host)
    assert json.loads(done.stdout)[0] == "KafkaContainer", done.stderr


@pytest.mark.slow
def test_tests_run_on_the_container_and_one_that_kills_its_broker_finds_the_data_again(engine: DockerEngine) -> None:
    tests = [
        "tests/kafka/test_topics.py",
        "tests/kafka/test_broker_restart.py",
        "-k",
        "created_once[kafka] or (costs and Kip890)",
    ]
    code, said = pytest_run(*tests, DOCKER_HOST=engine.address, HUB_REQUIRE="kafka,docker")
    assert code == 0, said
    assert "2 passed" in said
    assert "tests marked `kafka` run on a container\n" in said
    actions = [action for action, image in engine.done if image == IMAGE]
    assert (actions.count("create"), actions.count("kill"), actions.count("start")) == (2, 1, 3)
    assert actions.count("remove") == 2


def test_a_run_without_kafka_says_at_its_end_what_is_missing_and_what_was_skipped(tmp_path: Path) -> None:
    bare = {"DOCKER_HOST": NOWHERE, "PATH": "", "XDG_CACHE_HOME": str(tmp_path)}
    test = "tests/kafka/test_topics.py::test_missing_topics_are_created_once[kafka]"
    code, said = pytest_run(test, **bare)
    assert code == 0, said
    assert "SKIPPED [1] tests/kafka/test_topics.py" in said
    assert "kafka is not there: a container: no Docker engine answers at tcp://127.0.0.1:1 (" in said
    assert "tests marked `kafka` did not run: a container: no Docker engine answers at tcp://127.0.0.1:1 (" in said
    assert "the Maven jars: no `java` on the path" in said


def test_what_is_required_and_missing_is_a_failure(tmp_path: Path) -> None:
    bare = {"DOCKER_HOST": NOWHERE, "PATH": "", "XDG_CACHE_HOME": str(tmp_path)}
    test = "tests/kafka/test_topics.py::test_missing_topics_are_created_once[kafka]"
    code, said = pytest_run(test, **bare, HUB_REQUIRE="kafka")
    assert code == 1, said
    assert "HUB_REQUIRE names kafka, and it is not there" in said


def test_a_requirement_that_nothing_acts_on_is_refused() -> None:
    code, said = pytest_run("tests/core", HUB_REQUIRE="kafak")
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "HUB_REQUIRE names kafak; it may name kafka, docker, prometheus, collector" in said


HUB = {"hub.events", "hub.intake"}


def test_a_cluster_with_a_hub_is_refused_unless_it_is_disposable() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"at k:1 .* holds a hub: hub.events, hub.intake.*KAFKA_DISPOSABLE=1"):
        refuse_foreign_hub(HUB, {ADDRESS: "k:1"})
    refuse_foreign_hub(HUB, {ADDRESS: "k:1", DISPOSABLE: "1"})
    refuse_foreign_hub(set(), {ADDRESS: "k:1"})


def topics_of(server: BrokerServer) -> set[str]:
    """The topics of a broker."""
    return set(server.local.topics())


@pytest.mark.parametrize("disposable", [False, True])
def test_a_named_cluster_is_left_as_it_was_found(tmp_path: Path, disposable: bool) -> None:
    """Also by a test that fails; what is not a hub's stays in any case."""
    with broker_in_thread() as server:
        named = {ADDRESS: server.bootstrap, DISPOSABLE: "1" if disposable else "0"}

        def make_hub() -> None:
            with whole_cluster(server.bootstrap, tmp_path, named):
                assert topics_of(server) == {"theirs"}
                asyncio.run(ensure_topics(Cluster.of(server.bootstrap), partitions=1))
                raise RuntimeError("the test fails")

        asyncio.run(create_topic(server.bootstrap, "theirs"))
        with pytest.raises(RuntimeError):
            make_hub()
        assert topics_of(server) == {"theirs"}
        asyncio.run(ensure_topics(Cluster.of(server.bootstrap), partitions=1))
        with pytest.raises(RuntimeError if disposable else pytest.fail.Exception):
            make_hub()
        assert ("hub.intake" in topics_of(server)) is not disposable
        assert "theirs" in topics_of(server)
