"""docker-compose.yml describes a valid hub: all commands and names exist."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from hub.cli import build

ROOT = Path(__file__).parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = sorted(name for name in SERVICES if name != "kafka")


def command_of(words: list[str]) -> Any:
    """The click command that `words` name, and the words left over, as arguments."""
    command: Any = typer.main.get_command(build())
    while hasattr(command, "commands"):
        command = command.commands[words[0]]
        words = words[1:]
    return command, words


def test_the_services_are_kafka_and_the_processes_of_a_hub() -> None:
    assert {"kafka", "init", "worker", "delivery"} <= SERVICES.keys()
    assert sum(service.get("command", [""])[0] == "engine" for service in SERVICES.values()) == 2


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_has_an_image_and_publishes_to_this_machine_only(name: str) -> None:
    service = SERVICES[name]
    assert ":" in service["image"], "an image without a version changes by itself"
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:"), port


def test_only_kafka_publishes_a_port() -> None:
    assert [name for name, service in SERVICES.items() if service.get("ports")] == ["kafka"]


@pytest.mark.parametrize("name", OURS)
def test_a_command_is_one_of_the_command_line(name: str) -> None:
    command, words = command_of(SERVICES[name]["command"])
    context = command.make_context(command.name, list(words), resilient_parsing=False)
    assert context.params


@pytest.mark.parametrize("name", OURS)
def test_our_processes_are_told_where_kafka_is(name: str) -> None:
    assert SERVICES[name]["environment"]["HUB_BOOTSTRAP"] == "kafka:19092"
    assert "INTERNAL://kafka:19092" in SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_what_a_service_waits_for_exists(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        assert other in SERVICES
        healthy = how["condition"] == "service_healthy"
        assert not healthy or "healthcheck" in SERVICES[other]
    for volume in SERVICES[name].get("volumes", []):
        assert volume.split(":")[0] in COMPOSE["volumes"]


def test_the_worker_of_the_example_has_tasks() -> None:
    module, _, attribute = SERVICES["worker"]["command"][1].partition(":")
    assert getattr(import_module(module), attribute).names


def test_the_image_holds_every_package_and_starts_the_command_line() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = {word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]}
    assert copied >= {"pyproject.toml", "README.md", "hub", "schemas", "subscribers"}
    assert all((ROOT / name).exists() for name in copied)
    assert 'ENTRYPOINT ["hub"]' in lines
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied <= let_in, "the image would be built without what .dockerignore leaves out"
