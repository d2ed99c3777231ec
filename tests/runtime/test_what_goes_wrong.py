"""Errors at the start of a hub: a sentence with the remedy, an exit code, no traceback, no process left behind."""

import errno
import io
import os
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import run

import pytest

from hub.kafka import Cluster
from hub.runtime import read_run_file
from hub.runtime.errors import OutputFailed
from hub.runtime.process import print_line
from hub.runtime.status import gather_status
from tests.ports import free_port

from .conftest import DEADLINE_SECONDS, HUB, HubUps, Up, environment, until


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


class FullDisk(io.StringIO):
    """A stream into a file on a disk without space."""

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_an_output_on_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", FullDisk())
        with pytest.raises(OutputFailed, match=r"stdout cannot be written \(no space left on device\)"):
            print_line("ready")
        assert sys.stdout.name == os.devnull, "what the stream still holds is not written again at exit"
        sys.stdout.close()


def test_two_hubs_on_two_data_directories_live_side_by_side(hub_up: HubUps) -> None:
    first, second = hub_up("--no-subscribers", data="one"), hub_up("--no-subscribers", data="two")
    assert first.ready().address != second.ready().address
    assert (first.end(), second.end()) == (0, 0)


def test_a_broker_that_is_not_there(tmp_path: Path, hub_up: HubUps) -> None:
    address = f"127.0.0.1:{free_port()}"
    commands = (["worker", "app:tasks", "--wait", "0.2"], ["engine", "--wait", "0.2"], ["status"], ["up"], ["init"])
    with ThreadPoolExecutor(len(commands)) as side_by_side:
        answers = list(side_by_side.map(lambda command: hub(tmp_path, *command, "--bootstrap", address), commands))
    for command, (code, said) in zip(commands, answers, strict=True):
        assert code == 3, command
        assert f"No Kafka broker responds at {address}" in said
        assert "hub up" in said


def test_a_worker_module_that_does_not_import(hub_up: HubUps, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
    for module, why in (("absent:tasks", "no module 'absent' was found"), ("broken:tasks", "nothing_of_this_name")):
        up = hub_up("--worker", module, "--no-subscribers", data=module[:3])
        assert up.process.wait(DEADLINE_SECONDS) == 2
        assert why in up.errors()
        assert up.errors().count("hub: ") == 1
        assert "Traceback" not in up.errors()


def test_worker_modules_are_imported_before_anything_starts_and_a_fault_is_said_once(hub_up: HubUps, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("print('loud')\n\ndef rate() -> float:\n    return 1 / 0\n\nrate()\n")
    up = hub_up("--worker", "app:tasks", "--worker", "broken:tasks", "--workers", "3", "--no-subscribers")
    assert up.process.wait(DEADLINE_SECONDS) == 2
    assert up.errors() == (
        "hub: The worker module 'broken' cannot be imported: ZeroDivisionError: division by zero (broken.py, line 4).\n"
    )
    assert not (tmp_path / "data").exists()


def test_a_worker_module_that_ends_its_process(hub_up: HubUps, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    up = hub_up("--worker", "broken:tasks", "--no-subscribers")
    assert up.process.wait(DEADLINE_SECONDS) == 2
    assert up.errors() == "hub: The import of broken:tasks ended its process (SIGKILL).\n"


async def test_a_subscriber_whose_import_raises_is_failing_until_it_is_mended(hub_up: HubUps, tmp_path: Path) -> None:
    plugin = tmp_path / "broken.py"
    plugin.write_text("rate = 1 / 0\n")
    up = hub_up("--subscriber", "broken:Pager", "--subscriber", "console").ready()
    why = "the import of 'broken:Pager' raised ZeroDivisionError: division by zero (broken.py, line 1)"
    (about,) = [one for one in up.about["processes"] if one["role"] == "delivery"]
    assert about["failing"] == {"broken-Pager": why}
    assert await delivery_state(up) == ("failing", {"broken-Pager": why})
    assert up.errors().count("ZeroDivisionError") == 1
    assert "Traceback" not in up.errors()
    plugin.write_text(
        "from subscribers import Subscriber, on\n\nclass Pager(Subscriber):\n    @on('*')\n    async def page(self, event): ...\n"
    )
    until(lambda: not up.children()["delivery"]["failing"])
    assert await delivery_state(up) == ("serving", {})


async def delivery_state(up: Up) -> tuple[str, dict[str, str]]:
    """The state of the delivery process in `hub status`, and why subscribers fail."""
    shown = await gather_status(Cluster.of(up.address), read_run_file(up.folder / "data"))
    (process,) = [one for one in shown["processes"] if one["role"] == "delivery"]
    return process["state"], process["about"].get("failing", {})


def test_a_registry_that_is_not_in_its_module(hub_up: HubUps, tmp_path: Path) -> None:
    code, said = hub(tmp_path, "worker", "app:task")
    assert (code, "Did you mean app:tasks?" in said) == (2, True)


def test_a_flush_policy_and_a_log_level_that_are_not_there(tmp_path: Path) -> None:
    assert hub(tmp_path, "broker", "--port", "0", "--flush", "sometimes")[0] == 2
    code, said = hub(tmp_path, "broker", "--port", "0", "--log-level", "loud")
    assert (code, said) == (2, "hub: --log-level: 'loud' is not a log level. It must be one of debug, info, warning, error.\n")


@pytest.mark.parametrize("command", [("up",), ("task", "list"), ("config",)])
def test_a_log_level_of_the_environment_that_is_not_there(tmp_path: Path, command: tuple[str, ...]) -> None:
    done = run(
        [*HUB, *command], cwd=tmp_path, env={**environment(), "HUB_LOG_LEVEL": "loud"}, capture_output=True, text=True,
        timeout=DEADLINE_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("hub: The variable HUB_LOG_LEVEL: 'loud' is not a log level. It must be one of debug, info")


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
