"""Errors at the start of a hub: a sentence with the remedy, an exit code, no traceback, no process left behind."""

import socket
from pathlib import Path
from subprocess import run

import pytest

from tests.ports import free_port

from .conftest import DEADLINE_SECONDS, HUB, HubUps, environment


def hub(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run a command to its end; its exit code and what it said on stderr."""
    done = run(
        [*HUB, *arguments], cwd=folder, env=environment(), capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def test_a_port_that_is_taken(hub_up: HubUps, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        up = hub_up("--no-subscribers", port=port)
        assert up.process.wait(DEADLINE_SECONDS) == 4
        assert f"cannot listen on 127.0.0.1:{port} (address already in use)" in up.errors()
        assert "--port" in up.errors()
        assert "Traceback" not in up.errors()


def test_a_data_directory_in_use(hub_up: HubUps) -> None:
    first = hub_up("--no-subscribers").ready()
    before = first.children()
    second = hub_up("--no-subscribers")
    assert second.process.wait(DEADLINE_SECONDS) == 4
    assert "The data directory data is in use by another broker" in second.errors()
    assert "--data" in second.errors()
    assert first.children() == before, "the second one leaves the first one's file alone"
    assert first.end() == 0


def test_two_hubs_on_two_data_directories_live_side_by_side(hub_up: HubUps) -> None:
    first, second = hub_up("--no-subscribers", data="one"), hub_up("--no-subscribers", data="two")
    assert first.ready().address != second.ready().address
    assert (first.end(), second.end()) == (0, 0)


def test_a_broker_that_is_not_there(tmp_path: Path, hub_up: HubUps) -> None:
    address = f"127.0.0.1:{free_port()}"
    for command in (["worker", "app:tasks", "--wait", "0.2"], ["engine", "--wait", "0.2"], ["status"], ["up"], ["init"]):
        code, said = hub(tmp_path, *command, "--bootstrap", address)
        assert code == 3, command
        assert f"No Kafka broker responds at {address}" in said
        assert "hub up" in said


def test_a_worker_module_that_does_not_import(hub_up: HubUps, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
    for module, why in (("absent:tasks", "there is no module 'absent'"), ("broken:tasks", "nothing_of_this_name")):
        up = hub_up("--worker", module, "--no-subscribers", data=module[:3])
        assert up.process.wait(DEADLINE_SECONDS) == 2
        assert why in up.errors()
        assert up.errors().count("hub: ") == 1
        assert "Traceback" not in up.errors()


def test_a_registry_that_is_not_in_its_module(hub_up: HubUps, tmp_path: Path) -> None:
    code, said = hub(tmp_path, "worker", "app:task")
    assert (code, "Did you mean app:tasks?" in said) == (2, True)


def test_a_flush_policy_and_a_log_level_that_are_not_there(tmp_path: Path) -> None:
    assert hub(tmp_path, "broker", "--port", "0", "--flush", "sometimes")[0] == 2
    assert hub(tmp_path, "broker", "--port", "0", "--log-level", "loud")[0] == 2


def test_a_subscriber_that_is_not_there(hub_up: HubUps) -> None:
    up = hub_up("--subscriber", "consol")
    assert up.process.wait(DEADLINE_SECONDS) == 2
    assert "consol" in up.errors()
    assert "Traceback" not in up.errors()


@pytest.mark.parametrize("command", ["up", "broker"])
@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_wildcard_host_without_an_advertised_one(tmp_path: Path, command: str, host: str) -> None:
    code, said = hub(tmp_path, command, "--port", "0", "--host", host)
    assert code == 2
    assert said.startswith(f"hub: --host {host} listens on every address of this machine")
    assert "--advertised-host" in said
    assert not (tmp_path / "hub-data").exists()
