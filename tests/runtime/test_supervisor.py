"""`hub up` starts, drains, restarts processes that die, and leaves no process behind."""

import asyncio
import functools
import os
import signal
from pathlib import Path

from hub.broker.format import FORMAT as DIRECTORY_FORMAT
from tests.brokers import broker_in_thread

from .conftest import HubUps, lives, run_task, until


async def test_it_comes_up_runs_a_task_and_drains_with_0(hub_up: HubUps) -> None:
    up = hub_up("--worker", "app:tasks").ready()
    assert [child["role"] for child in up.about["processes"]] == ["broker+engine", "worker", "delivery"]
    assert up.about["health"] is None
    assert all("health" not in child for child in up.about["processes"]), "without a port, none listens for pages"
    assert await run_task(up.address, "add", {"a": 3}) == 5
    pids = [child["pid"] for child in up.about["processes"]]
    assert up.end() == 0
    assert not any(lives(pid) for pid in pids)
    assert not (up.folder / "data" / "run.json").exists()
    assert "Traceback" not in up.errors()


async def test_a_hub_comes_back_on_the_data_that_it_left(hub_up: HubUps) -> None:
    assert hub_up("--no-subscribers", "--partitions", "2").ready().end() == 0
    assert (hub_up.folder / "data" / "format").read_text() == f"{DIRECTORY_FORMAT}\n"
    up = hub_up("--no-subscribers", "--worker", "app:tasks").ready()
    assert up.about["processes"][0]["partitions"] == [0, 1]
    assert await run_task(up.address, "add", {"a": 1}) == 3
    assert up.end(signal.SIGINT) == 0


async def test_what_is_killed_is_started_again(hub_up: HubUps) -> None:
    up = hub_up("--worker", "app:tasks").ready()
    for name in ("delivery", "worker", "broker+engine"):
        former = up.children()[name]["pid"]
        os.kill(former, signal.SIGKILL)
        child = until(functools.partial(up.restarted, name, former))
        assert child["restarts"] == 1
        assert await run_task(up.address, "add", {"a": 3}) == 5
    assert up.end() == 0


async def test_an_engine_apart_is_started_again(hub_up: HubUps) -> None:
    up = hub_up("--worker", "app:tasks", "--separate-engine", "--no-subscribers").ready()
    assert [child["role"] for child in up.about["processes"]] == ["broker", "engine", "worker"]
    former = up.children()["engine"]["pid"]
    os.kill(former, signal.SIGKILL)
    until(lambda: up.restarted("engine", former))
    assert await run_task(up.address, "add", {"a": 3}) == 5
    assert up.end() == 0


async def test_tasks_of_a_killed_worker_run_again_long_before_their_lease_ends(hub_up: HubUps, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    up = hub_up("--worker", "app:tasks", "--no-subscribers", "--lease-seconds", "300").ready()
    work = asyncio.get_running_loop().create_task(run_task(up.address, "hold", {"marks": str(marks)}))
    await asyncio.to_thread(until, lambda: list(marks.iterdir()))
    os.kill(up.children()["worker"]["pid"], signal.SIGKILL)
    assert await work >= 1
    assert len(list(marks.iterdir())) == 2
    assert up.end() == 0


def test_a_second_signal_ends_everything_at_once(hub_up: HubUps) -> None:
    up = hub_up("--worker", "app:tasks", "--no-subscribers", "--grace-seconds", "600", "--log-level", "info").ready()
    pids = {name: child["pid"] for name, child in up.children().items()}
    os.kill(pids["worker"], signal.SIGSTOP)  # it cannot drain
    up.process.send_signal(signal.SIGINT)
    until(lambda: "supervisor_drains" in up.errors())
    assert up.end(signal.SIGINT) == 128 + signal.SIGINT
    until(lambda: not any(lives(pid) for pid in pids.values()))


def test_children_go_when_their_supervisor_is_killed(hub_up: HubUps) -> None:
    up = hub_up("--worker", "app:tasks").ready()
    pids = [child["pid"] for child in up.about["processes"]]
    up.end(signal.SIGKILL)
    until(lambda: not any(lives(pid) for pid in pids))
    assert hub_up("--worker", "app:tasks").ready().end() == 0  # and the next one is not in their way


async def test_on_a_broker_that_is_there_already_it_brings_engines_workers_and_delivery(hub_up: HubUps) -> None:
    with broker_in_thread() as below:  # any Kafka would do
        up = hub_up("--bootstrap", below.bootstrap, "--worker", "app:tasks").ready()
        assert [child["role"] for child in up.about["processes"]] == ["engine", "worker", "delivery"]
        assert await run_task(up.address, "add", {"a": 3}) == 5
        assert up.end() == 0
