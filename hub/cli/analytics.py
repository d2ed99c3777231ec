"""`hub analytics`: the process that evaluates rules, and raises and resolves alerts."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import config
from .processes import (
    WAIT_SECONDS,
    Bootstrap,
    HealthHost,
    HealthPort,
    HealthReported,
    LogFormat,
    LogLevel,
    Parent,
    ReadyFd,
    Wait,
    health_address,
    run_role,
)

if TYPE_CHECKING:
    from ..analytics.rule_kinds import Rule
    from ..settings import AnalyticsSection


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(analytics)


def analytics(
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
    """Evaluate the rules of hub.toml against the events of the hub, and report alerts. One process is enough; of several with the
    same rules each alert is reported by one of them."""
    from ..analytics.service import AnalyticsSettings
    from ..analytics.view import Shape
    from ..runtime.cluster import cluster_at
    from ..runtime.roles import serve_analytics

    rules, section = configured_analytics()
    shape = Shape(rules, section.pane_seconds, section.keep_seconds)
    settings = AnalyticsSettings(shape, data, section.snapshot_seconds)
    run_role(
        "analytics",
        lambda process: serve_analytics(process, cluster_at(bootstrap), settings, wait_seconds=wait),
        (log_level, log_format),
        parent,
        ready_fd,
        health_address(health_host, health_port, reported=health_reported),
    )


def configured_analytics() -> "tuple[list[Rule], AnalyticsSection]":
    """The rules of hub.toml, and the table `[analytics]`. Raises ConfigurationError, which names the rule and the field."""
    from ..analytics import parse_rules
    from ..settings import AnalyticsSection, Settings

    if not config.is_configured():
        return [], AnalyticsSection()
    settings = Settings.load()
    return parse_rules(settings.rules), settings.analytics
