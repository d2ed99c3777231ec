"""`hub stats` and `hub alerts` against a running hub."""

import asyncio
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner

from hub.analytics import AlertId, records_of
from hub.analytics.actions import observed
from hub.cli import build
from hub.client import Hub
from hub.errors import ConfigurationError
from hub.kafka import Cluster, Outgoing, Sender
from schemas.events import AlertFired
from tests.cli.running import served

RULES = """
[[rules]]
name = "many"
kind = "threshold"
match = { type = "task.created" }
for_each = ["task"]
window = "1m"
at_least = 3
"""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A hub without workers, on which six tasks were created, three of them cancelled, and an alert fired."""
    with served(partitions=2) as address:
        asyncio.run(_fill(Cluster.of(address)))
        yield address


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Restores what commands configure."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers, root.level = handlers, level
        structlog.reset_defaults()


async def _fill(cluster: Cluster) -> None:
    async with Hub(cluster) as hub:
        for number in range(3):
            await hub.submit("charge", id=f"charge-{number}")
            await hub.submit("mail", id=f"mail-{number}")
        for number in range(3):
            await hub.cancel_confirmed(f"mail-{number}", root=None, reason="", timeout_seconds=10)
    data = AlertFired(rule="fails", key="charge", summary="too many", value=5.0, tasks=["charge-0"], events=["0/1/0"])
    sender = Sender(cluster)
    await sender.start()
    for place, records in records_of([observed(AlertId("fails", "charge"), data, "a1")], 2, 0).items():
        for one in records:
            headers = [(name, value or b"") for name, value in one.headers]
            await sender.send(Outgoing(place.topic, place.partition, one.key or b"", one.value or b"", headers))
    await sender.stop()


def hub(address: str, *arguments: str, code: int = 0) -> str:
    """What a command prints."""
    result = CliRunner().invoke(build(), [*arguments, "--bootstrap", address])
    if isinstance(result.exception, ConfigurationError):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def eventually(address: str, text: str, *arguments: str) -> str:
    """The output, once it has the text."""
    deadline = time.monotonic() + 30
    while text not in (output := hub(address, *arguments)):
        assert time.monotonic() < deadline, output
        time.sleep(0.1)
    return output


def test_stats_counts_without_another_process(address: str) -> None:
    report: dict[str, Any] = json.loads(hub(address, "stats", "--json"))
    counts = {one["task"]: (one["created"], one["results"]) for one in report["tasks"]}
    assert counts == {"charge": (3, {}), "mail": (3, {"cancellation": 3})}
    assert report["seconds"] == 300
    assert [one["task"] for one in json.loads(hub(address, "stats", "--task", "ch*", "--json"))["tasks"]] == ["charge"]
    assert not json.loads(hub(address, "stats", "--queue", "slow", "--json"))["tasks"]
    table = hub(address, "stats", "--window", "10m")
    assert "events in 10 min 0 s" in table
    assert "mail    default  3        3" in table


def test_stats_counts_only_so_many_events(address: str) -> None:
    report = json.loads(hub(address, "stats", "--events-max", "4", "--json").partition("\n{")[2].join(("{", "")))
    assert report["events"] <= 4
    assert report["seconds"] < 300


def test_stats_names_a_bad_window(address: str) -> None:
    assert "'soon' is not a duration" in hub(address, "stats", "--window", "soon", code=2)


def test_alerts_are_listed_shown_and_silenced(address: str) -> None:
    assert "too many" in eventually(address, "fails/charge", "alerts", "list")
    (alert,) = json.loads(hub(address, "alerts", "list", "--json"))["alerts"]
    assert (alert["state"], alert["value"], alert["tasks"]) == ("firing", 5.0, ["charge-0"])
    assert json.loads(hub(address, "alerts", "show", "fails/charge", "--json")) == alert
    assert "charge-0" in hub(address, "alerts", "show", "fails/charge")
    assert "There is no alert fails/mail" in hub(address, "alerts", "show", "fails/mail", code=1)
    assert "Alerts fails are silenced until" in hub(address, "alerts", "silence", "fails", "--for", "1h", "--by", "me")
    assert "silenced  error" in eventually(address, "silenced", "alerts", "list")
    (silence,) = json.loads(hub(address, "alerts", "list", "--json"))["silences"]
    assert (silence["rule"], silence["key"], silence["by"]) == ("fails", "*", "me")
    hub(address, "alerts", "silence", "fails", "--for", "0s")
    eventually(address, "firing", "alerts", "list")


def test_rules_are_tried_against_the_past(address: str, tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(RULES)
    output = hub(address, "alerts", "test", str(file), "--from", "1h")
    assert "many would have fired 2 times." in output
    found = json.loads(hub(address, "alerts", "test", str(file), "--from", "1h", "--json"))
    assert (found["counts"], {one["key"] for one in found["firings"]}) == ({"many": 2}, {"charge", "mail"})
    assert "many would have fired 0 times." in hub(address, "alerts", "test", str(file), "--from", "2h", "--to", "1h")
    assert "must be before --to" in hub(address, "alerts", "test", str(file), "--from", "1h", "--to", "2h", code=2)


def test_faults_of_a_file_of_rules_are_reported(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(RULES.replace("at_least", "at_lest"))
    with pytest.raises(ConfigurationError, match=r"rules\.toml: rules\[0\] \(many\): at_lest: there is no such field"):
        hub(address, "alerts", "test", str(file))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=r"hub\.toml has no \[\[rules\]\]"):
        hub(address, "alerts", "test")
