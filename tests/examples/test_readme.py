"""Every example of the README runs as it stands: its files are written to a folder and used the way the README says.

A Python block whose first line is `# <name>.py` is that file; the JSON block is `order.json`.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from schemas import task_id_of_cloudevent
from tests.apache_kafka import prepare, why_unavailable
from tests.brokers import missing
from tests.cli.running import hub_alone

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
READY_SECONDS = 60
SECONDS = 100


def blocks(language: str) -> list[str]:
    """The README's code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def toml_with(text: str) -> str:
    """The README's TOML block that contains a text."""
    (block,) = [one for one in blocks("toml") if text in one]
    return block


def files() -> dict[str, str]:
    """Name and content of the README's Python files."""
    return {re.match(r"# (\w+\.py)\n", block)[1]: block for block in blocks("python")}  # type: ignore[index]  # each has a name


class Example:
    """A folder with the README's files, and a hub for them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "PYTHONUNBUFFERED": "1"}

    @contextmanager
    def process(self, *arguments: str) -> Iterator[str]:
        """A `hub ...` process while it serves; its ready line."""
        name = arguments[0]
        with (self.folder / f"{name}.out").open("wb") as out, (self.folder / f"{name}.err").open("wb") as errors:
            process = subprocess.Popen(
                self._hub(*arguments), cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=errors
            )
        try:
            self.until(lambda: f"ready {name}" in self.text(f"{name}.out") or process.poll() is not None)
            assert process.poll() is None, self.text(f"{name}.err")
            yield next(line for line in self.text(f"{name}.out").splitlines() if line.startswith("ready "))
        finally:
            process.terminate()
            try:
                process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise

    def _hub(self, *arguments: str) -> list[str]:
        """As the installed command: its own folder is on the path, the current one is not."""
        return [str(Path(sys.executable).with_name("hub")), *arguments]

    def text(self, name: str) -> str:
        """What a file holds by now."""
        return (self.folder / name).read_text()

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for it."""
        deadline = time.monotonic() + READY_SECONDS
        while not condition():
            assert time.monotonic() < deadline, "".join(self.text(path.name)[-1500:] for path in self.folder.glob("*.err"))
            time.sleep(0.02)

    def run(self, *command: str) -> str:
        """Run a command to its good end; what it printed."""
        done = subprocess.run(
            list(command),
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def python(self, name: str) -> str:
        """Run one of the files."""
        return self.run(sys.executable, name)

    def hub(self, *arguments: str) -> str:
        """Run a command of the hub."""
        return self.run(*self._hub(*arguments))


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Example]:
    """The README's files beside a broker, an engine and a worker that runs `app.py`."""
    example = Example(tmp_path_factory.mktemp("readme"))
    for name, content in files().items():
        (example.folder / name).write_text(content)
    (example.folder / "order.json").write_text(blocks("json")[0])
    with example.process("broker", "--engine", "--port", "0") as ready:
        example.environment["HUB_BOOTSTRAP"] = json.loads(ready.split(" ", 2)[2])["address"]
        with example.process("worker", "app:tasks"):
            yield example


def test_every_python_block_is_a_file_that_compiles() -> None:
    assert files().keys() == {"app.py", "submit.py", "test_app.py", "publish.py", "alerts.py", "pager.py", "versions.py"}
    for name, content in files().items():
        compile(content, name, "exec")


def test_the_tasks_are_tested_without_a_broker(example: Example) -> None:
    assert "1 passed" in example.run(sys.executable, "-m", "pytest", "-q", "test_app.py")


VERSIONS = """
import asyncio
from hub.testing import HubInMemory
from versions import tasks

async def main():
    async with HubInMemory(tasks) as hub:
        paid = [(await hub.run("charge", {"order": 1, "amount": 9}, version=version))["paid"] for version in (None, "1")]
    print(paid)

asyncio.run(main())
"""


def test_versions_of_a_task_stand_side_by_side(example: Example) -> None:
    assert example.run(sys.executable, "-c", VERSIONS).splitlines()[-1] == "[[9.0], 9.0]"


def test_submit_wait_and_watch(example: Example) -> None:
    printed = example.python("submit.py")
    assert "'order': 1" in printed
    assert "an amount is positive" in printed
    assert "task.retry_scheduled" in printed
    assert printed.splitlines()[-1].endswith("workflow.completed fulfil completed")


def test_a_workflow_of_plain_json(example: Example) -> None:
    assert (
        json.loads(example.hub("task", "create", "--file", "order.json", "--wait", "--timeout", "30", "--json"))["state"]
        == "completed"
    )


