"""Output of benchmarks: JSON, or one figure per line."""

from typing import Any

import typer

from .render import print_fields, print_json
from .shell import EXIT_NOT_COMPLETED


def tell(figures: dict[str, Any], *, as_json: bool) -> None:
    """Print the figures. Raises typer.Exit with code 1 if they say that not every task completed exactly once, or that the
    checker has findings (`verified` is false)."""
    if as_json:
        print_json(figures)
    else:
        print_fields(_flat(figures))
    if figures.get("verified") is False:
        raise typer.Exit(EXIT_NOT_COMPLETED)


def _flat(figures: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    lines: list[tuple[str, Any]] = []
    for name, value in figures.items():
        if isinstance(value, dict):
            lines += _flat(value, f"{prefix}{name}.")
        else:
            lines.append((prefix + name, value))
    return lines
