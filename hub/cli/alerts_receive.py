"""`hub alerts receive`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import config
from .processes import WAIT_SECONDS, Bootstrap, LogFormat, LogLevel, Wait

if TYPE_CHECKING:
    from pydantic import SecretStr

    from ..receiver import AlertTasks, ListenAddress
    from ..receiver.http import RequestLimits
    from ..runtime import Process

LISTEN = "127.0.0.1:9095"
BODY_BYTES_MAX = 1 << 20
ROLE = "alerts"


def register_receive(alerts: typer.Typer) -> None:
    """Add the command to `hub alerts`."""
    alerts.command("receive")(receive)


def receive(
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Address to listen on; port 0: any free port.")] = LISTEN,
    task: Annotated[
        str | None, typer.Option(metavar="NAME", help="Task that an alert creates, unless it has a label hub_task with a name.")
    ] = None,
    namespace: Annotated[str, typer.Option(help="Namespace of the tasks.")] = "default",
    queue: Annotated[str | None, typer.Option(help="Queue of the tasks (default: that of their definition).")] = None,
    cancel_resolved: Annotated[
        bool, typer.Option("--cancel-resolved", help="Cancel the task of an alert that is resolved, if it has not ended.")
    ] = False,
    window_seconds: Annotated[
        float,
        typer.Option(
            min=1, max=366 * 86_400, help="Seconds after the end of a task during which the same alert creates no second one."
        ),
    ] = 30 * 86_400,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the bearer token that requests must have (default: the variable HUB_ALERTS_TOKEN, or none)."
        ),
    ] = None,
    body_max_bytes: Annotated[
        int, typer.Option(min=1024, max=64 << 20, help="Most bytes of a notification; a larger one gets the status 413.")
    ] = BODY_BYTES_MAX,
    bootstrap: Bootstrap = config.DEFAULT_BOOTSTRAP,
    wait: Wait = WAIT_SECONDS,
    health_host: Annotated[
        str, typer.Option(help="Address of the health pages and metrics.", envvar="HUB_HEALTH_HOST")
    ] = config.DEFAULT_HOST,
    health_port: Annotated[
        int,
        typer.Option(min=0, max=65535, help="Port of the health pages and metrics; 0: none.", envvar="HUB_HEALTH_PORT"),
    ] = 0,
    log_level: LogLevel = "info",
    log_format: LogFormat = "text",
) -> None:
    """Create a task for each alert of an Alertmanager, which sends its notifications to http://HOST:PORT/alerts.

    The name of the task is the alert's label hub_task, or --task; its argument `alert` has status, labels, annotations, startsAt,
    endsAt, generatorURL, fingerprint, receiver and groupKey. Its id is derived from namespace, fingerprint and startsAt, so that
    repeated notifications create one task. Alerts with a label hub_origin, which the hub itself raised, create none.

    The service listens on a loopback address, or elsewhere with a bearer token; TLS is the task of a proxy in front of it. It
    responds with 200 when the submissions are on the log. While no broker responds it is 503, and Alertmanager repeats the
    notification. Prints one line `ready alerts <json>` and drains on SIGTERM or Ctrl-C.

    Exit codes: 0 stopped by a signal; 2 invalid options, or no hub at the address; 3 no broker responds; 4 the port is in use.
    """
    from ..receiver import TOKEN_VARIABLE, AlertTasks, parse_listen, read_token
    from ..receiver.http import RequestLimits
    from ..runtime import HealthOptions, run_process
    from ..telemetry import conceal, configure_logging
    from .processes import health_address

    configure_logging(ROLE, log_level, log_format=log_format)
    token = read_token(token_file, config.variables().get(TOKEN_VARIABLE))
    if token is not None:
        conceal([token.get_secret_value()])
    address = parse_listen(listen)
    tasks = AlertTasks(task, namespace, queue, cancel_resolved, window_seconds)
    limits = RequestLimits(body_max_bytes=body_max_bytes)
    run_process(
        ROLE,
        lambda process: _serve(process, (bootstrap, wait), tasks, (address, token, limits)),
        health=HealthOptions(health_address(health_host, health_port)),
    )


async def _serve(
    process: "Process",
    broker: tuple[str, float],
    tasks: "AlertTasks",
    http: "tuple[ListenAddress, SecretStr | None, RequestLimits]",
) -> None:
    """Steps: 1. the options are checked, 2. the broker is awaited, 3. the client starts, 4. the receiver listens until a
    signal."""
    from ..client import Hub
    from ..receiver import AlertIntake
    from ..receiver.service import AlertReceiver
    from ..runtime.cluster import cluster_at
    from ..runtime.waiting import wait_for_hub

    cluster = cluster_at(broker[0])
    hub = Hub(cluster)
    intake = AlertIntake(
        hub, tasks, lambda outcome, number: process.registry.counter("hub.receiver.alerts", outcome=outcome).add(number)
    )
    receiver = AlertReceiver(intake.accept, *http)
    if not await process.until_stopped(wait_for_hub(cluster, broker[1])):
        return
    async with hub:
        try:
            await receiver.start()
            process.ready(bootstrap=str(cluster), listen=f"http://{receiver.address}")
            await process.until_stopped(receiver.watch())
        finally:
            await receiver.stop()
