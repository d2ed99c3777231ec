"""Apache Kafka in a container, through testcontainers, if a Docker engine is available.

The broker has the same settings as the one from jars. Its port on the host is chosen in advance, because the broker advertises
it, and does not change when the container is killed and restarted.
"""

import asyncio
import socket
import time
from contextlib import suppress
from typing import Any
from urllib.parse import SplitResult, urlsplit

from hub.kafka import Cluster
from tests.apache_kafka import KAFKA_VERSION, SETTINGS, KafkaUnavailable
from tests.ports import free_port

IMAGE = f"apache/kafka:{KAFKA_VERSION}"
BROKER_PORT, CONTROLLER_PORT = 9092, 9093
DEFAULT_ENGINE = "unix:///var/run/docker.sock"
ENGINE_SECONDS = 5
START_SECONDS = 90.0
LOOK_SECONDS = 1.0  # between two looks at whether the container still runs
LOG_CHARS = 600
LOOPBACK = frozenset({"127.0.0.1", "localhost"})


def why_no_engine() -> str | None:
    """Why no Docker engine answers, as a phrase; None if one does."""
    from docker.errors import DockerException
    from testcontainers.core.docker_client import DockerClient, get_docker_host

    address = get_docker_host() or DEFAULT_ENGINE
    try:
        _connect(urlsplit(address))  # the client would leave its socket open where nobody listens
        client = DockerClient(timeout=ENGINE_SECONDS).client
    except (DockerException, OSError) as failure:
        return f"no Docker engine answers at {address} ({_first_line(failure)})"
    try:
        client.ping()
    except (DockerException, OSError) as failure:
        return f"the Docker engine at {address} does not answer ({_first_line(failure)})"
    finally:
        client.close()
    return None


def _connect(address: SplitResult) -> None:
    """Connect and leave. Raises OSError. An address of another kind than a socket is left to the client."""
    if address.scheme == "unix":
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(ENGINE_SECONDS)
            probe.connect(address.path)
    elif address.hostname and address.port:
        socket.create_connection((address.hostname, address.port), timeout=ENGINE_SECONDS).close()


def _first_line(failure: Exception) -> str:
    return (str(failure).strip() or type(failure).__name__).splitlines()[0]


def environment_of(settings: dict[str, str]) -> dict[str, str]:
    """Settings of a broker as the variables that the image turns into its server.properties."""
    return {"KAFKA_" + name.upper().replace(".", "_"): value for name, value in settings.items()}


class KafkaContainer:
    """One broker in a container of its own. `start` and `kill` may be repeated: the port and the data stay."""

    def __init__(self) -> None:
        from testcontainers.core.container import DockerContainer

        self._container = DockerContainer(IMAGE)
        host = self._container.get_docker_client().host()
        self.bootstrap = f"{'127.0.0.1' if host in LOOPBACK else host}:{free_port()}"
        self._created = False

    def start(self) -> None:
        """Start and wait until it answers. Raises `KafkaUnavailable`."""
        from docker.errors import DockerException

        try:
            if self._created:
                self._container.get_wrapped_container().start()
            else:
                self._created = True
                self._configured().start()
        except (DockerException, OSError) as failure:
            raise KafkaUnavailable(f"the container of {IMAGE} did not start: {failure}") from failure
        self._wait()

    def _configured(self) -> Any:
        host, _, port = self.bootstrap.rpartition(":")
        settings = SETTINGS | {
            "controller.quorum.voters": f"1@localhost:{CONTROLLER_PORT}",
            "listeners": f"PLAINTEXT://:{BROKER_PORT},CONTROLLER://:{CONTROLLER_PORT}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "log.dirs": "/tmp/kraft-combined-logs",
        }
        self._container.with_envs(**environment_of(settings), KAFKA_HEAP_OPTS="-Xms128m -Xmx384m")
        ports: dict[str, Any] = self._container.ports
        ports[f"{BROKER_PORT}/tcp"] = (host, int(port)) if host in LOOPBACK else int(port)
        return self._container

    def _wait(self) -> None:
        """Until it answers: a port that takes connections is not enough, it may be that of Docker's proxy."""
        from hub.kafka import BrokerUnreachable, wait_until_reachable

        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                return asyncio.run(wait_until_reachable(Cluster.of(self.bootstrap), LOOK_SECONDS))
            except BrokerUnreachable as failure:
                self._container.reload()
                if self._container.status != "running" or time.monotonic() > deadline:
                    log = b"".join(self._container.get_logs()).decode(errors="replace")[-LOG_CHARS:]
                    raise KafkaUnavailable(f"the broker in the container of {IMAGE} did not start: {log or failure}") from failure

    def kill(self) -> None:
        """End its process at once; the container stays."""
        self._container.get_wrapped_container().kill()

    def close(self) -> None:
        """Remove the container with its data."""
        from docker.errors import NotFound

        with suppress(NotFound):
            self._container.stop()
