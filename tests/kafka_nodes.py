"""Provides Apache Kafka for tests: the cluster in `KAFKA_BOOTSTRAP`, else a container if a Docker engine is available, else
the Maven jars.

A test that stops or kills a broker starts a separate node in any case.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from tests.apache_kafka import ApacheKafka, KafkaUnavailable, why_unavailable
from tests.kafka_container import KafkaContainer, why_no_engine

ADDRESS = "KAFKA_BOOTSTRAP"
DISPOSABLE = "KAFKA_DISPOSABLE"


class KafkaNode(Protocol):
    """One broker of our own."""

    @property
    def bootstrap(self) -> str:
        """host:port for clients."""

    def start(self) -> None:
        """Start, also after a `kill`, with the same address and data. Raises `KafkaUnavailable`."""

    def kill(self) -> None:
        """End its process at once."""

    def close(self) -> None:
        """End it for good."""


class Source(NamedTuple):
    """A way to a node: its name, why it is closed on this machine (None: it can be tried), and the way itself."""

    name: str
    why_not: Callable[[], str | None]
    make: Callable[[Path], KafkaNode]


SOURCES: Sequence[Source] = (
    Source("a container", why_no_engine, lambda _: KafkaContainer()),
    Source("the Maven jars", why_unavailable, ApacheKafka),
)
"""In the order in which they are tried."""


def start_node(directory: Path, sources: Sequence[Source] = SOURCES) -> KafkaNode:
    """A started node of the first source that gives one. Raises `KafkaUnavailable` with the reason of each."""
    reasons = []
    for source in sources:
        reason = source.why_not()
        if reason is None:
            node = source.make(directory)
            try:
                node.start()
            except KafkaUnavailable as failure:
                node.close()
                reason = str(failure)
            else:
                return node
        reasons.append(f"{source.name}: {reason}")
    raise KafkaUnavailable("; ".join(reasons))


@contextmanager
def own_node(directory: Path, sources: Sequence[Source] = SOURCES) -> Iterator[KafkaNode]:
    """A node that may be stopped and killed, closed at the end. Raises `KafkaUnavailable`."""
    node = start_node(directory, sources)
    try:
        yield node
    finally:
        node.close()


@contextmanager
def cluster(directory: Path, environment: Mapping[str, str] = os.environ, sources: Sequence[Source] = SOURCES) -> Iterator[str]:
    """The address of a cluster that goes on: the one that `KAFKA_BOOTSTRAP` names, or a node. Raises `KafkaUnavailable`."""
    if running := environment.get(ADDRESS):
        yield running
    else:
        with own_node(directory, sources) as node:
            yield node.bootstrap


def origin(environment: Mapping[str, str] = os.environ, sources: Sequence[Source] = SOURCES) -> str | None:
    """What the tests marked `kafka` run on, as a phrase with the reasons against what comes before; None if they cannot run.

    Starts nothing: what looks well here may still fail to start."""
    if running := environment.get(ADDRESS):
        return f"the cluster at {running} ({ADDRESS})"
    reasons: list[str] = []
    for source in sources:
        reason = source.why_not()
        if reason is None:
            return source.name + "".join(f"; {against}" for against in reasons)
        reasons.append(reason)
    return None
