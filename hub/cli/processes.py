"""Commands that are processes: `hub broker`, `engine`, `worker`, `delivery`, `init`.

Each prints one line `ready <role> <json>` to stdout when it is ready, logs to stderr, drains on SIGTERM or Ctrl-C and then exits
with 0; a second signal ends it immediately.
"""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import config

if TYPE_CHECKING:
    from ..kafka import Ensured
    from ..metrics.push import PushSettings
    from ..runtime import Process
    from ..runtime.health import HealthAddress
    from ..settings import Settings

Bootstrap = Annotated[str, typer.Option(help="Address of the broker, host:port[,host:port].", envvar="HUB_BOOTSTRAP")]
Parent = Annotated[int, typer.Option(hidden=True, help="Process id of the supervisor; the process ends with it.")]
ReadyFd = Annotated[int, typer.Option(hidden=True, help="File descriptor of the supervisor's pipe for the line `ready`.")]
Wait = Annotated[float, typer.Option(help="Seconds to wait for the broker and the hub's topics.")]
AdvertisedHost = Annotated[
    str | None,
    typer.Option(help="Host that clients connect to, if it differs from --host; required if --host is 0.0.0.0 or ::."),
]
LogLevel = Annotated[
    str, typer.Option(help="Minimum level of log records: debug, info, warning or error.", envvar="HUB_LOG_LEVEL")
]
LogFormat = Annotated[str, typer.Option(help="Format of log records: text, or json.", envvar="HUB_LOG_FORMAT")]
HealthHost = Annotated[str, typer.Option(help="Address of the health pages and metrics.")]
HealthPort = Annotated[int | None, typer.Option(min=0, max=65535, help="Port of the health pages and metrics (default 0: none).")]
HealthReported = Annotated[
    bool, typer.Option("--health-reported", hidden=True, help="Serve the health pages on a free port, for the supervisor.")
]
WAIT_SECONDS = 5.0


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for command in (broker, engine, worker, delivery, init):
        app.command()(command)


def broker(
    data: Annotated[Path | None, typer.Option(help="Directory of the log. Without it all data is kept in memory only.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = config.DEFAULT_HOST,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free port.")] = config.DEFAULT_PORT,
    advertised_host: AdvertisedHost = None,
    engine: Annotated[bool, typer.Option("--engine", help="Run the engine for all partitions in this process.")] = False,
    partitions: Annotated[
        int | None, typer.Option(min=1, help="Engine partitions of a new hub (default 1). An existing hub keeps its number.")
    ] = None,
    flush: Annotated[
        str, typer.Option(help="always: writes are acknowledged after fsync; interval:<ms>: fsync at intervals; os: no fsync.")
    ] = "always",
    health_host: HealthHost = config.DEFAULT_HOST,
    health_port: HealthPort = None,
    health_reported: HealthReported = False,
    log_level: LogLevel = "info",
    log_format: LogFormat = "text",
    parent: Parent = 0,
    ready_fd: ReadyFd = -1,
) -> None:
    """Run the embedded Kafka broker."""
    from ..runtime import BrokerOptions, serve_broker

    settings = _settings()
    sections = (None, None) if settings is None else (settings.engine, settings.topics)
    options = BrokerOptions(data, host, port, advertised_host, engine, partitions, flush, *sections)
    health = health_address(health_host, health_port, reported=health_reported)
    role = "broker+engine" if engine else "broker"
    run_role(role, lambda process: serve_broker(process, options), (log_level, log_format), parent, ready_fd, health)


def engine(
    bootstrap: Bootstrap = config.DEFAULT_BOOTSTRAP,
    data: Annotated[Path | None, typer.Option(help="Directory for snapshots, which shorten restarts.")] = None,
    wait: Wait = WAIT_SECONDS,
    health_host: HealthHost = config.DEFAULT_HOST,
    health_port: HealthPort = None,
    health_reported: HealthReported = False,
    log_level: LogLevel = "info",
    log_format: LogFormat = "text",
    parent: Parent = 0,
    ready_fd: ReadyFd = -1,
) -> None:
    """Run an engine process. All engine processes of a hub share its partitions; any number can be started."""
    from ..runtime import serve_engine
    from ..runtime.cluster import cluster_at

    settings = _settings()
    section = None if settings is None else settings.engine
    run_role(
        "engine",
        lambda process: serve_engine(process, cluster_at(bootstrap), data_dir=data, wait_seconds=wait, section=section),
        (log_level, log_format),
        parent,
        ready_fd,
        health_address(health_host, health_port, reported=health_reported),
    )


