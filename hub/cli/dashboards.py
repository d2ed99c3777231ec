"""`hub dashboards`: the files for Grafana and Prometheus."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ConfigurationError, HubError

if TYPE_CHECKING:
    from ..dashboards import Site


def register(app: typer.Typer) -> None:
    """Add `hub dashboards` to the command line."""
    dashboards = typer.Typer(no_args_is_help=True, help="Write dashboards for Grafana, and rules for Prometheus.")
    dashboards.callback()(_nothing)
    dashboards.command("write")(write)
    app.add_typer(dashboards, name="dashboards")


def _nothing() -> None:
    """A group with one command keeps the command's name."""


def write(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder for the files; created if it does not exist.")],
    target: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST:PORT", help="Address of health pages, from which Prometheus reads metrics; repeatable."),
    ] = None,
    pushed: Annotated[
        bool, typer.Option("--pushed", help="The hub pushes its metrics (otlp.endpoint): Prometheus reads no targets.")
    ] = False,
    grafana_url: Annotated[str | None, typer.Option(metavar="URL", help="Address of Grafana, for links in alerts.")] = None,
    dashboards_path: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Folder of the dashboards where Grafana runs, if it is not DIR/grafana/dashboards."),
    ] = None,
    objective: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Share of tasks that should succeed, for the error budget.")
    ] = None,
) -> None:
    """Write six dashboards with their provisioning for Grafana, and a configuration with rules for Prometheus.

    Defaults: --target 127.0.0.1:9464, the metrics of `hub up`; --grafana-url http://127.0.0.1:3000; --objective 0.999. Files with
    the same names are overwritten; others in the directory are kept. Metrics of tasks need the
    setting metrics.enabled or otlp.endpoint.

    Example: `hub dashboards write monitoring --target worker-1:9464 --target worker-2:9464`.

    Exit codes: 0 success; 1 a file cannot be written; 2 invalid usage.
    """
    from ..dashboards import Site

    if pushed and target:
        raise ConfigurationError("--pushed cannot be combined with --target: metrics that are pushed and read are counted twice.")
    given: dict[str, Any] = {
        "targets": () if pushed else tuple(target) if target else None,
        "grafana_url": grafana_url,
        "dashboards_path": dashboards_path,
        "objective": objective,
    }
    site = Site(str((folder / "grafana" / "dashboards").resolve()))
    site = site._replace(**{name: value for name, value in given.items() if value is not None})
    typer.echo(f"{_write(folder, site)} files written to {folder}")


def _write(folder: Path, site: "Site") -> int:
    """Write all files; return their number."""
    from ..dashboards import write_files

    try:
        return len(write_files(folder, site))
    except ValueError as error:
        option, _, problem = str(error).partition(": ")
        raise ConfigurationError(f"{_OPTIONS[option]}: {problem}.") from error
    except OSError as error:
        raise HubError(f"The files cannot be written to {folder}: {error.strerror or error}; use another DIR.") from error


_OPTIONS = {
    "targets": "--target",
    "grafana_url": "--grafana-url",
    "dashboards_path": "--dashboards-path",
    "objective": "--objective",
}
