"""Every bench gives its keys. Small numbers: nothing here says how fast anything is."""

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from hub.bench import SUBSCRIBER, Column, Figure, render_markdown
from hub.bench.cleanup import subscriber_of_benchmark
from hub.cli.local_hub import LocalHub
from hub.kafka import Cluster, delete_groups, list_groups
from hub.verify import verify
from tests.brokers import topics_of
from tests.cli.running import hub, served
from tests.components.running import until
from tests.ports import free_port

AGAINST_A_HUB = {"bench", "tasks", "tasks_per_second", "seconds", "rounds", "spread", "fsync", "verified", "cpu_us_per_task"}
CONDITIONS = {"cores", "load_before", "platform", "versions"}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A hub without workers: the bench brings its own."""
    with served() as bootstrap:
        yield bootstrap


def figures(name: str, *arguments: str) -> dict[str, Any]:
    """The JSON of a small bench with two rounds."""
    found = figures_of(name, "--rounds", "2", *arguments)
    assert found["rounds"] == 2
    return found


def figures_of(name: str, *arguments: str) -> dict[str, Any]:
    """The JSON of a small bench."""
    done = hub("bench", name, "--json", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found.keys() >= CONDITIONS
    assert found["bench"] == name
    return found


def test_a_hub_of_its_own_is_measured_and_checked() -> None:
    found = figures("throughput", "--tasks", "50", "--slots", "20")
    assert found.keys() >= AGAINST_A_HUB
    assert (found["tasks"], found["fsync"], found["verified"]) == (50, True, True)
    assert found["checker"] == {**found["checker"], "ok": True, "tasks": 150, "findings": []}
    assert found["cpu_us_per_task"].keys() == {"client", "broker+engine", "worker", "delivery"}
    topics = dict(found["disk_bytes_per_task"])
    assert {"hub.intake", "hub.events", "hub.state", "hub.replies", "hub.commands.default"} <= topics.keys()
    assert topics.pop("total") == pytest.approx(sum(topics.values()), abs=1)


@pytest.mark.parametrize(("name", "counted"), [("throughput", 40), ("latency", 40), ("fanout", 42), ("chain", 40)])
def test_a_running_hub_is_measured_with_a_worker_for_the_bench(address: str, name: str, counted: int) -> None:
    found = figures(name, "--tasks", "40", "--bootstrap", address)
    assert found.keys() >= AGAINST_A_HUB
    assert (found["tasks"], found["verified"], found["checker"], found["fsync"]) == (counted, True, None, None)
    assert found["cpu_us_per_task"].keys() == {"client", "worker"}
    assert found["partitions"] == 1
    assert ("p50_ms" in found) == ("p99_ms" in found) == (name == "latency")


def test_a_running_hub_is_measured_with_delivery_of_which_nothing_is_left(address: str) -> None:
    before = asyncio.run(topics_of(address))
    found = figures("latency", "--tasks", "10", "--bootstrap", address, "--with-delivery")
    assert found["cpu_us_per_task"].keys() == {"client", "worker", "delivery"}
    assert asyncio.run(list_groups(Cluster.of(address), "hub.sub.")) == []
    assert asyncio.run(topics_of(address)) <= before | {"hub.commands.default", "hub.subscribers"}


def test_a_benchmark_that_is_terminated_cleans_up(address: str) -> None:
    async def delivers() -> bool:
        return bool(await list_groups(Cluster.of(address), "hub.sub."))

    async def terminated() -> int:
        arguments = ("bench", "latency", "--tasks", "100000", "--bootstrap", address, "--with-delivery")
        in_background = ("sh", "-c", "trap '' INT; exec \"$@\"", "-")  # as `command &` in a script: SIGINT is ignored
        process = await asyncio.create_subprocess_exec(*in_background, sys.executable, "-m", "hub", *arguments)
        try:
            await until(delivers)
            process.terminate()
            return await asyncio.wait_for(process.wait(), 60)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    assert asyncio.run(terminated()) == 143
    assert asyncio.run(list_groups(Cluster.of(address), "hub.sub.")) == []


def test_two_benchmarks_do_not_share_a_subscriber(address: str) -> None:
    async def both() -> subprocess.CompletedProcess[str]:
        async with LocalHub(address) as local:
            await local.start_delivery(SUBSCRIBER)
            return await asyncio.to_thread(hub, "bench", "latency", "--tasks", "10", "--bootstrap", address, "--with-delivery")

    done = asyncio.run(both())
    assert (done.returncode, done.stdout) == (2, "")
    assert "another benchmark" in done.stderr
    asyncio.run(delete_groups(Cluster.of(address), asyncio.run(list_groups(Cluster.of(address), "hub.sub."))))


async def test_a_subscriber_that_cannot_be_deleted_does_not_cost_the_figures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def no_group(*_: object) -> None:
        return None

    monkeypatch.setattr("hub.bench.cleanup.describe_group", no_group)
    async with subscriber_of_benchmark(Cluster.of(f"127.0.0.1:{free_port()}"), SUBSCRIBER):
        pass
    assert "Consumer group hub.sub." in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--with-engine", "--with-delivery"])
def test_an_option_that_would_have_no_effect_is_rejected(option: str) -> None:
    done = hub("bench", "latency", option)
    assert done.returncode == 2
    assert "has no effect without --bootstrap" in done.stderr


@pytest.mark.parametrize(("option", "value"), [("--flush", "os"), ("--partitions", "3")])
def test_an_option_of_a_hub_of_its_own_is_rejected_for_another_one(address: str, option: str, value: str) -> None:
    done = hub("bench", "latency", option, value, "--bootstrap", address)
    assert done.returncode == 2
    assert f"{option}: has no effect with --bootstrap" in " ".join(done.stderr.replace("│", " ").split())


def test_the_broker_alone_is_measured_and_leaves_nothing_behind(address: str) -> None:
    found = figures("broker", "--tasks", "200", "--bootstrap", address)
    assert found.keys() >= {
        "records_per_second_produced",
        "records_per_second_consumed",
        "transactions_per_second",
        "p50_ms",
        "p99_ms",
    }
    assert asyncio.run(verify(Cluster.of(address))).ok


def test_the_engine_alone_is_measured() -> None:
    found = figures("engine", "--tasks", "200", "--encode")
    assert found["events_per_task"] == 5
    assert found["us_per_task"] > 0


def test_people_get_one_figure_a_line() -> None:
    lines = hub("bench", "engine", "--tasks", "200", "--rounds", "1", "--no-encode").stdout.splitlines()
    assert lines[0].split() == ["bench", "engine"]
    values = dict(line.split(maxsplit=1) for line in lines)
    assert float(values["events_per_task"]) == 5
    assert float(values["us_per_task"]) > 0
    assert "{" not in "".join(lines)


def test_an_idle_hub_is_measured_by_process() -> None:
    found = figures_of("idle", "--seconds", "0.5")
    assert found.keys() >= {"seconds", "calm_after_seconds", "filesystem"}
    processes = found["processes"]
    assert processes.keys() == {"up", "broker+engine", "worker", "delivery"}
    assert processes["delivery"]["processes"] > 1, "the subscriber has a process of its own"
    assert processes["broker+engine"]["connections"] >= processes["worker"]["connections"] > 0
    for name, use in processes.items():
        assert 5 < use["uss_mib"] < use["pss_mib"] < 1_000, name
        assert use["threads"] >= use["processes"] >= 1, name
    assert found["total"]["cpu_percent"] > 0, "counted finer than in ticks"
    assert 0 < found["total"]["wakeups_per_second"] == pytest.approx(sum(one["wakeups_per_second"] for one in processes.values()))


def test_waiting_tasks_are_measured_in_memory_on_disk_and_over_a_crash() -> None:
    found = figures_of("memory", "--tasks", "500", "--rounds", "1")
    assert (found["tasks"], found["rounds"]) == (500, 1)
    processes = {"up", "broker+engine", "worker", "delivery", "total"}
    for name in ("pss_mib_before", "pss_mib_after", "memory_bytes_per_task"):
        assert found[name].keys() == processes, name
    before, after = found["pss_mib_before"]["broker+engine"], found["pss_mib_after"]["broker+engine"]
    assert found["memory_bytes_per_task"]["broker+engine"] == pytest.approx((after - before) * 2**20 / 500, abs=50)
    assert {"hub.intake", "hub.events", "hub.state", "total"} <= found["disk_bytes_per_task"].keys()
    assert found["snapshot_bytes"] == 0, "the first one follows more changelog"
    assert 0 < found["first_result_seconds"] == found["spread"]["first_result_seconds"]["max"]
    assert found["ready_seconds"] > 0


NOISY = {"Memory per live task"}
"""A difference that is within the noise for few tasks."""
MEASURES = {
    "CPU, idle",
    "Wake-ups, idle",
    "Delivery, all events",
    "Delivery, few events",
    "Delivery, spans",
    "Throughput",
    "Latency, p50",
    "Latency, p99",
    "Fan-out",
    "Chain",
    "Broker, produce",
    "Broker, consume",
    "Broker, transaction, p50",
    "Engine",
    "Disk",
    "Memory, idle",
    "Memory, after the throughput",
    "Memory, with 200 live tasks",
    *NOISY,
    "Restart with 200 live tasks",
}


def test_all_measures_of_the_embedded_broker_are_one_document() -> None:
    done = hub("bench", "all", "--quick", "--markdown")
    assert done.returncode == 0, done.stderr
    rows = {cells[0]: cells for line in done.stdout.splitlines() if line.startswith("| ") for cells in [cells_of(line)]}
    assert rows.keys() >= MEASURES
    assert {name for name in MEASURES - NOISY if not float(rows[name][2].replace(",", "")) > 0} == set()
    assert rows["Throughput"][4] == "`hub bench throughput --tasks 200 --rounds 1`"
    assert rows["Checked"][1].endswith(" tasks, 0 findings")
    assert "embedded broker: restart ... " in done.stderr
    assert socket.gethostname() not in done.stdout


def cells_of(line: str) -> list[str]:
    """The cells of a row of a table."""
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_document_has_a_column_for_each_broker_and_names_what_failed() -> None:
    def figure(name: str, *values: float) -> Figure:
        return Figure(name=name, unit="tasks/s", values=list(values), command="hub bench x")

    one = Column(title="one", figures=[figure("A", 1_234.5, 0.0123, 99.96)], about={"fsync": "yes"})
    two = Column(title="two", figures=[figure("B", 5.0)], about={"Replicas": "3"}, failures={"A": "no broker"})
    lines = render_markdown([one, two], {"Machine": "2 cores"}, "hub bench all").splitlines()
    assert "- Machine: 2 cores" in lines
    assert "| fsync | yes |  |" in lines
    assert "| Replicas |  | 3 |" in lines
    assert "| A | tasks/s | 100 (0.0123 to 1,234) |  | 3 | `hub bench x` |" in lines
    assert "| B | tasks/s |  | 5 | 1 | `hub bench x` |" in lines
    assert lines[-1] == "- two, A: no broker"


@pytest.mark.kafka
@pytest.mark.slow
def test_all_measures_stand_side_by_side_for_both_brokers_and_leave_nothing_behind(private_kafka: str) -> None:
    groups = asyncio.run(list_groups(Cluster.of(private_kafka), "hub."))
    done = hub("bench", "all", "--quick", "--json", "--bootstrap", private_kafka)
    assert done.returncode == 0, done.stderr
    embedded, kafka = json.loads(done.stdout)["columns"]
    assert {figure["name"] for figure in embedded["figures"]} == MEASURES
    assert {figure["name"] for figure in kafka["figures"]} == MEASURES - {"Engine"}
    assert kafka["about"]["Engine partitions"] == "16"
    assert "metadata.version" in kafka["about"]["Features"]
    assert hub("status", "--bootstrap", private_kafka).returncode == 2, "the topics are gone"
    assert asyncio.run(list_groups(Cluster.of(private_kafka), "hub.")) == groups


def test_a_cluster_that_holds_a_hub_is_not_measured_since_its_topics_would_go(address: str) -> None:
    done = hub("bench", "all", "--quick", "--bootstrap", address)
    assert done.returncode == 2
    assert f"{address} has a hub" in done.stderr
    assert asyncio.run(verify(Cluster.of(address))).ok
