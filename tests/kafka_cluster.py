"""Three Apache Kafka nodes (KRaft, each broker and controller) from the Maven jars: replication 3, `min.insync.replicas` 2.

The cluster works with one node down. `kill` ends a node like a crash; `start` restarts it with its ports and data. Each
cluster is used by one test only.
"""

import asyncio
import secrets
import shutil
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiokafka.errors import KafkaError

from hub.kafka import Cluster, make_admin
from tests.apache_kafka import SETTINGS, ApacheKafka, prepare

NODES = 3
SETTLE_SECONDS = 60.0
CLUSTER_SETTINGS = {
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.replication.factor": "3",
    "share.coordinator.state.topic.min.isr": "2",
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "replica.lag.time.max.ms": "5000",  # a stalled follower leaves the in-sync set before clients give up
}


class ClusterNode(ApacheKafka):
    """One node. `voters` names the controllers of all of them."""

    def __init__(self, directory: Path, number: int) -> None:
        super().__init__(directory)
        self.number = number
        self.voters = ""

    def format(self) -> None:
        """Give it a data directory: the formatted one, under an identity of its own."""
        data = self.directory / "data"
        shutil.copytree(prepare() / "formatted", data)
        meta = data / "meta.properties"
        own = {"node.id": str(self.number), "directory.id": urlsafe_b64encode(secrets.token_bytes(16)).rstrip(b"=").decode()}
        pairs = dict(line.split("=", 1) for line in meta.read_text().splitlines() if "=" in line)
        meta.write_text("".join(f"{key}={value}\n" for key, value in (pairs | own).items()))

    def write_settings(self, path: Path) -> None:
        """See `ApacheKafka.write_settings`."""
        settings = {
            **SETTINGS,
            **CLUSTER_SETTINGS,
            "node.id": str(self.number),
            "controller.quorum.voters": self.voters,
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "log.dirs": str(self.directory / "data"),
        }
        path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))


class KafkaCluster:
    """Three nodes. Use `kafka_cluster`, which ends them."""

    def __init__(self, directory: Path) -> None:
        self.nodes = [ClusterNode(directory / f"node-{number}", number) for number in range(1, NODES + 1)]
        voters = ",".join(f"{node.number}@127.0.0.1:{node.controller_port}" for node in self.nodes)
        for node in self.nodes:
            node.directory.mkdir(parents=True)
            node.voters = voters
            node.format()

    @property
    def bootstrap(self) -> str:
        """The addresses of all nodes, host:port,host:port,host:port."""
        return ",".join(node.bootstrap for node in self.nodes)

    def start(self) -> None:
        """Start every node, side by side: none serves before two of them have elected a controller."""
        with ThreadPoolExecutor(NODES) as pool:
            list(pool.map(lambda node: node.start(), self.nodes))

    async def settled(self, brokers: int = NODES) -> None:
        """Wait until so many brokers are members, and every partition has a leader and that many replicas in sync."""
        await self._until(lambda members, partitions: len(members) == brokers and _led(partitions, brokers))

    async def left(self, number: int) -> None:
        """Wait until a node that was killed is not a member, and every partition has another leader."""
        await self._until(lambda members, partitions: number not in members and _led(partitions, 1))

    async def _until(self, condition: Callable[[set[int], list[dict[str, Any]]], bool]) -> None:
        async with asyncio.timeout(SETTLE_SECONDS):
            while not condition(*await self._look()):
                await asyncio.sleep(0.1)

    async def _look(self) -> tuple[set[int], list[dict[str, Any]]]:
        """The ids of the brokers and all partitions, as a node that lives sees them; nobody where none answers."""
        living = ",".join(node.bootstrap for node in self.nodes if node.process is not None)
        if not living:
            return set(), []
        admin = make_admin(Cluster.of(living))
        try:
            await admin.start()
            brokers = (await admin.describe_cluster())["brokers"]
            topics = await admin.describe_topics()
            return {one["node_id"] for one in brokers}, [part for topic in topics for part in topic["partitions"]]
        except (KafkaError, OSError):
            return set(), []
        finally:
            await admin.close()

    def kill(self) -> None:
        """End every node."""
        for node in self.nodes:
            node.kill()


def _led(partitions: list[dict[str, Any]], replicas: int) -> bool:
    return all(part["leader"] >= 0 and len(part["isr"]) >= replicas for part in partitions)


@contextmanager
def kafka_cluster(directory: Path) -> Iterator[KafkaCluster]:
    """A running cluster in `directory`. Raises `KafkaUnavailable`."""
    cluster = KafkaCluster(directory)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()
