"""A real single-node Apache Kafka (KRaft, combined mode) from Maven jars, without Docker.

The jars and a formatted, empty data directory are stored once in a cache outside the checkout. A broker is a copy of that
directory in a temporary directory and a JVM on two free loopback ports. Processes that fill the cache concurrently wait for
each other with a lock file.

`python -m tests.apache_kafka` runs a broker for benchmarks until it is interrupted, and prints its address.
"""

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.ports import free_ports

KAFKA_VERSION = "4.3.1"
POM = Path(__file__).parent / "kafka-dist" / "pom.xml"
COPY_JARS = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
CLUSTER_ID = "dGFza2h1Yi10ZXN0cy0wMQ"
START_SECONDS = 60
QUICK_START = [
    "-Xms128m",
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    "-Xshare:auto",
]
"""Options of the JVM for tests: it starts in a few seconds, with code that is only compiled lightly."""
KAFKAS_OWN = [
    "-server",
    "-Xms1G",
    "-Xmx1G",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
]
"""Options of the JVM for benchmarks: those of Kafka's `kafka-server-start.sh`, with which brokers run in production."""
LOGGING = """
status = error
name = taskhub-tests
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %m (%c)%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
"""
SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "3",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "3",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "num.partitions": "1",
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "group.coordinator.append.linger.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "add.partitions.to.txn.retry.backoff.ms": "1",  # otherwise 20 ms between transactions
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
    "transaction.max.timeout.ms": "60000",
    "num.network.threads": "2",
    "num.io.threads": "2",
    "background.threads": "2",
    "num.recovery.threads.per.data.dir": "1",
    "log.cleaner.threads": "1",
    "log.cleaner.dedupe.buffer.size": "4194304",  # the default takes 128 MB
    "log.cleaner.backoff.ms": "1000",
    "log.segment.bytes": "16777216",
    "log.retention.check.interval.ms": "5000",
    "controlled.shutdown.enable": "false",
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "3000",  # a killed broker may come back after this time
}


class KafkaUnavailable(Exception):
    """This machine cannot run Apache Kafka; the message says why."""


def cache_dir() -> Path:
    """Where jars and the formatted directory live."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "taskhub" / f"kafka-{KAFKA_VERSION}"


def why_unavailable() -> str | None:
    """What is missing, as a phrase; None if a broker can be tried."""
    if shutil.which("java") is None:
        return "no `java` on the path (17 or newer is needed)"
    if not (cache_dir() / "libs").is_dir() and shutil.which("mvn") is None:
        return f"no jars in {cache_dir()} and no `mvn` on the path to fetch them"
    return None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock between processes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(command: list[str], doing: str, seconds: float) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as late:
        raise KafkaUnavailable(f"{doing} took longer than {seconds:.0f} s") from late
    if done.returncode != 0:
        raise KafkaUnavailable(f"{doing} failed: {(done.stdout + done.stderr).strip()[-400:]}")


def _java(libs: Path, log4j: Path, options: Sequence[str] = QUICK_START) -> list[str]:
    return ["java", *options, f"-Dlog4j2.configurationFile={log4j}", "-cp", f"{libs}/*"]


def _write_settings(path: Path, data: Path, port: int, controller_port: int) -> None:
    settings = SETTINGS | {
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "log.dirs": str(data),
    }
    path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))


def prepare() -> Path:
    """Fill the cache (jars, logging settings, a formatted data directory). Raises `KafkaUnavailable`."""
    reason = why_unavailable()
    if reason:
        raise KafkaUnavailable(reason)
    cache = cache_dir()
    with locked(cache / "lock"):
        libs, log4j, formatted = cache / "libs", cache / "log4j2.properties", cache / "formatted"
        if not libs.is_dir():
            partial = cache / "libs.partial"
            _run(
                [
                    "mvn",
                    "-B",
                    "-q",
                    "-f",
                    str(POM),
                    COPY_JARS,
                    "-DincludeScope=runtime",
                    f"-DoutputDirectory={partial}",
                ],
                "fetching the jars of Apache Kafka with Maven",
                600,
            )
            partial.rename(libs)
        log4j.write_text(LOGGING)
        if not formatted.is_dir():
            partial = cache / "formatted.partial"
            shutil.rmtree(partial, ignore_errors=True)
            _write_settings(cache / "format.properties", partial, 1, 2)
            tool = [*_java(libs, log4j), "kafka.tools.StorageTool"]
            _run(
                [*tool, "format", "-t", CLUSTER_ID, "-c", str(cache / "format.properties")],
                "formatting a directory for Kafka",
                60,
            )
            partial.rename(formatted)
    return cache


class ApacheKafka:
    """One broker in a directory of its own. `start` and `kill` may be repeated: the ports and the data stay. `jvm_options`:
    QUICK_START or KAFKAS_OWN."""

    def __init__(self, directory: Path, jvm_options: Sequence[str] = QUICK_START) -> None:
        self.directory = directory
        self._jvm_options = jvm_options
        self.port, self.controller_port = free_ports(2)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """host:port for clients."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start and wait until it takes connections. Raises `KafkaUnavailable`."""
        cache = prepare()
        if not (self.directory / "data").is_dir():
            shutil.copytree(cache / "formatted", self.directory / "data")
        settings = self.directory / "server.properties"
        self.write_settings(settings)
        with (self.directory / "kafka.log").open("ab") as log:
            java = _java(cache / "libs", cache / "log4j2.properties", self._jvm_options)
            command = [*java, "kafka.Kafka", str(settings)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + START_SECONDS
        while not self._listening():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise KafkaUnavailable(f"the broker did not start: {(self.directory / 'kafka.log').read_text()[-600:]}")
            time.sleep(0.05)

    def write_settings(self, path: Path) -> None:
        """Write its `server.properties`; a node of a cluster has others."""
        _write_settings(path, self.directory / "data", self.port, self.controller_port)

    def _listening(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    @property
    def pid(self) -> int:
        """The JVM's process id, while it runs."""
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        """End it at once, as a power cut of the process would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def close(self) -> None:
        """End it for good; its directory is the caller's. Raises RuntimeError if it had ended by itself."""
        code = None if self.process is None else self.process.poll()
        self.kill()
        if code is not None:
            raise RuntimeError(f"Apache Kafka ended by itself with {code}: {(self.directory / 'kafka.log').read_text()[-2000:]}")


def main() -> None:
    """Run a broker with KAFKAS_OWN in a temporary directory until SIGINT or SIGTERM; prints host:port when it is ready."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="taskhub-kafka-") as directory:
        broker = ApacheKafka(Path(directory), KAFKAS_OWN)
        with suppress(KeyboardInterrupt):
            broker.start()
            print(broker.bootstrap, flush=True)
            signal.pause()
        broker.close()


if __name__ == "__main__":
    main()
