"""The guarantees for a subscriber, on a real broker."""

import asyncio
import logging
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from hub.delivery import DeliveryService, SubscriberConfig
from hub.kafka import BATCH_BYTES_MAX, Cluster, describe_setting
from tests.brokers import unique

from .event_log import committed_offset, completed, create_topic, progress, read_all, ready, running, write
from .plugins import SEEN
from .waiting import until


def configured(plugin: str, **more: Any) -> SubscriberConfig:
    """A subscriber of tests.delivery.plugins whose tag is its id."""
    id = more.pop("id", None) or unique(plugin.lower())
    more.setdefault("start_from", "earliest")
    return SubscriberConfig(use=f"tests.delivery.plugins:{plugin}", id=id, settings={"tag": id}, **more)


@pytest.fixture
async def topic(bootstrap: str) -> str:
    """A topic of its own with one partition."""
    name = unique("events")
    await create_topic(bootstrap, name)
    return name


async def test_every_event_arrives_once_and_in_order_per_task(bootstrap: str, topic: str) -> None:
    config = configured("Recorder")
    await write(bootstrap, topic, [progress(f"t{n % 10}", n // 10 + 1) for n in range(500)])
    async with running(DeliveryService(Cluster.of(bootstrap), [config], topic=topic)) as service:
        seen = SEEN[config.id]
        await until(lambda: len(seen.events) >= 500, "500 events")
        for task in range(10):
            assert seen.of(f"t{task}") == list(range(1, 51))
        assert service.status()[0].delivered == 500
        assert {meta.attempt for meta in seen.metas} == {1}
    assert await committed_offset(bootstrap, config.group, topic) in (500, 501), "500 events and perhaps the marker behind"
    assert seen.calls == ["open", "close"]


async def test_events_of_an_aborted_or_open_transaction_are_not_delivered(bootstrap: str, topic: str) -> None:
    from aiokafka import AIOKafkaProducer

    config = configured("Recorder")
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=unique("tx"))
    await producer.start()
    async with running(DeliveryService(Cluster.of(bootstrap), [config], topic=topic)):
        await producer.begin_transaction()
        key, value, headers = progress("ghost", 1)
        await producer.send_and_wait(topic, value=value, key=key, headers=headers, partition=0)
        await producer.abort_transaction()
        await write(bootstrap, topic, [progress("real", 1)])
        await until(lambda: SEEN[config.id].events, "the committed event")
        assert SEEN[config.id].events == [("real", 1)]
    await producer.stop()


async def test_the_first_start_begins_at_the_end_and_later_ones_miss_nothing(bootstrap: str, topic: str) -> None:
    config = configured("Recorder", start_from="latest")
    await write(bootstrap, topic, [progress("old", 1)])
    async with running(DeliveryService(Cluster.of(bootstrap), [config], topic=topic)):
        pass  # nothing was seen, nothing delivered: but its place in the log is known from here on
    await write(bootstrap, topic, [progress("new", 1)])
    async with running(DeliveryService(Cluster.of(bootstrap), [config], topic=topic)):
        await until(lambda: SEEN[config.id].events, "what was written while it was away")
    assert SEEN[config.id].events == [("new", 1)]


async def test_tasks_run_side_by_side_up_to_the_concurrency_and_one_task_never_does(bootstrap: str, topic: str) -> None:
    config = configured("Progress")
    await write(bootstrap, topic, [progress(f"t{n % 8}", n // 8 + 1) for n in range(64)])
    async with running(DeliveryService(Cluster.of(bootstrap), [config], topic=topic)):
        seen = SEEN[config.id]
        await until(lambda: len(seen.events) >= 64, "64 events")
        assert seen.most == 4
        assert all(seen.of(f"t{n}") == list(range(1, 9)) for n in range(8))


async def test_order_by_partition_makes_everything_one_line(bootstrap: str, topic: str) -> None:
    config = configured("Progress", delivery={"order": "partition"})
    await write(bootstrap, topic, [progress(f"t{n}", n + 1) for n in range(10)])
    async with running(DeliveryService(Cluster.of(bootstrap), [config], topic=topic)):
        seen = SEEN[config.id]
        await until(lambda: len(seen.events) >= 10, "10 events")
        assert seen.most == 1
        assert [sequence for _, sequence in seen.events] == list(range(1, 11))


async def test_an_event_that_always_fails_is_set_aside_and_the_tasks_later_events_follow(bootstrap: str, topic: str) -> None:
    config = configured("Recorder")
    seen = SEEN[config.id]
    seen.poison = {("bad", 2)}
    written = [progress("bad", n) for n in (1, 2, 3)] + [progress("good", n) for n in (1, 2, 3)]
    await write(bootstrap, topic, written)
    async with running(DeliveryService(Cluster.of(bootstrap), [config], topic=topic)) as service:
        await until(lambda: len(seen.events) >= 5, "five events")
        await until(lambda: service.status()[0].dead_lettered == 1, "the dead letter")
        status = service.status()[0]
    assert seen.of("bad") == [1, 3]
    assert seen.of("good") == [1, 2, 3]
    assert status.retried >= 1
    assert status.retried + 1 == len([one for one in seen.calls if one.startswith("poison")])
    (letter,) = await read_all(bootstrap, config.dead_letter_topic, 1)
    headers = dict(letter.headers)
    key, value, original_headers = written[1]
    assert (letter.key, letter.value) == (key, value)
    assert list(letter.headers[: len(original_headers)]) == original_headers
    assert headers["dlq_topic"] == topic.encode()
    assert (headers["dlq_partition"], headers["dlq_offset"]) == (b"0", b"1")
    assert int(headers["dlq_attempts"]) == status.retried + 1
    assert headers["dlq_error"] == b"ValueError: cannot stand bad 2"
    assert b"plugins.py" in headers["dlq_traceback"]
    assert headers["dlq_first_failure"].decode() <= headers["dlq_failed_at"].decode()
    assert await committed_offset(bootstrap, config.group, topic) in (6, 7)


async def test_the_dead_letter_of_an_old_event_is_kept_as_long_as_any_other(bootstrap: str, topic: str) -> None:
    """Its topic deletes by timestamp: with the event's own, it would be gone at once."""
    old_ms = int((time.time() - 20 * 86_400) * 1000)
    config = configured("Recorder")
    SEEN[config.id].poison = {("bad", 1)}
    began_ms = int(time.time() * 1000)
    await write(bootstrap, topic, [progress("bad", 1)], timestamp_ms=old_ms)
    async with running(DeliveryService(Cluster.of(bootstrap), [config], topic=topic)) as service:
        await until(lambda: service.status()[0].dead_lettered == 1, "the dead letter")
    (letter,) = await read_all(bootstrap, config.dead_letter_topic, 1)
    assert letter.timestamp >= began_ms
    assert int(dict(letter.headers)["dlq_timestamp"]) == old_ms


async def test_the_settings_of_a_dead_letter_topic_hold_for_a_new_one_and_for_one_that_exists(bootstrap: str, topic: str) -> None:
    config = configured("Recorder")
    for asked in ({"retention.ms": "600000"}, {"retention.ms": "-1", "retention.bytes": str(5 << 20)}):
        async with running(DeliveryService(Cluster.of(bootstrap), [config], topic=topic, dead_letter_configs=asked)):
            for setting, value in asked.items():
                assert await describe_setting(Cluster.of(bootstrap), config.dead_letter_topic, setting) == value
    assert int(await describe_setting(Cluster.of(bootstrap), config.dead_letter_topic, "max.message.bytes")) > BATCH_BYTES_MAX


async def test_skip_goes_on_without_a_dead_letter(bootstrap: str, topic: str) -> None:
    config = configured("Recorder", delivery={"on_error": "skip"})
    seen = SEEN[config.id]
    seen.poison = {("a", 1)}
    await write(bootstrap, topic, [progress("a", 1), progress("a", 2)])
    async with running(DeliveryService(Cluster.of(bootstrap), [config], topic=topic)) as service:
        await until(lambda: seen.events == [("a", 2)], "the second event")
        assert service.status()[0].skipped == 1


async def test_stop_halts_before_the_event_and_a_new_start_tries_it_again(bootstrap: str, topic: str) -> None:
    config = configured("Recorder", delivery={"on_error": "stop"})
    seen = SEEN[config.id]
    seen.poison = {("a", 2)}
    await write(bootstrap, topic, [progress("a", n) for n in (1, 2, 3)])
    async with running(DeliveryService(Cluster.of(bootstrap), [config], topic=topic)) as service:
        await until(lambda: service.status()[0].state == "stopped", "the stop")
        assert seen.events == [("a", 1)]
        assert "cannot stand a 2" in (service.status()[0].error or "")
    assert await committed_offset(bootstrap, config.group, topic) == 1
    seen.poison = set()
    async with running(DeliveryService(Cluster.of(bootstrap), [config], topic=topic)):
        await until(lambda: len(seen.events) == 3, "the rest")
    assert seen.events == [("a", 1), ("a", 2), ("a", 3)]


async def test_postpone_comes_again_later_and_drop_does_not(bootstrap: str, topic: str) -> None:
    config = configured("Wishing")
    seen = SEEN[config.id]
    await write(bootstrap, topic, [progress("a", n) for n in (1, 2, 3, 4)])
    async with running(DeliveryService(Cluster.of(bootstrap), [config], topic=topic)) as service:
        await until(lambda: len(seen.events) == 2, "the even ones")
        await until(lambda: service.status()[0].lag == 0, "all acknowledged")
        status = service.status()[0]
    assert seen.events == [("a", 2), ("a", 4)]
    assert (status.postponed, status.dropped, status.delivered, status.retried) == (4, 2, 2, 0)


async def test_a_handler_that_hangs_is_ended_and_its_neighbours_go_on(bootstrap: str, topic: str) -> None:
    config = configured("Hanging")
    seen = SEEN[config.id]
    seen.poison = {("a", 1)}
    await write(bootstrap, topic, [progress("a", 1), progress("a", 2), progress("b", 1)])
    async with running(DeliveryService(Cluster.of(bootstrap), [config], topic=topic)) as service:
        await until(lambda: len(seen.events) == 2, "the two others")
        status = service.status()[0]
    assert seen.events[0] == ("b", 1)
    assert status.timed_out >= 1
    assert status.dead_lettered == 1


async def test_records_that_are_no_events_are_set_aside(bootstrap: str, topic: str) -> None:
    config = configured("Recorder")
    good = progress("a", 1)
    junk = [
        (b"a", b"{not json", good[2]),
        (b"a", good[1], []),
        (None, b"", [("ce_type", b"task.progressed")]),
        (b"a", good[1], [("ce_type", b"\xff\xfe")]),
        (b"a", b'{"entity": 5}', good[2]),
        (b"a", good[1], [(name, b"task.invented" if name == "ce_type" else value) for name, value in good[2]]),
    ]
    await write(bootstrap, topic, [*junk, good])
    async with running(DeliveryService(Cluster.of(bootstrap), [config], topic=topic)) as service:
        await until(lambda: SEEN[config.id].events, "the good one")
        await until(lambda: service.status()[0].dead_lettered == len(junk), "the others set aside")
        assert service.status()[0].state == "running"
    letters = await read_all(bootstrap, config.dead_letter_topic, len(junk))
    assert {letter.value for letter in letters} == {value for _, value, _ in junk}
    assert all(dict(letter.headers)["dlq_error"].startswith(b"MalformedEvent: ") for letter in letters)


async def test_what_a_filter_refuses_moves_the_offset_and_is_never_decoded(bootstrap: str, topic: str) -> None:
    config = configured("Recorder", filter={"all": [{"prefix": {"type": "task."}}, {"not": {"exact": {"namespace": "sandbox"}}}]})
    key, _, headers = progress("x", 1, namespace="sandbox")
    broken_but_refused = (key, b"{not json", headers)
    await write(bootstrap, topic, [*[ready("y", n, namespace="sandbox") for n in range(100)], broken_but_refused])
    async with running(DeliveryService(Cluster.of(bootstrap), [config], topic=topic)) as service:
        await until(lambda: service.status()[0].filtered == 101 and service.status()[0].lag == 0, "all looked at")
        assert service.status()[0].dead_lettered == 0
    assert SEEN[config.id].events == []
    assert await committed_offset(bootstrap, config.group, topic) in (101, 102)


async def test_batches_hold_up_to_their_size_and_linger_for_the_rest(bootstrap: str, topic: str) -> None:
    config = configured("Lingering")
    seen = SEEN[config.id]
    await write(bootstrap, topic, [progress(f"t{n % 3}", n) for n in range(1, 26)])
    async with running(DeliveryService(Cluster.of(bootstrap), [config], topic=topic)):
        await until(lambda: len(seen.events) == 25, "25 events")
        assert [len(one) for one in seen.batches] == [10, 10, 5]
        assert [sequence for one in seen.batches for sequence in one] == list(range(1, 26))


async def test_a_poisoned_batch_is_halved_until_the_culprit_stands_alone(bootstrap: str, topic: str) -> None:
    config = configured("Batches")
    seen = SEEN[config.id]
    seen.poison = {("t", 7)}
    await write(bootstrap, topic, [progress("t", n) for n in range(1, 11)])
    async with running(DeliveryService(Cluster.of(bootstrap), [config], topic=topic)) as service:
        await until(lambda: len(seen.events) == 9 and service.status()[0].dead_lettered == 1, "nine delivered, one set aside")
    assert seen.of("t") == [1, 2, 3, 4, 5, 6, 8, 9, 10]
    (letter,) = await read_all(bootstrap, config.dead_letter_topic, 1)
    assert dict(letter.headers)["dlq_offset"] == b"6"


async def test_a_buffering_sink_is_acknowledged_only_after_its_flush(bootstrap: str, topic: str) -> None:

    config = configured("Sink")
    seen = SEEN[config.id]
    seen.gate = threading.Event()
    seen.flush_fails = 1
    await write(bootstrap, topic, [progress("a", n) for n in (1, 2, 3)])
    async with running(DeliveryService(Cluster.of(bootstrap), [config], topic=topic)) as service:
        await until(lambda: seen.calls.count("flush") >= 2, "the second try to flush")
        assert service.status()[0].delivered == 3
        assert service.status()[0].in_flight == 3
        assert await committed_offset(bootstrap, config.group, topic) in (None, 0)
        seen.gate.set()
        await until(lambda: service.status()[0].lag == 0, "all acknowledged")
    assert seen.events == [("a", 1), ("a", 2), ("a", 3)]


async def test_reading_pauses_at_the_bound_and_goes_on_after(bootstrap: str, topic: str) -> None:

    config = configured("Blocking", delivery={"in_flight_max": 10})
    seen = SEEN[config.id]
    seen.gate = threading.Event()
    await write(bootstrap, topic, [progress(f"t{n}", 1) for n in range(50)])
    async with running(DeliveryService(Cluster.of(bootstrap), [config], topic=topic)) as service:
        await until(lambda: service.status()[0].in_flight == 10, "the bound")
        await until(lambda: service.status()[0].state == "blocked", "its state told")
        assert service.status()[0].in_flight == 10
        seen.gate.set()
        await until(lambda: len(seen.events) == 50, "everything")


async def test_a_subscriber_that_blocks_hangs_or_breaks_slows_no_other(bootstrap: str, topic: str) -> None:

    healthy = configured("Recorder")
    blocking, failing, hanging = configured("Blocking"), configured("Recorder"), configured("Hanging")
    unimportable = SubscriberConfig(use="tests.delivery.broken_import:Anything", id=unique("broken"))
    SEEN[blocking.id].gate = threading.Event()
    SEEN[failing.id].open_fails = 1_000
    SEEN[hanging.id].poison = {(f"t{n}", 1) for n in range(100)}
    service = DeliveryService(
        Cluster.of(bootstrap), [blocking, failing, unimportable, hanging, healthy], topic=topic, drain_seconds=0.5
    )
    async with running(service):
        states = {one.id: one.state for one in service.status()}
        assert states[failing.id] == "failed"
        assert states[unimportable.id] == "failed"
        assert "this module is broken" in str(service.status()[2].error)
        await write(bootstrap, topic, [progress(f"t{n}", 1) for n in range(100)])
        await until(lambda: len(SEEN[healthy.id].events) == 100, "all events at the healthy one", 60)
        assert SEEN[blocking.id].events == []
        SEEN[blocking.id].gate.set()


async def test_an_import_that_raises_is_logged_once_with_its_place_until_it_works(
    bootstrap: str, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fixed, module = tmp_path / "fixed", unique("sometimes").replace("-", "_")
    (tmp_path / f"{module}.py").write_text(
        "from pathlib import Path\n"
        f"if not Path({str(fixed)!r}).exists():\n"
        "    raise RuntimeError('not yet')\n"
        "from tests.delivery.plugins import plain\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hub.delivery.restarting.BACKOFF_INITIAL_SECONDS", 0.2)
    config = SubscriberConfig(use=f"{module}:plain", id=module)
    changes: list[dict[str, str]] = []
    why = f"the import of '{module}:plain' raised RuntimeError: not yet ({module}.py, line 3)"
    async with running(DeliveryService(Cluster.of(bootstrap), [config], topic=topic, on_failing=changes.append)) as service:
        await until(lambda: service.status()[0].restarts == 2, "the second try")
        assert service.failing() == {config.id: why}
        logged = [record for record in caplog.records if record.levelno >= logging.WARNING and why in record.getMessage()]
        assert [(record.levelname, record.exc_info) for record in logged] == [("ERROR", None)]
        fixed.touch()
        await until(lambda: service.status()[0].state == "running", "the subscriber")
        assert service.failing() == {}
        assert changes == [{config.id: why}, {}]


async def test_a_handler_that_never_comes_back_does_not_hold_up_the_end(bootstrap: str, topic: str) -> None:

    config = configured("Blocking")
    gate = SEEN[config.id].gate = threading.Event()
    await write(bootstrap, topic, [progress("a", 1), progress("a", 2)])
    service = DeliveryService(Cluster.of(bootstrap), [config], topic=topic, drain_seconds=0.5)
    await service.start()
    await until(lambda: SEEN[config.id].calls.count("blocks"), "the block")
    await service.stop()
    assert SEEN[config.id].events == [], "its end was not waited for"
    gate.set()
    assert await committed_offset(bootstrap, config.group, topic) == 0, "it comes again"


async def test_an_open_that_raised_is_tried_again(bootstrap: str, topic: str) -> None:
    config = configured("Recorder")
    seen = SEEN[config.id]
    seen.open_fails = 1
    await write(bootstrap, topic, [progress("a", 1)])
    async with running(DeliveryService(Cluster.of(bootstrap), [config], topic=topic)) as service:
        assert service.status()[0].state == "failed"
        assert "not plugged in" in (service.status()[0].error or "")
        await until(lambda: seen.events == [("a", 1)], "the event, after the second open")
        assert service.status()[0].restarts == 1
        assert service.status()[0].state == "running"


async def test_a_plain_function_is_a_subscriber(bootstrap: str, topic: str) -> None:
    SEEN["plain"].events.clear()
    config = SubscriberConfig(use="tests.delivery.plugins:plain", id=unique("plain"), start_from="earliest")
    await write(bootstrap, topic, [progress("a", 1), completed("a", 2)])
    async with running(DeliveryService(Cluster.of(bootstrap), [config], topic=topic)):
        await until(lambda: SEEN["plain"].events, "the event")
    assert SEEN["plain"].events == [("a", 2)]


async def test_a_topic_that_does_not_exist_yet_is_waited_for(bootstrap: str) -> None:
    config = configured("Recorder")
    name = unique("later")
    service = DeliveryService(Cluster.of(bootstrap), [config], topic=name)
    await service.start()
    try:
        await until(lambda: service.status()[0].state == "waiting", "its state told")
        await create_topic(bootstrap, name)
        await write(bootstrap, name, [progress("a", 1)])
        await until(lambda: SEEN[config.id].events, "the event")
    finally:
        await service.stop()


async def test_several_delivery_processes_share_the_partitions_and_lose_nothing_when_one_leaves(bootstrap: str) -> None:
    name = unique("events")
    await create_topic(bootstrap, name, 4)
    config = configured("Recorder")
    seen = SEEN[config.id]

    def place(key: bytes) -> int:
        return int(key[1:]) % 4

    async with running(DeliveryService(Cluster.of(bootstrap), [config], topic=name)) as first:
        await write(bootstrap, name, [progress(f"t{n}", 1) for n in range(40)], partition_of=place)
        async with running(DeliveryService(Cluster.of(bootstrap), [config], topic=name)) as second:
            await until(
                lambda: sorted(len(one.status()[0].partitions) for one in (first, second)) == [2, 2], "two partitions each", 30
            )
            await write(bootstrap, name, [progress(f"t{n}", 2) for n in range(40)], partition_of=place)
            await until(lambda: len(set(seen.events)) == 80, "80 events")
            assert first.status()[0].delivered
            assert second.status()[0].delivered
        await write(bootstrap, name, [progress(f"t{n}", 3) for n in range(40)], partition_of=place)
        await until(lambda: len(set(seen.events)) == 120, "120 events", 60)
        await until(lambda: len(first.status()[0].partitions) == 4, "all partitions back")
    for task in range(40):
        assert list(dict.fromkeys(seen.of(f"t{task}"))) == [1, 2, 3]


async def test_stopping_while_handlers_run_ends_them_and_commits(bootstrap: str, topic: str) -> None:
    config = configured("Progress")
    await write(bootstrap, topic, [progress(f"t{n}", 1) for n in range(400)])
    async with running(DeliveryService(Cluster.of(bootstrap), [config], topic=topic)):
        await until(lambda: len(SEEN[config.id].events) > 20, "some")
    done = len(SEEN[config.id].events)
    committed = await committed_offset(bootstrap, config.group, topic)
    assert committed is not None
    assert done - 4 <= committed <= done
    await asyncio.sleep(0)
    assert len(SEEN[config.id].events) == done, "nothing runs after stop"
