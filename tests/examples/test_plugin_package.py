"""A plugin in a package of its own: built and installed by pip, found by its entry point, tested by the command, delivered to in
a process of its own. No network is used."""

import json
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest

from hub import Hub, Workflow

PACKAGE = Path(__file__).parent / "plugin_package"
SECONDS = 60
BUILDS = tuple(map(int, version("setuptools").split(".")[:2])) >= (70, 1)

pytestmark = pytest.mark.skipif(not BUILDS, reason="setuptools before 70.1 builds no wheel alone: pip install -e '.[dev]'")


def run(*command: str | Path, cwd: Path) -> str:
    """The output of a command that succeeds."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


class PluginInstallation:
    """An environment of its own in which the package was installed, and a folder with its `hub.toml`.

    The packages of the environment of the tests (the hub, and what builds a package) are visible in it through a path file, as
    those of the system are with `python -m venv --system-site-packages`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "env" / "bin" / "python"
        shutil.copytree(PACKAGE, folder / "package")
        shutil.copy(PACKAGE / "hub.toml", folder)
        run(sys.executable, "-m", "venv", "--without-pip", folder / "env", cwd=folder)
        (packages,) = (folder / "env").glob("lib/python*/site-packages")
        outer = sysconfig.get_path("purelib")
        (packages / "outer.pth").write_text(f"import site; site.addsitedir({outer!r})\n")
        options = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check")
        run(sys.executable, "-m", "pip", "--python", self.python, "install", *options, "./package", cwd=folder)

    @property
    def lines(self) -> list[list[str]]:
        """What the subscriber wrote: id, result, seconds, process id, key."""
        path = self.folder / "orders.log"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def hub(self, *arguments: str) -> str:
        """The output of a `hub` command of the environment."""
        return run(self.python, "-m", "hub", *arguments, cwd=self.folder)

    @contextmanager
    def up(self) -> Iterator[tuple[subprocess.Popen[str], str]]:
        """`hub up` of the environment: its process, and the address of its broker."""
        command = (self.python, "-m", "hub", "up", "--port", "0", "--health-port", "0")
        with subprocess.Popen(command, cwd=self.folder, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                ready = next((line for line in process.stdout if line.startswith("ready ")), "")
                yield process, json.loads(ready.split(" ", 2)[2])["address"]
            finally:
                process.terminate()
                process.wait(SECONDS)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> PluginInstallation:
    """The package, installed once for the tests of this module."""
    return PluginInstallation(tmp_path_factory.mktemp("plugin"))


def test_the_installed_plugin_is_found_by_its_entry_point_and_can_be_tested(installed: PluginInstallation) -> None:
    output = installed.hub("subscribers", "test", "order-watch", "--event", "workflow.completed")
    assert "Delivered" in output
    [line] = installed.lines
    assert line[1] == "completed"
    (installed.folder / "orders.log").unlink()


async def test_delivery_runs_the_plugin_in_a_process_of_its_own(installed: PluginInstallation) -> None:
    with installed.up() as (up, address):
        async with Hub(address) as client:
            order = await client.submit(Workflow("order").step("pack", "nobody-packs"))
            await order.cancel()
        until(lambda: len(installed.lines) == 1, "a line about the workflow")
        [[subject, result, _, pid, _]] = installed.lines
        assert (subject, result) == (order.id, "cancelled")
        above = [parent.pid for parent in psutil.Process(int(pid)).parents()]
        between = above[: above.index(up.pid)]
        assert len(between) == 3, "the fork server of delivery, the process of delivery, the fork server of `hub up`"
