"""Commands against a running hub, as a user or a script runs them: output and exit codes."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from subprocess import PIPE

import pytest
from aiokafka import AIOKafkaProducer

from hub import Hub, NoAnswerError, __version__
from hub.kafka import partition_of
from hub.verify import INVARIANTS
from schemas import step_id, task_id_of_cloudevent
from tests.brokers import broker_in_thread
from tests.cli.running import SECONDS, followed, hub, hub_inside, served

ORDER = '{"order": 1, "items": ["kettle"]}'


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A hub with four partitions whose worker runs the demo's tasks."""
    with served("hub.demo.app:tasks", partitions=4) as bootstrap:
        yield bootstrap


def test_a_task_is_created_awaited_and_looked_at(address: str) -> None:
    created = hub("task", "create", "reserve-stock", "--args", ORDER, "--id", "one", "--wait", bootstrap=address)
    assert (created.returncode, created.stderr) == (0, "")
    assert json.loads(created.stdout) == {"order": 1, "warehouse": "north", "items": 1}
    got = json.loads(hub("task", "get", "one", "--json", bootstrap=address).stdout)
    assert (got["kind"], got["state"], got["attempt"]) == ("ended", "completed", 1)
    assert "completed" in hub("task", "get", "one", "--bootstrap", address).stdout


def test_the_same_key_makes_one_task(address: str) -> None:
    arguments = ("task", "create", "reserve-stock", "--args", ORDER, "--key", "once", "--bootstrap", address)
    assert hub_inside(*arguments).stdout == hub_inside(*arguments).stdout != ""


def test_a_task_that_fails_ends_the_wait_with_1(address: str) -> None:
    failed = hub_inside(
        "task", "create", "reserve-stock", "--args", '{"order": 1, "items": []}', "--wait", "--json", bootstrap=address
    )
    assert failed.returncode == 1
    assert json.loads(failed.stdout)["error"]["type"] == "Permanent"


def test_a_rejected_submission_ends_with_1_and_says_why(address: str) -> None:
    more = '{"name": "x", "root_id": "nowhere", "key": "more"}'
    waited = hub_inside("task", "create", "--file", "-", "--wait", stdin=more, bootstrap=address)
    assert (waited.returncode, "unknown_root" in waited.stdout) == (1, True)
    asked = hub_inside("task", "create", "--file", "-", stdin=more, bootstrap=address)
    assert (asked.returncode, asked.stdout, "unknown_root" in asked.stderr) == (1, "", True)
    as_json = hub_inside("task", "create", "--file", "-", "--json", stdin=more, bootstrap=address)
    assert (as_json.returncode, json.loads(as_json.stdout)["code"]) == (1, "unknown_root")


def test_a_key_that_another_task_has_ends_with_1_without_a_wait(address: str) -> None:
    arguments = ("task", "create", "reserve-stock", "--key", "taken", "--bootstrap", address)
    assert hub_inside(*arguments, "--args", ORDER).returncode == 0
    other = hub_inside(*arguments, "--args", '{"order": 2, "items": []}')
    assert (other.returncode, other.stdout) == (1, "")
    assert "idempotency_conflict" in other.stderr


def test_a_submission_that_is_invalid_is_refused_without_a_broker() -> None:
    invalid = hub_inside("task", "create", "x", "--priority", "10000000", bootstrap="127.0.0.1:1")
    assert invalid.returncode == 2
    assert "priority: must be between -1,000,000 and 1,000,000" in invalid.stderr


def test_a_submission_that_is_invalid_is_not_sent(address: str) -> None:
    invalid = hub_inside("task", "create", "x", "--id", "unsent", "--start-after", "tomorrow", bootstrap=address)
    assert (invalid.returncode, invalid.stdout) == (2, "")
    assert "start_after: 'tomorrow' is not an RFC 3339 time" in invalid.stderr
    assert hub_inside("task", "get", "unsent", bootstrap=address).returncode == 1


