"""`hub health`: asks the health pages of a process whether it is ready, for health checks of containers and scripts."""

from typing import Annotated
from urllib.parse import urlsplit

import typer

from .. import config
from ..errors import ConfigurationError, Unreachable
from .shell import EXIT_NOT_COMPLETED, run

TIMEOUT_SECONDS = 3.0
"""Longer than a supervisor takes, which gives each of its processes one second."""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(health)


def health(
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="Address of the health pages (default: --health-port on 127.0.0.1).")
    ] = None,
    health_port: Annotated[
        int, typer.Option(min=1, max=65535, envvar="HUB_HEALTH_PORT", help="Port of the health pages on this machine.")
    ] = config.DEFAULT_HEALTH_PORT,
) -> None:
    """Ask a process, or all processes of `hub up`, whether they are ready, and print the checks that fail.

    Exit codes: 0 ready; 1 not ready; 2 invalid usage; 3 no response at the address.
    """
    failed = run(failed_checks(address_of(url) if url else f"{config.DEFAULT_HOST}:{health_port}"))
    for check, detail in failed.items():
        print(f"{check}: {detail}")
    if failed:
        raise typer.Exit(EXIT_NOT_COMPLETED)
    print("ready")


async def failed_checks(address: str) -> dict[str, str]:
    """The failed checks with their details, by `/readyz` at host:port; empty if it is ready. Raises Unreachable."""
    from ..runtime.health import PageUnavailable, fetch

    try:
        page = await fetch(address, "/readyz", timeout_seconds=TIMEOUT_SECONDS)
        return _failed(page.status, page.body)
    except PageUnavailable as error:
        raise Unreachable(f"No health pages respond at {address}: {error}.") from error


def address_of(url: str) -> str:
    """host:port of a URL; its path is ignored. Raises ConfigurationError."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        port = parts.port or 80
    except ValueError as error:
        raise ConfigurationError(f"--url: {url!r} has no valid port ({error}).") from error
    if parts.scheme != "http" or not parts.hostname:
        raise ConfigurationError(f"--url: {url!r} must be of the form http://host:port.")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{port}"


def _failed(status: int, body: bytes) -> dict[str, str]:
    """The failed checks in a response of `/readyz`. Raises PageUnavailable if it is not one."""
    import json

    from ..runtime.health import PageUnavailable

    try:
        said = json.loads(body)
        failed = {str(check): str(detail) for check, detail in said["failed"].items()}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise PageUnavailable(f"the response (status {status}) is not that of a hub") from error
    if status not in (200, 503) or (status == 200) != (not failed):
        raise PageUnavailable(f"the response has the status {status}")
    return failed