def worker(
    tasks: Annotated[str, typer.Argument(metavar="MODULE:REGISTRY", help="The registry of tasks, for example app:tasks.")],
    bootstrap: Bootstrap = config.DEFAULT_BOOTSTRAP,
    pool: Annotated[str, typer.Option(help="Pool that the worker belongs to.")] = "default",
    queue: Annotated[list[str] | None, typer.Option(help="Queue to serve (repeatable; default: default).")] = None,
    slots: Annotated[int, typer.Option(min=1, help="Maximum number of concurrent tasks.")] = 64,
    lease_seconds: Annotated[
        float, typer.Option(min=0.1, max=3600, help="Seconds without heartbeats after which the worker is considered lost.")
    ] = 10.0,
    grace_seconds: Annotated[float, typer.Option(min=0, help="Seconds for running tasks to end when the worker drains.")] = 30.0,
    wait: Wait = WAIT_SECONDS,
    health_host: HealthHost = config.DEFAULT_HOST,
    health_port: HealthPort = None,
    health_reported: HealthReported = False,
    log_level: LogLevel = "info",
    log_format: LogFormat = "text",
    parent: Parent = 0,
    ready_fd: ReadyFd = -1,
) -> None:
    """Run a worker with the tasks of a module."""
    from ..runtime import serve_worker
    from ..runtime.cluster import cluster_at
    from ..runtime.export import span_export
    from ..worker import WorkerSettings, load_registry

    registry = load_registry(tasks)
    configured = _settings()
    settings = WorkerSettings(
        pool=pool,
        queues=tuple(queue or ["default"]),
        slots=slots,
        lease_seconds=lease_seconds,
        grace_seconds=grace_seconds,
        span_export=None if configured is None else span_export(configured.otlp),
    )
    topics = None if configured is None else configured.topics
    run_role(
        "worker",
        lambda process: serve_worker(process, cluster_at(bootstrap), registry, settings, wait_seconds=wait, topics=topics),
        (log_level, log_format),
        parent,
        ready_fd,
        health_address(health_host, health_port, reported=health_reported),
    )


def delivery(
    bootstrap: Bootstrap = config.DEFAULT_BOOTSTRAP,
    subscriber: Annotated[
        list[str] | None,
        typer.Option(help="Subscriber to run: a plugin or module:Class (repeatable; default: those of hub.toml, or console)."),
    ] = None,
    isolate: Annotated[
        bool, typer.Option("--isolate", help="Run every subscriber in a process of its own, also the built-in ones.")
    ] = False,
    wait: Wait = WAIT_SECONDS,
    health_host: HealthHost = config.DEFAULT_HOST,
    health_port: HealthPort = None,
    health_reported: HealthReported = False,
    log_level: LogLevel = "info",
    log_format: LogFormat = "text",
    parent: Parent = 0,
    ready_fd: ReadyFd = -1,
) -> None:
    """Run subscribers, which receive the events of the hub."""
    from ..delivery import fork_server_for, parse_configs
    from ..runtime import serve_delivery
    from ..runtime.cluster import cluster_at

    subscribers = parse_configs(checked_subscribers(subscriber, is_checked=parent != 0))
    if isolate:
        subscribers = [one.model_copy(update={"isolation": "process"}) for one in subscribers]
    configured = _settings()
    topics = None if configured is None else configured.topics
    _begin("delivery", (log_level, log_format), parent)
    fork_server = fork_server_for(subscribers)  # while this process has no threads and no event loop
    _serve(
        "delivery",
        lambda process: serve_delivery(
            process, cluster_at(bootstrap), subscribers, wait_seconds=wait, topics=topics, fork_server=fork_server
        ),
        ready_fd,
        health_address(health_host, health_port, reported=health_reported),
    )


def init(
    bootstrap: Bootstrap = config.DEFAULT_BOOTSTRAP,
    partitions: Annotated[
        int | None, typer.Option(min=1, help="Engine partitions of a new hub (default 16). An existing hub keeps its number.")
    ] = None,
) -> None:
    """Create the hub's topics on a Kafka cluster, and check existing ones. Settings in the table topics of hub.toml are also
    applied to existing topics."""
    created, altered, kept = ensure_configured_topics(bootstrap, partitions)
    typer.echo(f"created {', '.join(sorted(created))}" if created else "all topics already exist")
    for change in altered:
        typer.echo(f"altered {change}")
    for one in kept:
        typer.echo(f"unchanged {one.topic}: {one.setting} = {one.found} (default of a new hub: {one.wanted})")