def _take_interrupts() -> None:
    """A shell starts a background job with SIGINT ignored, and so are the job's children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_a_wait_that_is_interrupted_says_how_to_continue(address: str) -> None:
    """Interrupted when the command waits: it says after a while why nobody takes the task."""
    command = [sys.executable, "-m", "hub", "task", "create", "nosuch", "--id", "interrupted", "--wait", "--bootstrap", address]
    with subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True, preexec_fn=_take_interrupts) as waiting:
        assert waiting.stderr is not None
        try:
            assert waiting.stderr.readline() == "Warning: no worker has registered 'nosuch' yet: it waits until one does.\n"
            assert "is ready" in waiting.stderr.readline()
            waiting.send_signal(signal.SIGINT)
            out, said = waiting.communicate(timeout=SECONDS)
        finally:
            waiting.kill()
    assert (waiting.returncode, out) == (130, "")
    assert said == "Task interrupted continues; follow it with `hub task watch interrupted`.\n"
    hub_inside("task", "cancel", "interrupted", bootstrap=address)


def test_a_wait_that_is_over_ends_with_5(address: str) -> None:
    late = hub_inside("task", "create", "pack-parcel", "--start-after", "600", "--wait", "--timeout", "0.2", bootstrap=address)
    assert late.returncode == 5
    assert "has not ended" in late.stderr


def test_a_submission_that_cannot_be_ends_with_2_and_names_the_field(address: str) -> None:
    wrong = hub_inside("task", "create", "--file", "-", stdin='{"name": "x", "prio": 1}', bootstrap=address)
    assert wrong.returncode == 2
    assert "prio" in wrong.stderr


def test_a_workflow_from_stdin_is_watched_to_its_end(address: str) -> None:
    steps = {"a": {"name": "reserve-stock", "args": json.loads(ORDER)}, "b": {"name": "nobody", "depends_on": ["a"]}}
    steps["b"]["timeouts"] = {"start": 0.3}
    submission = json.dumps({"name": "flow", "id": "flow-1", "tasks": steps})
    created = hub_inside("task", "create", "--file", "-", "--json", stdin=submission, bootstrap=address)
    assert json.loads(created.stdout) == {"id": "flow-1", "root": "flow-1"}
    plain = hub_inside("task", "watch", "flow-1", bootstrap=address)
    assert plain.returncode == 1, "a step expired, so the workflow did not complete"
    assert "task.expired" in plain.stdout
    assert "\x1b" not in plain.stdout
    lines = [json.loads(line) for line in hub_inside("task", "watch", "flow-1", "--json", bootstrap=address).stdout.splitlines()]
    assert {line["specversion"] for line in lines} == {"1.0"}
    assert lines[0]["type"] == "task.created"
    assert lines[-1]["type"] == "workflow.failed"
    step = step_id("flow-1", "a")
    got = json.loads(hub_inside("task", "get", step, "--root", "flow-1", "--json", bootstrap=address).stdout)
    assert got["state"] == "completed"
    watched = hub_inside("task", "watch", step, "--root", "flow-1", bootstrap=address)
    assert (watched.returncode, "task.completed" in watched.stdout.splitlines()[-1]) == (0, True)


def test_a_waiting_task_is_cancelled_with_its_reason(address: str) -> None:
    hub_inside("task", "create", "pack-parcel", "--id", "later", "--start-after", "600", bootstrap=address)
    asked = hub_inside("task", "cancel", "later", "--reason", "not wanted", "--json", bootstrap=address)
    assert json.loads(asked.stdout) == {"id": "later", "requested": True, "state": "cancelled"}
    ended = hub_inside("task", "watch", "later", bootstrap=address)
    assert ended.returncode == 1
    assert "not wanted" in ended.stdout.splitlines()[-1]
    listed = json.loads(hub_inside("task", "list", "--state", "cancelled", "--json", bootstrap=address).stdout)
    assert "later" in [task["id"] for task in listed["tasks"]]
    assert {task["state"] for task in listed["tasks"]} == {"cancelled"}


def test_a_cancel_of_what_does_not_run_ends_with_1_and_says_why(address: str) -> None:
    hub_inside("task", "create", "reserve-stock", "--args", ORDER, "--id", "over", "--wait", bootstrap=address)
    ended = hub_inside("task", "cancel", "over", bootstrap=address)
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", "Task over has already ended.\n")
    unknown = hub_inside("task", "cancel", "nosuch", bootstrap=address)
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "Task nosuch is unknown or has expired. If it is a step of a workflow" in unknown.stderr
    as_json = json.loads(hub_inside("task", "cancel", "nosuch", "--json", bootstrap=address).stdout)
    assert (as_json["requested"], as_json["code"]) == (False, "unknown_task")
    assert hub_inside("task", "cancel", "", bootstrap=address).returncode == 2


def test_the_list_is_a_table_of_the_newest(address: str) -> None:
    for name in ("list-1", "list-2"):
        hub_inside("task", "create", "list-me", "--id", name, bootstrap=address)
    listed = hub_inside("task", "list", "--name", "list-*", "--limit", "1", bootstrap=address)
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["ID", "list-2"]
    assert "1 more" in listed.stderr


@pytest.mark.parametrize("command", ["get", "watch"])
def test_an_unknown_task_ends_with_1(address: str, command: str) -> None:
    unknown = hub_inside("task", command, "nowhere", bootstrap=address)
    assert unknown.returncode == 1
    assert "nowhere is unknown or has expired" in unknown.stderr


def test_events_are_followed_from_the_beginning_by_type_and_task(address: str) -> None:
    hub_inside("task", "create", "reserve-stock", "--args", ORDER, "--id", "tailed", "--wait", bootstrap=address)
    tail = ("events", "tail", "--from", "beginning", "--no-follow", "--task", "tailed", "--json")
    lines = [json.loads(line) for line in hub_inside(*tail, bootstrap=address).stdout.splitlines()]
    assert [line["sequence"] for line in lines] == list(range(1, len(lines) + 1))
    assert {line["subject"] for line in lines} == {"tailed"}
    some = hub_inside(*tail[:-1], "--type", "task.comp*", bootstrap=address)
    assert [line.split()[1] for line in some.stdout.splitlines()] == ["task.completed"]
    limited = hub_inside("events", "tail", "--from", "beginning", "--limit", "3", bootstrap=address)
    assert (limited.returncode, len(limited.stdout.splitlines())) == (0, 3)


def test_a_task_that_no_live_worker_can_take_is_explained(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.cli.create.HINT_SECONDS", 0.1)
    waited = hub_inside("task", "create", "nosuch", "--id", "nosuch-1", "--wait", "--timeout", "3", bootstrap=address)
    assert waited.returncode == 5
    why = "Task nosuch-1 is ready, but no live worker has a handler named nosuch."
    assert why in waited.stderr
    shown = hub_inside("task", "get", "nosuch-1", bootstrap=address)
    assert (shown.returncode, "ready" in shown.stdout) == (0, True)
    assert why in shown.stderr
    hub_inside("task", "cancel", "nosuch-1", bootstrap=address)


def test_the_last_events_are_printed_without_following(address: str) -> None:
    hub_inside("task", "create", "reserve-stock", "--args", ORDER, "--id", "last", "--wait", bootstrap=address)
    everything = hub_inside(
        "events", "tail", "--from", "beginning", "--no-follow", "--json", bootstrap=address
    ).stdout.splitlines()
    all_of_task = [line for line in everything if json.loads(line)["subject"] == "last"]
    assert 1 < len(all_of_task) < 10 < len(everything)
    tail = ("events", "tail", "--no-follow", "--json")
    assert len(hub_inside(*tail, bootstrap=address).stdout.splitlines()) == 10
    assert hub_inside(*tail, "--task", "last", bootstrap=address).stdout.splitlines() == all_of_task
    assert hub_inside(*tail, "--task", "last", "--limit", "2", bootstrap=address).stdout.splitlines() == all_of_task[-2:]
    nothing = hub_inside(*tail, "--task", "last", "--type", "task.failed", bootstrap=address)
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (0, "", "No matching events in hub.events.\n")


@pytest.mark.parametrize("more", [(), ("--from", "beginning")])
def test_events_of_an_unknown_task_are_an_error_without_following(address: str, more: tuple[str, ...]) -> None:
    nobody = hub_inside("events", "tail", "--no-follow", "--task", "nobody", *more, bootstrap=address)
    assert (nobody.returncode, nobody.stdout, nobody.stderr) == (1, "", "Task nobody is unknown or has expired.\n")


def test_a_tail_that_is_started_before_its_task_says_so_and_waits(address: str) -> None:
    with followed("--task", "not-yet", "--limit", "1", "--json", bootstrap=address) as tail:
        assert tail.stderr is not None
        assert tail.stderr.readline() == "Task not-yet is not known yet. Waiting for its events.\n"
        hub_inside("task", "create", "reserve-stock", "--args", ORDER, "--id", "not-yet", bootstrap=address)
        printed, errors = tail.communicate(timeout=SECONDS)
    assert (tail.returncode, json.loads(printed)["subject"], errors) == (0, "not-yet", "")


def test_a_tail_of_a_known_task_says_nothing_of_it(address: str) -> None:
    hub_inside("task", "create", "reserve-stock", "--args", ORDER, "--id", "known", "--wait", bootstrap=address)
    with followed("--task", "known", "--from", "beginning", "--limit", "3", bootstrap=address) as tail:
        printed, errors = tail.communicate(timeout=SECONDS)
    assert (tail.returncode, len(printed.splitlines()), errors) == (0, 3, "")


def test_every_check_is_explained_by_a_sentence(address: str) -> None:
    explained = {row["id"]: row["sentence"] for row in json.loads(hub_inside("verify", "--explain", "--json").stdout)}
    assert explained == {name: row.sentence for name, row in INVARIANTS.items()}
    assert all(f"{name} " in hub_inside("verify", "--explain").stdout for name in ("I1", "T1"))
    report = json.loads(hub_inside("verify", "--json", bootstrap=address).stdout)
    assert report["sentences"] == explained
    assert set(report["checked"]) | set(report["skipped"]) == explained.keys()
    shown = hub_inside("verify", bootstrap=address).stdout.splitlines()
    assert [line for line in shown if line.split()[:1] == ["I5"]] == [f"  I5  {explained['I5']}"]


def test_the_checker_finds_nothing(address: str) -> None:
    report = hub_inside("verify", "--json", bootstrap=address)
    assert report.returncode == 0, report.stdout
    assert json.loads(report.stdout)["ok"] is True
    assert "no findings" in hub_inside("verify", bootstrap=address).stdout


def test_a_task_that_lives_is_a_finding_when_all_must_have_ended(address: str) -> None:
    hub_inside("task", "create", "pack-parcel", "--start-after", "600", bootstrap=address)
    report = hub_inside("verify", "--require-all-ended", "--json", bootstrap=address)
    assert report.returncode == 1
    assert json.loads(report.stdout)["counts"]


def test_the_list_says_how_long_an_ended_task_took(address: str) -> None:
    hub_inside("task", "create", "reserve-stock", "--id", "took", "--args", ORDER, "--wait", bootstrap=address)
    listed = json.loads(hub_inside("task", "list", "--json", bootstrap=address).stdout)["tasks"]
    (row,) = [task for task in listed if task["id"] == "took"]
    assert row["seconds"] > 0


def published(address: str, value: bytes, headers: list[tuple[str, bytes]]) -> None:
    """Put one record on hub.intake, as any Kafka client does, and wait until a later submission is decided there."""

    async def publish() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=address, acks="all")
        await producer.start()
        try:
            place = await producer.send_and_wait("hub.intake", value, headers=headers)
        finally:
            await producer.stop()
        later = next(f"later-{number}" for number in range(1_000) if partition_of(f"later-{number}", 4) == place.partition)
        async with Hub(address) as client:
            await client.get(later)

    asyncio.run(publish())


def structured(source: str, event_id: str, **data: object) -> bytes:
    event = {"specversion": "1.0", "type": "task.created", "source": source, "id": event_id, "data": data}
    return json.dumps(event).encode()


def test_a_task_is_found_by_the_id_of_the_cloudevent_that_made_it(address: str) -> None:
    published(address, structured("/shell", "order-8", name="reserve-stock", args={"order": 8, "items": ["pot"]}), [])
    derived = task_id_of_cloudevent("/shell", "order-8")
    for arguments in (["order-8"], ["order-8", "--source", "/shell"], [derived]):
        assert json.loads(hub_inside("task", "get", *arguments, "--json", bootstrap=address).stdout)["task"] == derived
    for more in ([], ["--source", "/shell"]):
        listed = json.loads(hub_inside("task", "list", "--event-id", "order-8", *more, "--json", bootstrap=address).stdout)
        assert [task["id"] for task in listed["tasks"]] == [derived]
    nothing = hub_inside("task", "get", "order-8", "--source", "/elsewhere", bootstrap=address)
    assert (nothing.returncode, nothing.stdout) == (1, "")


def test_a_task_with_an_id_of_its_own_is_found_by_its_cloudevent_too(address: str) -> None:
    headers = [("ce_type", b"task.created"), ("ce_source", b"/shop"), ("ce_id", b"event-9")]
    for _ in range(2):
        published(address, b'{"id":"order-9","name":"reserve-stock","args":{"order":9,"items":["pot"]}}', headers)
    for arguments in (["event-9"], ["event-9", "--source", "/shop"], ["order-9"]):
        assert json.loads(hub_inside("task", "get", *arguments, "--json", bootstrap=address).stdout)["task"] == "order-9"


def test_one_id_from_two_sources_is_two_tasks_and_a_question(address: str) -> None:
    for source in ("/east", "/west"):
        published(address, structured(source, "same", name="reserve-stock", args={"order": 1, "items": ["pot"]}), [])
    asked = hub_inside("task", "get", "same", bootstrap=address)
    assert (asked.returncode, asked.stdout) == (1, "")
    assert task_id_of_cloudevent("/east", "same") in asked.stderr
    assert "--source" in asked.stderr
    one = json.loads(hub_inside("task", "get", "same", "--source", "/west", "--json", bootstrap=address).stdout)
    assert one["task"] == task_id_of_cloudevent("/west", "same")


def test_a_cloudevent_whose_submission_was_refused_says_why(address: str) -> None:
    published(address, structured("/shell", "refused", name="reserve-stock", start_after="tomorrow"), [])
    asked = hub_inside("task", "get", "refused", bootstrap=address)
    assert (asked.returncode, asked.stdout) == (1, "")
    assert "start_after" in asked.stderr


def test_a_source_alone_is_wrong_usage(address: str) -> None:
    asked = hub_inside("task", "list", "--source", "/shell", bootstrap=address)
    assert asked.returncode == 2
    assert "--event-id" in asked.stderr


def test_the_version_is_that_of_the_package() -> None:
    assert hub("--version").stdout == f"taskhub {__version__}\n"


def test_a_state_that_is_none_is_refused_with_those_there_are(address: str) -> None:
    done = hub_inside("task", "list", "--state", "runing", bootstrap=address)
    assert done.returncode == 2
    assert "running" in done.stderr


@pytest.mark.parametrize("command", [["demo", "--exit"], ["bench", "latency"]])
def test_a_command_that_starts_processes_has_their_exit_code_and_their_last_word(command: list[str]) -> None:
    done = hub(*command, "--bootstrap", "127.0.0.1:1", settings={"HUB_WAIT": "0.5"})
    assert done.returncode == 3
    assert done.stderr.strip().count("\n") == 0
    assert done.stderr.startswith("hub: No Kafka broker responds at 127.0.0.1:1")


@pytest.mark.parametrize("command", [["task", "list"], ["task", "create", "x"], ["events", "tail"], ["verify"]])
def test_nothing_at_the_address_ends_with_3_and_a_sentence(command: list[str]) -> None:
    done = hub_inside(*command, "--bootstrap", "127.0.0.1:1")
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
    assert "127.0.0.1:1" in done.stderr
    assert done.stdout == ""


async def test_a_hub_keeps_its_number_of_partitions_and_without_an_engine_says_who_is_missing() -> None:
    with broker_in_thread() as server:
        address = server.bootstrap
        first, again, other = [
            await asyncio.to_thread(hub, "init", *more, bootstrap=address)
            for more in (["--partitions", "2"], [], ["--partitions", "16"])
        ]
        assert (first.returncode, again.returncode, other.returncode) == (0, 0, 2)
        assert "hub.intake" in first.stdout
        assert "already" in again.stdout
        assert "set partitions = 2" in other.stderr
        async with Hub(address) as client, asyncio.TaskGroup() as side_by_side:
            creating = side_by_side.create_task(
                asyncio.to_thread(hub, "task", "create", "charge", "--id", "x", bootstrap=address)
            )
            cancelling = side_by_side.create_task(asyncio.to_thread(hub, "task", "cancel", "x", bootstrap=address))
            with pytest.raises(NoAnswerError, match="No engine responded about task x within 2 s"):
                await client.get("x", timeout_seconds=2)
        created, cancelled = creating.result(), cancelling.result()
        assert (created.returncode, created.stdout) == (0, "x\n")
        assert "The submission is stored, but no engine has responded to it within 3 s" in created.stderr
        assert cancelled.returncode == 0
        assert "The request is stored, but no engine has responded to it within 3 s" in cancelled.stdout


def test_a_command_learns_how_its_processes_end_although_its_parent_ignores_that_signal() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert hub_inside("--version").returncode == 0
        assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGCHLD, before)
