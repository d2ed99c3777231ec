"""The processes of the roles: compose the services of the rooms, report `ready`, run, drain.

Large modules are imported in the functions of the roles that need them, so that a process loads only what it runs.
"""

import os
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import ConfigurationError
from .errors import DataDirectoryTaken, DataOfOtherFormat, PortTaken, ProcessFailed
from .listener import make_listener
from .process import Process

if TYPE_CHECKING:
    from ..analytics.service import AnalyticsSettings
    from ..broker import BrokerServer
    from ..delivery import SubscriberConfig
    from ..engine import LoopSettings
    from ..fork_server import ForkServer
    from ..kafka import Cluster
    from ..service import Service
    from ..settings import EngineSection, TopicsSection
    from ..worker import TaskRegistry, WorkerSettings
from ..logs import Logger

log = Logger(__name__)

ANALYTICS_NICE = 5
"""Increment of the niceness of the analytics: where CPU time is short, other processes come first."""
DEFAULT_PARTITIONS = 1
"""Number of partitions of a new hub on the embedded broker: a single process writes the journal, so more have no benefit."""


class BrokerOptions(NamedTuple):
    """Without `data_dir` everything is in memory. `partitions` None: those of the existing hub, or one for a new hub.
    `engine_section`, `topics`: configuration of the engine and the topics, or None."""

    data_dir: Path | None
    host: str
    port: int
    advertised_host: str | None = None
    engine: bool = False
    partitions: int | None = None
    flush: str = "always"
    engine_section: "EngineSection | None" = None
    topics: "TopicsSection | None" = None


async def serve_broker(process: Process, options: BrokerOptions) -> None:
    """Run the embedded broker, with or without the engine. Raises HubError."""
    from ..broker import BrokerServer
    from .checks import broker_checks
    from .instruments import broker_figures, observe_broker

    listener = make_listener(options.host, options.advertised_host)
    try:
        server = BrokerServer(
            options.data_dir,
            listener.host,
            options.port,
            options.flush,
            advertised_host=listener.advertised_host,
            figures=broker_figures(),
        )
    except ValueError as error:
        raise ConfigurationError(f"--flush: {error}.") from error
    process.health.checks |= broker_checks(server)
    await _start_broker(server, options)
    observe_broker(process.registry, server)
    try:
        await _serve_hub(process, server, options)
    finally:
        await server.stop()


async def _serve_hub(process: Process, server: "BrokerServer", options: BrokerOptions) -> None:
    from ..kafka import INTAKE
    from .cluster import cluster_at

    partitions = options.partitions or server.local.topics().get(INTAKE) or DEFAULT_PARTITIONS
    if not await process.until_stopped(_ensure_topics(cluster_at(server.bootstrap), partitions, options.topics)):
        return
    if not options.engine:
        process.ready(address=server.bootstrap, data=_text(options.data_dir))
        await process.stopping.wait()
        return
    from ..engine.embedded import EMBEDDED_MAX_RECORDS, EmbeddedEngine
    from .checks import engine_checks
    from .instruments import observe_engine
    from .tuning import engine_settings, loop_settings, tombstones_seconds

    engine = EmbeddedEngine(
        server.local,
        data_dir=options.data_dir,
        settings=engine_settings(options.engine_section),
        loop_settings=loop_settings(
            options.engine_section,
            max_records=EMBEDDED_MAX_RECORDS,
            tombstones_seconds=tombstones_seconds(options.topics),
        ),
    )
    process.health.checks |= engine_checks(engine, process.limits)
    observe_engine(process.registry, engine)
    about: dict[str, Any] = {"address": server.bootstrap, "data": _text(options.data_dir)}
    with _engine_errors():
        await _serve(process, engine, engine.start(), lambda: about | {"partitions": engine.partitions})


async def _serve(
    process: Process, service: "Service", start: Coroutine[Any, Any, None], facts: Callable[[], dict[str, Any]]
) -> None:
    """Start a service, report `ready` with its facts, and stop it on a signal or if it fails; then its error is raised."""
    try:
        if await process.until_stopped(start):
            process.ready(**facts())
            await process.until_stopped(service.watch())
    finally:
        await service.stop()


async def _ensure_topics(cluster: "Cluster", partitions: int, topics: "TopicsSection | None") -> None:
    from ..kafka import ensure_topics
    from .tuning import topic_overrides

    ensured = await ensure_topics(cluster, partitions=partitions, overrides=topic_overrides(topics))
    for change in ensured.altered:
        log.warning("a topic was altered", action="topic_altered", change=str(change))


async def _start_broker(server: "BrokerServer", options: BrokerOptions) -> None:
    from ..broker import AddressInUse, DataDirectoryInUse, OtherFormat, StorageDamaged

    try:
        await server.start()
    except AddressInUse as error:
        raise PortTaken(options.host, options.port, _reason(error)) from error
    except DataDirectoryInUse as error:
        raise DataDirectoryTaken(str(error)) from error
    except OtherFormat as error:
        raise DataOfOtherFormat(options.data_dir, error.found, error.wanted) from error
    except StorageDamaged as error:
        raise ProcessFailed(
            f"The data in {options.data_dir} is damaged: {error}."
            " It was not changed; restore it from a backup, or start over with another --data."
        ) from error
    except OSError as error:
        raise ConfigurationError(f"The data directory {options.data_dir} cannot be used: {error.strerror or error}.") from error


