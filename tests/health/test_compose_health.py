"""docker-compose.yml checks the readiness of every process of the hub."""

from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from hub import config
from hub.cli import build

SERVICES: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "docker-compose.yml").read_text())["services"]
PROCESSES = sorted(name for name in SERVICES if name not in ("kafka", "init", "lgtm"))


@pytest.mark.parametrize("name", PROCESSES)
def test_a_process_is_healthy_when_hub_health_says_so(name: str) -> None:
    service = SERVICES[name]
    how, command, *words = service["healthcheck"]["test"]
    assert (how, command) == ("CMD", "hub")
    found = vars(typer.main.get_command(build()))["commands"][words[0]]
    assert found.make_context(words[0], words[1:]).params["health_port"] == config.DEFAULT_HEALTH_PORT
    assert service["environment"]["HUB_HEALTH_PORT"] == config.DEFAULT_HEALTH_PORT


def test_what_ends_by_itself_has_no_health_check() -> None:
    assert SERVICES["init"]["healthcheck"] == {"disable": True}
