"""How `hub up` starts its processes: forked from its fork server, or with interpreters of their own."""

import os
from functools import partial
from pathlib import Path

import psutil
import pytest

from hub.cli.defaults import configured_options
from hub.cli.processes import worker
from hub.runtime import CommandLine
from hub.runtime.launching import MODULES
from hub.runtime.supervisor import DRAIN_ORDER
from hub.settings import Settings

from .conftest import HubUps, lives, run_task, until

linux = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="processes are forked on Linux")

NOTES_ITS_PROCESS = """
import atexit, os
from pathlib import Path
Path("imported").mkdir(exist_ok=True)
Path("imported", str(os.getpid())).touch()
atexit.register(lambda: Path("imported", str(os.getpid())).unlink())
"""


@linux
async def test_processes_are_forked_and_code_of_users_is_imported_only_where_it_runs(hub_up: HubUps) -> None:
    app = hub_up.folder / "app.py"
    app.write_text(app.read_text() + NOTES_ITS_PROCESS)
    up = hub_up("--worker", "app:tasks").ready()
    processes = {name: psutil.Process(child["pid"]) for name, child in up.children().items()}
    [server] = psutil.Process(up.process.pid).children()
    assert {process.ppid() for process in processes.values()} == {server.pid}
    assert processes["worker"].cmdline()[:3] == ["hub", "worker", "app:tasks"]
    assert processes["worker"].name() == "hub worker"
    assert len({os.getsid(process.pid) for process in processes.values()}) == len(processes)
    imported = {int(path.name) for path in (hub_up.folder / "imported").iterdir()}
    assert processes["worker"].pid in imported
    assert not imported & {up.process.pid, server.pid, processes["broker+engine"].pid, processes["delivery"].pid}
    assert up.end() == 0
    assert not (hub_up.folder / "imported" / str(processes["worker"].pid)).exists(), "functions of atexit run"


@linux
async def test_without_its_fork_server_the_hub_continues_with_processes_that_have_their_own_interpreters(hub_up: HubUps) -> None:
    up = hub_up("--worker", "app:tasks").ready()
    before = {name: child["pid"] for name, child in up.children().items()}
    [server] = psutil.Process(up.process.pid).children()
    server.kill()
    for name, former in before.items():
        child = until(partial(up.restarted, name, former))
        assert psutil.Process(child["pid"]).ppid() == up.process.pid
    assert not any(lives(pid) for pid in before.values())
    assert await run_task(up.address, "add", {"a": 3}) == 5
    assert "fork_server_ended" in up.errors()
    assert up.end() == 0


def test_a_command_line_has_the_options_of_a_command() -> None:
    options = {"data": Path("d"), "engine": True, "isolate": False, "partitions": None, "subscriber": ["a", "b"], "slots": 3}
    line = ["worker", "app:tasks", "--data", "d", "--engine", "--subscriber", "a", "--subscriber", "b", "--slots", "3"]
    assert CommandLine("worker", ("app:tasks",), options).arguments() == line
    assert CommandLine("worker").with_options(log_level="info").arguments() == ["worker", "--log-level", "info"]


def test_options_that_a_forked_process_is_not_given_are_those_of_the_settings() -> None:
    settings = Settings.model_validate({"pool": "images", "queue": ["a", "b"], "port": 9093})
    assert configured_options("worker", worker.__annotations__, settings) == {"pool": "images", "queue": ["a", "b"]}


def test_the_modules_of_each_role_are_known() -> None:
    assert set(MODULES) == set(DRAIN_ORDER)