async def serve_engine(
    process: Process, cluster: "Cluster", *, data_dir: Path | None, wait_seconds: float, section: "EngineSection | None" = None
) -> None:
    """Run an engine over TCP for its share of the partitions. `section`: its configuration. Raises HubError."""
    from ..engine import EngineService
    from .checks import engine_checks
    from .instruments import observe_engine
    from .tuning import engine_settings
    from .waiting import wait_for_hub

    if not await process.until_stopped(wait_for_hub(cluster, wait_seconds)):
        return
    engine = EngineService(
        cluster,
        data_dir=data_dir,
        settings=engine_settings(section),
        loop_settings=await _loop_settings(cluster, section),
    )
    process.health.checks |= engine_checks(engine, process.limits)
    observe_engine(process.registry, engine)

    async def start() -> None:
        await engine.start()
        await engine.ready()

    with _engine_errors():
        await _serve(process, engine, start(), lambda: {"bootstrap": str(cluster), "partitions": engine.partitions})


async def _loop_settings(cluster: "Cluster", section: "EngineSection | None") -> "LoopSettings":
    """Loop settings with the actual settings of `hub.state`, which another machine may have configured."""
    from ..engine import LoopSettings
    from ..kafka import STATE, describe_setting
    from .tuning import loop_settings

    tombstones_ms = int(await describe_setting(cluster, STATE, "delete.retention.ms"))
    return loop_settings(section, max_records=LoopSettings().max_records, tombstones_seconds=tombstones_ms // 1000)


async def serve_worker(
    process: Process,
    cluster: "Cluster",
    registry: "TaskRegistry",
    settings: "WorkerSettings",
    *,
    wait_seconds: float,
    topics: "TopicsSection | None" = None,
) -> None:
    """Run one incarnation of a worker. `topics`: configuration of the topic of a new pool. Raises HubError."""
    from ..kafka import ensure_pool
    from ..worker import Worker
    from .checks import worker_checks
    from .instruments import observe_worker
    from .tuning import topic_overrides
    from .waiting import wait_for_hub

    if not await process.until_stopped(wait_for_hub(cluster, wait_seconds)):
        return
    if overrides := topic_overrides(topics):
        await ensure_pool(cluster, settings.pool, overrides)
    worker = Worker(cluster, registry, settings)
    process.health.checks |= worker_checks(worker)
    observe_worker(process.registry, worker)
    about = {"bootstrap": str(cluster), "incarnation": worker.incarnation, "pool": settings.pool, "tasks": registry.names}
    try:
        await _serve(process, worker, worker.start(), lambda: about)
    finally:
        if worker.busy_threads:
            process.end_at_once("functions still run in threads, and threads cannot be ended", code=1 if sys.exc_info()[0] else 0)


async def serve_delivery(
    process: Process,
    cluster: "Cluster",
    subscribers: Sequence["SubscriberConfig"],
    *,
    wait_seconds: float,
    topics: "TopicsSection | None" = None,
    fork_server: "ForkServer | None" = None,
) -> None:
    """Run the configured subscribers. `topics`: configuration of their dead-letter topics. `fork_server`: for those in processes
    of their own. Raises HubError."""
    from ..delivery import DeliveryService, IntakeObservations, SubscriberObserver
    from ..kafka import DLQ_PREFIX
    from .checks import delivery_checks
    from .instruments import observe_delivery
    from .tuning import topic_overrides
    from .waiting import wait_for_hub

    if not await process.until_stopped(wait_for_hub(cluster, wait_seconds)):
        return
    service = DeliveryService(
        cluster,
        subscribers,
        dead_letter_configs=topic_overrides(topics).get(DLQ_PREFIX, {}),
        on_failing=lambda failing: process.report(failing=failing),
        on_change=lambda: observer.wake(),
        fork_server=fork_server,
        registry=process.registry,
    )
    observe_delivery(process.registry, service.status)
    process.more_metrics = service.metrics
    observer = SubscriberObserver(service.status, IntakeObservations(cluster).put)

    async def start() -> None:
        observer.start()
        await service.start()
        await service.ready()

    process.health.checks |= delivery_checks(service.status, process.limits)
    about = {"bootstrap": str(cluster), "subscribers": [one.id for one in subscribers]}
    try:
        await _serve(process, service, start(), lambda: about)
    finally:
        await observer.stop()


async def serve_analytics(process: Process, cluster: "Cluster", settings: "AnalyticsSettings", *, wait_seconds: float) -> None:
    """Evaluate rules, and report alerts, with a lower priority than the processes that run tasks. Raises HubError."""
    from ..analytics.service import AnalyticsService
    from .checks import analytics_checks
    from .instruments import observe_analytics
    from .waiting import wait_for_hub

    if not await process.until_stopped(wait_for_hub(cluster, wait_seconds)):
        return
    if hasattr(os, "nice"):
        os.nice(ANALYTICS_NICE)
    service = AnalyticsService(cluster, settings)
    process.health.checks |= analytics_checks(service)
    observe_analytics(process.registry, lambda: service.view.book.alerts.values())
    about = {"bootstrap": str(cluster), "rules": [rule.name for rule in settings.shape.rules if rule.enabled]}
    await _serve(process, service, service.start(), lambda: about)


@contextmanager
def _engine_errors() -> Iterator[None]:
    from ..engine import EngineFailedError

    try:
        yield
    except EngineFailedError as error:
        raise ProcessFailed(f"The engine stopped: {error}") from error
    except TimeoutError as error:
        raise ProcessFailed("The engine could not take its partitions over in time; the log above may say why.") from error


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _reason(error: Exception) -> str:
    return str(error).rpartition(": ")[2].lower()
