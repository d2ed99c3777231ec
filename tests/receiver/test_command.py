"""`hub alerts receive` as a process, as an operator runs it."""

import asyncio
import inspect
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hub.cli.alerts_receive import receive
from hub.kafka import INTAKE, Cluster, ensure_topics, read_all
from hub.receiver import DEFAULT_LISTEN, AlertTasks
from hub.receiver.http import DEFAULT_LIMITS
from schemas import task_id_of_key
from tests.brokers import broker_in_thread
from tests.cli.running import hub
from tests.health.clients import get
from tests.ports import free_port
from tests.receiver.alerts import STARTED, TOKEN, alert, notification, request, send

BODY = json.dumps(notification(alert())).encode()


@pytest.fixture(scope="module")
def bootstrap() -> Iterator[str]:
    """A broker with the topics of a hub, without an engine."""
    with broker_in_thread() as broker:
        asyncio.run(ensure_topics(Cluster.of(broker.bootstrap), partitions=1))
        yield broker.bootstrap


@contextmanager
def receiving_process(
    bootstrap: str, *options: str, **variables: str
) -> Iterator[tuple["subprocess.Popen[str]", dict[str, Any]]]:
    """The process, and what its line `ready` says. It is killed if the test did not end it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
    command = [sys.executable, "-m", "hub", "alerts", "receive", "--bootstrap", bootstrap, "--listen", "127.0.0.1:0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            line = process.stdout.readline()
            assert line.startswith("ready alerts "), process.stderr.read()
            yield process, json.loads(line.removeprefix("ready alerts "))
        finally:
            process.kill()


async def submitted(bootstrap: str) -> list[Any]:
    """The submissions on the log."""
    found = [json.loads(record.value or b"null") async for record in read_all(Cluster.of(bootstrap), INTAKE, 0)]
    return [value for value in found if "idempotency_key" in value]


async def test_the_process_puts_alerts_on_the_log_counts_them_and_ends_on_a_signal(bootstrap: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    health = f"127.0.0.1:{free_port()}"
    options = ["--task", "repair", "--queue", "urgent", "--window-seconds", "60", "--body-max-bytes", "1024", "--token-file"]
    with receiving_process(bootstrap, *options, str(token), "--health-port", health.rpartition(":")[2]) as (process, ready):
        address = ready["listen"].removeprefix("http://")
        assert (await send(address, request(BODY))).status == 401
        authorized = request(BODY, f"Authorization: Bearer {TOKEN}")
        assert [(await send(address, authorized)).status for _ in range(2)] == [200, 200]
        assert (await send(address, request(BODY + b" " * 1024, f"Authorization: Bearer {TOKEN}"))).status == 413
        (value,) = await submitted(bootstrap)
        assert (value["name"], value["queue"], value["idempotency_window"]) == ("repair", "urgent", 60.0)
        assert value["idempotency_key"] == f"alert-c64a1bd4f5a1c6a5-{STARTED}"
        metrics = (await send(health, get("/metrics"))).body.decode()
        counts = dict(re.findall(r'^hub_receiver_alerts_total{.*outcome="(\w+)".*} (\S+)$', metrics, re.MULTILINE))
        assert {name: float(number) for name, number in counts.items()} == {"submitted": 1, "repeated": 1}
        process.send_signal(signal.SIGTERM)
        out, err = await asyncio.to_thread(process.communicate, timeout=30)
    assert (process.returncode, out) == (0, "")
    assert TOKEN not in err
    assert f"task={task_id_of_key('default', value['idempotency_key'])}" in err


def test_defaults_of_options_are_those_of_the_package() -> None:
    defaults = {name: parameter.default for name, parameter in inspect.signature(receive).parameters.items()}
    assert (defaults["listen"], defaults["body_max_bytes"]) == (DEFAULT_LISTEN, DEFAULT_LIMITS.body_max_bytes)
    names = ("task", "namespace", "queue", "cancel_resolved", "window_seconds")
    assert AlertTasks(*(defaults[name] for name in names)) == AlertTasks()


@pytest.mark.parametrize(
    ("options", "settings", "code", "message"),
    [
        (["--listen", "0.0.0.0:0"], {}, 2, "--listen 0.0.0.0:0 is not a loopback address"),
        ([], {"HUB_ALERTS_TOKEN": "short"}, 2, "The variable HUB_ALERTS_TOKEN: a token must have at least 16 characters"),
        (["--bootstrap", "127.0.0.1:1", "--wait", "0"], {}, 3, "127.0.0.1:1"),
    ],
)
def test_what_cannot_work_is_one_sentence_and_an_exit_code(
    options: list[str], settings: dict[str, str], code: int, message: str, bootstrap: str
) -> None:
    done = hub("alerts", "receive", "--bootstrap", bootstrap, *options, settings=settings)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
