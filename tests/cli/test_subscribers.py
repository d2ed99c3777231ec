"""`hub subscribers` as an operator uses it, against a running hub and a delivery process."""

import asyncio
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import structlog
from typer.testing import CliRunner

from hub.cli import build
from hub.errors import HubError
from tests.cli.running import SECONDS, served
from tests.delivery.event_log import completed, progress, write

ROOT = Path(__file__).parents[2]
PLUGIN = """
from pathlib import Path
from pydantic import SecretStr
from subscribers import Subscriber, SubscriberSettings, on

class PagerSettings(SubscriberSettings):
    routing_key: SecretStr
    seen: str = "seen.txt"

class Pager(Subscriber[PagerSettings]):
    name = "pager"

    @on("task.completed", "task.progressed")
    async def page(self, event, meta):
        if Path("broken").exists():
            raise ValueError("the pager does not respond")
        with open(self.settings.seen, "a") as out:
            out.write(f"{event.type} {event.subject} {event.sequence} {meta.replay}\\n")
"""
CONFIG = """
[[subscribers]]
use = "pager_for_tests:Pager"
id = "pd"
start_from = "earliest"
settings = { routing_key = "hush-hush" }
delivery = { retry = { initial = 0.01, timeout = 0 }, concurrency = 4 }
filter = { not = { exact = { namespace = "sandbox" } } }

[[subscribers]]
use = "pager_for_tests:Pager"
id = "quiet"
settings = { routing_key = "also-hushed" }
delivery = { replay = "skip" }
"""


class Done(NamedTuple):
    """The result of a command."""

    returncode: int
    stdout: str
    stderr: str


