"""`hub status`: every process of a hub, from the cluster and from the supervisor's file."""

import json
import signal
from pathlib import Path
from subprocess import run
from typing import Any

from .conftest import DEADLINE_SECONDS, HUB, HubUps, environment, run_task, until


def status(folder: Path, *arguments: str) -> dict[str, Any]:
    """What `hub status --json` says."""
    done = run(
        [*HUB, "status", "--json", *arguments], cwd=folder, env=environment(), capture_output=True, timeout=DEADLINE_SECONDS
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


async def test_every_process_is_told_with_role_pid_partitions_and_lag(hub_up: HubUps, tmp_path: Path) -> None:
    up = hub_up("--worker", "app:tasks", "--partitions", "2").ready()
    await run_task(up.address, "add", {"a": 1})
    found = status(tmp_path, "--data", "data")
    by_role = {process["role"]: process for process in found["processes"]}
    assert set(by_role) == {"supervisor", "broker+engine", "worker", "delivery"}
    assert by_role["supervisor"]["pid"] == up.process.pid
    assert {name: up.children()[name]["pid"] for name in up.children()} == {
        role: by_role[role]["pid"] for role in by_role if role != "supervisor"
    }
    assert by_role["broker+engine"]["partitions"] == [0, 1]
    assert by_role["worker"]["about"]["tasks"] == ["add", "hold"]
    assert by_role["delivery"]["partitions"] == [0, 1]

    def quiet() -> bool:
        processes = status(tmp_path, "--data", "data")["processes"]
        return [process["lag"] for process in processes if process["role"] in ("broker+engine", "delivery")] == [0, 0]

    until(quiet)
    assert up.end() == 0


async def test_from_the_cluster_alone(hub_up: HubUps, tmp_path: Path) -> None:
    up = hub_up("--worker", "app:tasks", "--workers", "2", "--separate-engine").ready()
    pids = {name: child["pid"] for name, child in up.children().items()}
    seen = status(tmp_path, "--bootstrap", up.address, "--data", "elsewhere")["processes"]
    assert sorted((process["role"], process["pid"]) for process in seen) == sorted(
        [("engine", pids["engine"]), ("worker", pids["worker-1"]), ("worker", pids["worker-2"]), ("delivery", pids["delivery"])]
    )
    up.end(signal.SIGTERM)


def test_people_get_a_table(hub_up: HubUps, tmp_path: Path) -> None:
    up = hub_up("--no-subscribers").ready()
    done = run(
        [*HUB, "status"], cwd=tmp_path, env=environment() | {"HUB_DATA": "data"}, capture_output=True, text=True, check=True
    )
    first, columns, *rows = done.stdout.splitlines()
    assert first == f"hub at {up.address}, 1 partition"
    assert columns.split() == ["ROLE", "PID", "HOST", "STATE", "PARTITIONS", "LAG", "RESTARTS", "ABOUT"]
    assert [row.split()[0] for row in rows] == ["supervisor", "broker+engine"]
    assert up.end() == 0
