"""Every bench gives its keys. Small numbers: nothing here says how fast anything is."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cli.running import hub, served

AGAINST_A_HUB = {"bench", "tasks", "tasks_per_second", "seconds", "rounds", "spread", "fsync", "verified", "cpu_us_per_task"}
CONDITIONS = {"cores", "load_before", "platform", "versions"}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A hub without workers: the bench brings its own."""
    with served() as bootstrap:
        yield bootstrap


def figures(name: str, *arguments: str) -> dict[str, Any]:
    """The JSON of a small bench."""
    done = hub("bench", name, "--json", "--rounds", "2", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found.keys() >= CONDITIONS
    assert (found["bench"], found["rounds"]) == (name, 2)
    return found


def test_a_hub_of_its_own_is_measured_and_checked() -> None:
    found = figures("throughput", "--tasks", "50", "--slots", "20")
    assert found.keys() >= AGAINST_A_HUB
    assert (found["tasks"], found["fsync"], found["verified"]) == (50, True, True)
    assert found["checker"] == {**found["checker"], "ok": True, "tasks": 150, "findings": []}
    assert found["cpu_us_per_task"].keys() == {"client", "broker+engine", "worker", "delivery"}


@pytest.mark.parametrize(("name", "counted"), [("throughput", 40), ("latency", 40), ("fanout", 42), ("chain", 40)])
def test_a_running_hub_is_measured_with_a_worker_for_the_bench(address: str, name: str, counted: int) -> None:
    found = figures(name, "--tasks", "40", "--bootstrap", address)
    assert found.keys() >= AGAINST_A_HUB
    assert (found["tasks"], found["verified"], found["checker"], found["fsync"]) == (counted, True, None, None)
    assert found["cpu_us_per_task"].keys() == {"client", "worker"}
    assert found["partitions"] == 1
    assert ("p50_ms" in found) == ("p99_ms" in found) == (name == "latency")


def test_the_broker_alone_is_measured_and_leaves_nothing_behind(address: str) -> None:
    found = figures("broker", "--tasks", "200", "--bootstrap", address)
    assert found.keys() >= {
        "records_per_second_produced",
        "records_per_second_consumed",
        "transactions_per_second",
        "p50_ms",
        "p99_ms",
    }
    assert hub("verify", "--bootstrap", address).returncode == 0


@pytest.mark.parametrize("flag", ["--encode", "--no-encode"])
def test_the_engine_alone_is_measured(flag: str) -> None:
    found = figures("engine", "--tasks", "600", flag)
    assert found["events_per_task"] == 5
    assert found["us_per_task"] > 0


def test_people_get_one_figure_a_line() -> None:
    lines = hub("bench", "engine", "--tasks", "500", "--rounds", "1").stdout.splitlines()
    assert lines[0].split() == ["bench", "engine"]
    assert "{" not in "".join(lines)