class Desk:
    """A folder with `hub.toml` and a plugin, in which commands run."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder, self.address = folder, address

    def hub(self, *arguments: str, stdin: str = "") -> Done:
        """Run `hub subscribers ...` in this process."""
        done = CliRunner().invoke(build(), ["subscribers", *arguments], input=stdin)
        if isinstance(done.exception, HubError):  # `main` prints it
            return Done(done.exception.exit_code, done.stdout, f"hub: {done.exception}\n")
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Done(done.exit_code, done.stdout, done.stderr)

    def json(self, *arguments: str) -> Any:
        """What the command prints with --json."""
        done = self.hub(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @contextmanager
    def delivery(self) -> Iterator[None]:
        """A process of delivery that is ready."""
        command = [sys.executable, "-m", "hub", "delivery"]
        path = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(command, cwd=self.folder, env=path, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                assert "ready" in process.stdout.readline()
                yield
            finally:
                process.terminate()
                process.wait(SECONDS)

    @property
    def seen(self) -> list[str]:
        """What the plugin was given."""
        file = self.folder / "seen.txt"
        return file.read_text().splitlines() if file.exists() else []

    def write(self, *records: Any) -> None:
        """Append events to the log."""
        asyncio.run(write(self.address, "hub.events", records))

    def until_seen(self, count: int) -> None:
        """Wait until the plugin was given so many events."""
        self.until(lambda: len(self.seen) >= count)

    def until(self, condition: Any) -> None:
        """Wait until a condition holds."""
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, self.seen
            time.sleep(0.02)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A hub without workers."""
    with served() as bootstrap:
        yield bootstrap


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with two configured subscribers."""
    path = tmp_path_factory.mktemp("desk")
    (path / "pager_for_tests.py").write_text(PLUGIN)
    (path / "hub.toml").write_text(CONFIG)
    yield path
    sys.modules.pop("pager_for_tests", None)
    sys.path[:] = [entry for entry in sys.path if entry != str(path)]


@pytest.fixture
def desk(folder: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """Commands in this folder; the logging of the test process is restored at the end."""
    for name in [name for name in os.environ if name.startswith("HUB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HUB_BOOTSTRAP", address)
    monkeypatch.chdir(folder)
    for name in ("seen.txt", "broken"):
        (folder / name).unlink(missing_ok=True)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield Desk(folder, address)
    finally:
        root.handlers, root.level = handlers, level
        structlog.reset_defaults()


def test_a_trial_says_which_rule_stops_the_event_and_delivers_one_that_passes(desk: Desk) -> None:
    stopped = desk.hub("test", "pd", "--event", "task.ready")
    assert stopped.returncode == 1
    assert "handler  stops" in stopped.stdout
    assert desk.seen == []

    dry = desk.hub("test", "pd", "--event", "task.completed", "--dry-run")
    assert dry.returncode == 0
    assert "filter   passes" in dry.stdout
    assert desk.seen == []

    assert desk.hub("test", "pd").returncode == 0
    assert len(desk.seen) == 1

    (desk.folder / "broken").touch()
    failed = desk.hub("test", "pd", "--event", "task.completed")
    assert failed.returncode == 1
    assert failed.stderr == "Not delivered: ValueError: the pager does not respond\n"


def test_a_trial_takes_an_event_as_it_is_printed(desk: Desk) -> None:
    from hub.testing import make_event

    event = make_event("task.completed", envelope={"subject": "order-9", "sequence": 4, "to_state": "completed"}).as_dict()
    assert desk.hub("test", "pd", "--file", "-", stdin=json.dumps(event)).returncode == 0
    assert desk.seen == ["task.completed order-9 4 False"]
    sandbox = desk.hub("test", "pd", "--file", "-", stdin=json.dumps({**event, "namespace": "sandbox"}))
    assert sandbox.returncode == 1
    assert "filter   stops" in sandbox.stdout
    for wrong, message in (
        ("{", "--file: "),
        (json.dumps({**event, "type": "task.eaten"}), "'task.eaten' is not an event type"),
        (json.dumps({**event, "time": "noon"}), "ce_time"),
        (json.dumps({**event, "sequence": "1"}), "sequence"),
    ):
        refused = desk.hub("test", "pd", "--file", "-", stdin=wrong)
        assert refused.returncode == 2, wrong
        assert message in refused.stderr


def test_unknown_ids_types_and_times_are_named(desk: Desk) -> None:
    for arguments, message in (
        (("test", "nobody"), "configured: pd, quiet"),
        (("pause", "nobody"), "There is no subscriber nobody; known: pd, quiet"),
        (("dlq", "list", "nobody"), "There is no subscriber nobody"),
        (("test", "pd", "--event", "task.don"), "unknown event type"),
        (("replay", "pd", "--from", "yesterday"), "RFC 3339"),
        (("replay", "pd", "--from", "1h", "--to", "2h"), "must be after --from"),
        (("replay", "quiet"), 'replay = "skip"'),
        (("dlq", "drop", "pd"), "--all"),
    ):
        refused = desk.hub(*arguments)
        assert refused.returncode == 2, (arguments, refused.stderr)
        assert message in refused.stderr.replace("\n", " "), arguments


def test_a_subscriber_is_shown_paused_reset_replayed_and_its_dead_letters_are_handled(desk: Desk) -> None:
    desk.write(*(progress(f"t{number}", 1) for number in range(6)))
    with desk.delivery():
        desk.until_seen(6)
        shown = desk.hub("show", "pd").stdout
        assert '"routing_key":"**********"' in shown
        assert "hush-hush" not in shown
        assert "task.completed   page" in shown
        refused = desk.hub("reset", "pd", "--to", "earliest", "--yes")
        assert refused.returncode == 1
        assert "hub subscribers pause pd" in refused.stderr
        assert desk.hub("pause", "pd", "--reason", "drill").stdout == "pd is paused.\n"
        assert desk.hub("reset", "pd", "--to", "earliest", stdin="n\n").returncode == 1
        reset = desk.hub("reset", "pd", "--to", "earliest", "--yes")
        assert reset.returncode == 0, reset.stderr
        assert "are delivered again" in reset.stdout
        listed = {one["id"]: one for one in desk.json("list")["subscribers"]}
        assert (listed["pd"]["state"], listed["pd"]["pause_reason"], listed["quiet"]["state"]) == ("paused", "drill", "connected")
        assert listed["pd"]["lag"] >= 6
        desk.hub("resume", "pd")
        desk.until_seen(12)
        (desk.folder / "broken").touch()
        desk.write(completed("t0", 2), completed("t1", 2))
        desk.until(lambda: desk.json("show", "pd")["dead_letters"] == 2)
        (desk.folder / "broken").unlink()
    handle_dead_letters(desk)
    replay(desk)


def handle_dead_letters(desk: Desk) -> None:
    table = desk.hub("dlq", "list", "pd", "--type", "task.*").stdout
    assert table.count("ValueError: the pager does not respond") == 2
    letters = desk.json("dlq", "list", "pd")["dead_letters"]
    place = ("--partition", str(letters[0]["partition"]), "--offset", str(letters[0]["offset"]))
    shown = desk.hub("dlq", "show", "pd", *place).stdout
    assert "Traceback" in shown
    assert '"entity":"task/t0"' in shown
    retried = desk.hub("dlq", "retry", "pd", *place)
    assert (retried.returncode, retried.stdout) == (0, "1 delivered, 0 not delivered.\n"), retried.stderr
    assert desk.seen[-1] == "task.completed t0 2 False"
    assert desk.hub("dlq", "drop", "pd", "--all").stdout == "1 dropped.\n"
    assert desk.json("dlq", "list", "pd") == {"dead_letters": []}
    assert desk.hub("dlq", "retry", "pd", "--all").returncode == 1


def replay(desk: Desk) -> None:
    dry = desk.json("replay", "pd", "--type", "task.comp*", "--dry-run")
    assert (dry["by_type"], dry["matching"]) == ({"task.completed": 2}, 2)
    before = len(desk.seen)
    summary = desk.json("replay", "pd", "--from", "1h", "--task", "t1")
    assert (summary["matching"], summary["delivered"], summary["failed"]) == (2, 2, 0)
    assert desk.seen[before:] == ["task.progressed t1 1 True", "task.completed t1 2 True"]
    (desk.folder / "broken").touch()
    failed = desk.hub("replay", "pd", "--task", "t1")
    assert failed.returncode == 1
    assert "2 dead-lettered" in failed.stdout