def ensure_configured_topics(bootstrap: str, partitions: int | None) -> "Ensured":
    """Ensure the topics of a hub on a Kafka cluster, with the settings of `[topics]`. Raises HubError; if the hub has another
    format, before anything is altered."""
    import asyncio

    from ..engine import check_hub_format
    from ..kafka import ensure_hub
    from ..runtime.cluster import cluster_at
    from ..runtime.tuning import topic_overrides

    settings = _settings()

    async def ensure() -> "Ensured":
        cluster = cluster_at(bootstrap)
        await check_hub_format(cluster)
        return await ensure_hub(cluster, partitions, topic_overrides(None if settings is None else settings.topics))

    return asyncio.run(ensure())


def checked_subscribers(chosen: list[str] | None, *, is_checked: bool = False) -> list[dict[str, Any]]:
    """The subscribers to run: the chosen ones, else the configured ones, else the console; those that export to the endpoint of
    `[otlp]`, and the one of `[metrics]`. Raises ConfigurationError if one is invalid.

    `is_checked`: the supervisor has checked them, so that their plugins need not be imported for that again; a fault that was
    made since is found when the subscriber is started."""
    configured = _settings()
    exports = configured is not None and (configured.otlp.endpoint is not None or configured.metrics.enabled)
    if not chosen and not exports and (configured is None or not configured.subscribers):
        return [{"use": "console"}]
    from ..delivery import check_subscribers
    from .config import origin_of

    entries: list[dict[str, Any]]
    if chosen or configured is None or not configured.subscribers:
        entries, source = [{"use": one} for one in chosen or ("console",)], "--subscriber"
    else:
        entries, source = configured.subscribers, origin_of("subscribers")
    if not is_checked:
        check_subscribers(entries, source)
    if configured is None:
        return entries
    from ..runtime.export import exporting_subscribers

    added = exporting_subscribers(configured.otlp, configured.metrics, entries)
    if not is_checked:
        check_subscribers(added, origin_of("otlp.endpoint"))
    return [*entries, *added]


def _settings() -> "Settings | None":
    """The settings; None if nothing is configured, which saves the import of the settings."""
    if not config.is_configured():
        return None
    from ..settings import Settings

    return Settings.load()


def pushed_metrics(instance: str | None = None) -> "PushSettings | None":
    """Where the metrics of this process are pushed, if `[otlp] endpoint` is set. `instance`: see `metrics_push`."""
    return _push_of(_settings(), instance)


def _push_of(settings: "Settings | None", instance: str | None) -> "PushSettings | None":
    if settings is None:
        return None
    from ..runtime.export import metrics_push

    return metrics_push(settings.otlp, instance)


def health_address(host: str, port: int | None, *, reported: bool = False) -> "HealthAddress | None":
    """Where to serve the health pages; None: nowhere. `reported`: on a free loopback port instead."""
    from ..runtime.health import HealthAddress

    if reported:
        return HealthAddress(config.DEFAULT_HOST, 0)
    return HealthAddress(host, port) if port else None


def run_role(
    role: str,
    main: "Callable[[Process], Awaitable[None]]",
    logs: tuple[str, str],
    parent: int,
    ready_fd: int,
    health: "HealthAddress | None",
) -> None:
    """Run the process of a role. `logs`: level and format of log records. `parent`, `ready_fd`: 0 and -1 without a supervisor."""
    _begin(role, logs, parent)
    _serve(role, main, ready_fd, health)


def _begin(role: str, logs: tuple[str, str], parent: int) -> None:
    """What comes before anything else in a process. `logs`: level and format of log records."""
    from ..child_process import die_with_parent
    from ..telemetry import configure_logging

    if parent:
        die_with_parent(parent)
    configure_logging(role, logs[0], log_format=logs[1])


def _serve(role: str, main: "Callable[[Process], Awaitable[None]]", ready_fd: int, health: "HealthAddress | None") -> None:
    from ..runtime import HealthOptions, run_process
    from ..runtime.tuning import health_limits

    settings = _settings()
    if settings is not None and settings.otlp.endpoint is not None and settings.metrics.histograms == "exponential":
        from ..metrics import Histogram

        Histogram.with_exponential = True
    push = None if ready_fd >= 0 else _push_of(settings, f"{role}-{os.getpid()}")
    options = HealthOptions(health, health_limits(None if settings is None else settings.health))
    run_process(role, main, ready_fd=ready_fd if ready_fd >= 0 else None, health=options, push=push)
