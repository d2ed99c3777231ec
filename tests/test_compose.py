"""docker-compose.yml describes a valid hub: all commands and names exist."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from hub.cli import build
from hub.dashboards import COMPOSE as SITE
from hub.dashboards import files
from hub.settings import OtlpSection

ROOT = Path(__file__).parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
FOREIGN = {"kafka", "lgtm"}
OURS = sorted(SERVICES.keys() - FOREIGN)
LGTM = SERVICES["lgtm"]


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


def test_only_kafka_and_grafana_publish_a_port() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if service.get("ports")}
    assert published == {"kafka": ["127.0.0.1:9092:9092"], "lgtm": ["127.0.0.1:3000:3000"]}


def test_an_image_has_one_version() -> None:
    images = {service["image"] for service in SERVICES.values()}
    assert len(images) == len({image.partition(":")[0] for image in images}) == 3
    assert not any(image.endswith(":latest") for image in images)


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
        source = volume.split(":")[0]
        assert (ROOT / source).exists() if source.startswith("./") else source in COMPOSE["volumes"]


def test_every_volume_is_used() -> None:
    mounted = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert COMPOSE["volumes"].keys() <= mounted


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


def mounted(name: str) -> dict[str, str]:
    """The paths in the container by those in the folder of the dashboards and rules."""
    folder = "./hub/dashboards/generated/"
    parts = [volume.split(":") for volume in SERVICES[name]["volumes"]]
    assert all(how == ["ro"] for source, _, *how in parts if source.startswith("./"))
    return {source.removeprefix(folder): target for source, target, *_ in parts if source.startswith(folder)}


def test_grafana_and_prometheus_find_every_file_where_their_configuration_says() -> None:
    places = mounted("lgtm")
    for name in files(SITE):
        assert any(name == source or name.startswith(f"{source}/") for source in places), name
    (provider,) = yaml.safe_load(files(SITE)["grafana/provisioning/dashboards/hub.yaml"])["providers"]
    assert provider["options"]["path"] == SITE.dashboards_path == places["grafana/dashboards"]
    provisioning = Path(places["grafana/provisioning/dashboards/hub.yaml"])
    assert provisioning.parent == Path("/otel-lgtm/grafana/conf/provisioning/dashboards")
    assert provisioning.name != "grafana-dashboards.yaml", "that of the image"
    home = Path(LGTM["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert str(home.parent) == SITE.dashboards_path
    assert f"grafana/dashboards/{home.name}" in files(SITE)
    prometheus = yaml.safe_load(files(SITE)["prometheus/prometheus.yaml"])
    (pattern,) = prometheus["rule_files"]
    rules = Path(places["prometheus/prometheus.yaml"]).parent / Path(pattern).parent
    assert str(rules) == places["prometheus/rules"]


@pytest.mark.parametrize("name", OURS)
def test_our_processes_export_to_the_collector_of_that_service_and_are_not_read_as_well(name: str) -> None:
    endpoint = SERVICES[name]["environment"]["HUB_OTLP_ENDPOINT"]
    assert OtlpSection(endpoint=endpoint).endpoint == "http://lgtm:4318"
    assert "scrape_configs" not in yaml.safe_load(files(SITE)["prometheus/prometheus.yaml"]), "metrics would be counted twice"