def test_a_plain_kafka_client_publishes_a_task(example: Example) -> None:
    example.python("publish.py")
    example.hub("task", "watch", "order-7")
    assert json.loads(example.hub("task", "get", "order-7", "--json"))["result"]["order"] == 7


@pytest.mark.kafka
def test_kafkas_console_producer_publishes_a_task(example: Example) -> None:
    reason = why_unavailable()
    if reason is not None:
        missing("kafka", f"the console producer comes with the Maven jars, and there is {reason}")
    line = re.search(r"^echo '(.*)' > event.json$", README, re.MULTILINE)
    assert line is not None
    (example.folder / "event.json").write_text(line[1] + "\n")
    address = example.environment["HUB_BOOTSTRAP"]
    producer = ["java", "-cp", f"{prepare() / 'libs'}/*", "org.apache.kafka.tools.ConsoleProducer", "--topic", "hub.intake"]
    with (example.folder / "event.json").open("rb") as event:
        subprocess.run([*producer, "--bootstrap-server", address], stdin=event, timeout=SECONDS, check=True)
    task = task_id_of_cloudevent("/shell", "order-8")
    example.hub("task", "watch", task)
    assert json.loads(example.hub("task", "get", task, "--json"))["result"]["order"] == 8
    for line in re.findall(r"^hub (task .*order-8[^#\n]*)", README, re.MULTILINE):
        assert task in example.hub(*line.split()), line


@pytest.mark.parametrize(("reference", "expected"), [("alerts:on_fail", "task.failed"), ("pager:Pager", "an amount is positive")])
def test_a_subscriber_is_handed_what_fails(example: Example, reference: str, expected: str) -> None:
    with example.process("delivery", "--subscriber", reference):
        example.python("submit.py")
        example.until(lambda: expected in example.text("delivery.out"))


def test_subscribers_with_settings_come_from_hub_toml(example: Example) -> None:
    settings = example.folder / "hub.toml"
    settings.write_text(toml_with("pager:Pager"))
    try:
        with example.process("delivery"):
            example.python("submit.py")
            example.until(lambda: "on-call " in example.text("delivery.out"))
    finally:
        settings.unlink()


def test_what_is_kept_is_set_in_hub_toml(example: Example, tmp_path: Path) -> None:
    (tmp_path / "hub.toml").write_text(toml_with("[topics]"))
    here = Example(tmp_path)
    shown = {row["setting"]: row for row in json.loads(here.hub("config", "--json"))}
    for line in re.findall(r"^(\w+) = ([\d_]+)", toml_with("[topics]"), re.MULTILINE):
        row = next(row for name, row in shown.items() if name.endswith(f".{line[0]}"))
        assert float(row["value"]) == int(line[1]), row


def test_what_happens_is_seen_with_the_settings_of_hub_toml(tmp_path: Path) -> None:
    (tmp_path / "hub.toml").write_text(toml_with("[otlp]"))
    shown = {row["setting"]: row for row in json.loads(Example(tmp_path).hub("config", "--json"))}
    assert shown["otlp.endpoint"]["value"] == "http://127.0.0.1:4318"
    assert shown["metrics.enabled"]["value"] is True
    (slack,) = shown["subscribers"]["value"]
    assert slack["use"] == "slack"
    assert "hooks.slack.com" not in json.dumps(slack), "the URL is a secret"


def is_accepted(*arguments: str) -> bool:
    """Whether there is such a command with such options. With --help after them, only their names and values are read."""
    return hub_alone(*arguments, "--help").returncode == 0


@pytest.mark.parametrize("line", sorted(set(re.findall(r"^hub [^#\n]*[^#\s]", README, re.MULTILINE))))
def test_every_command_line_is_accepted(line: str) -> None:
    assert is_accepted(*line.split()[1:])


@pytest.mark.parametrize("line", ["hub task nothing", "hub task list --nothing", "hub nothing"])
def test_a_command_line_with_another_name_is_not_accepted(line: str) -> None:
    assert not is_accepted(*line.split()[1:])


def test_every_command_of_the_table_exists() -> None:
    rows = re.findall(r"^\| (`hub .*?) \|", README, re.MULTILINE)
    assert len(rows) > 8
    for row in rows:
        first, *others = re.findall(r"`([^`]+)`", row)
        words = first.split()[1:]
        for last in [words[-1], *others]:
            assert is_accepted(*words[:-1], last), row
