"""Logs whose beginning was removed by retention, DeleteRecords or compaction: no false findings, and violations in the
retained part are still found."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from aiokafka.admin import RecordsToDelete
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.broker import BrokerServer
from hub.kafka import Cluster, OffsetOutOfRange, TopicPartition, make_admin
from hub.verify import Checker, History, LocalSource, LogRecord, Span, VerificationReport, check, verify, verify_source
from hub.verify.kafka_source import KafkaSource, kafka_source

from .conftest import PARTITIONS
from .log_builder import INBOX, Entry, LogBuilder
from .scenarios import good_log
from .test_bad_histories import fresh
from .test_embedded_broker import write
from .test_tampering import LOGS

COMMANDS = "hub.commands.default"


def begin_at(history: History, topic: str, records: dict[int, Any], cuts: dict[int, int]) -> dict[int, Any]:
    """Without the first so many records of each partition; the history says where the topic begins now."""
    kept = {number: rows[cuts.get(number, 0) :] for number, rows in records.items()}
    ends = {number: rows[-1].offset + 1 if rows else 0 for number, rows in records.items()}
    begins = {number: rows[0].offset if rows else ends[number] for number, rows in kept.items() if cuts.get(number)}
    history.starts = {**history.starts, topic: begins}
    return kept


def cut_history(log: LogBuilder, *, events: int = 0, intake: int = 0, commands: int = 0) -> History:
    """The log without so many records of the first partition of each topic."""
    history: Any = log.history()
    history.events = begin_at(history, "hub.events", history.events, {0: events})
    history.intake = begin_at(history, "hub.intake", history.intake, {0: intake})
    history.commands = {COMMANDS: begin_at(history, COMMANDS, history.commands[COMMANDS], {INBOX: commands})}
    return history  # type: ignore[no-any-return]  # its parts are known to be lists


@settings(max_examples=150, deadline=None)
@given(LOGS, st.data())
def test_nothing_is_found_wherever_each_topic_begins(log: LogBuilder, data: st.DataObject) -> None:
    history: Any = log.history(acknowledged=[task.id for task in log.tasks.values() if task.id == task.root])

    def cuts(records: dict[int, Any]) -> dict[int, int]:
        return {number: data.draw(st.integers(0, len(rows))) for number, rows in records.items()}

    history.events = begin_at(history, "hub.events", history.events, cuts(history.events))
    history.intake = begin_at(history, "hub.intake", history.intake, cuts(history.intake))
    begun = cuts(history.commands[COMMANDS])
    history.commands = {COMMANDS: begin_at(history, COMMANDS, history.commands[COMMANDS], begun)}
    report = check(history)
    assert report.ok, report.render()


def test_the_report_says_how_much_was_checked_only_in_part() -> None:
    log = good_log(1)
    whole, cut = check(log.history()), check(cut_history(log, events=40, commands=4))
    assert (whole.starts, whole.partial_tasks, whole.partial_records) == ({}, 0, 0)
    assert cut.ok, cut.render()
    assert set(cut.starts) == {"hub.events", COMMANDS}
    assert cut.partial_tasks > 5
    assert cut.partial_records > 0
    assert f"{cut.partial_tasks} tasks" in cut.render()
    assert cut.to_dict()["starts"]["hub.events"] == {"0": cut.starts["hub.events"][0]}


def cut_in_the_middle_of(log: LogBuilder, task: str, before: str) -> History:
    """The log from the first event of this type of the task on: what was before is gone."""
    events = log.partitions[0].events
    at = next(place for place, entry in enumerate(events) if entry.type == before and entry.headers["ce_subject"] == task)
    return cut_history(log, events=at)


def kept_from(before: str) -> tuple[LogBuilder, Entry]:
    """A log whose task `late` begins with this type in the kept part; and its last event."""
    log = good_log(1)
    task = fresh(log)
    log.started(task)
    log.told(task, "attempt.progressed", ("task.progressed", {"percent": 5.0}))
    log.completed(task)
    assert check(cut_in_the_middle_of(log, "late", before)).ok
    return log, log.event("late", "task.completed")


def found_in(log: LogBuilder, before: str) -> VerificationReport:
    return check(cut_in_the_middle_of(log, "late", before))


@pytest.mark.parametrize("before", ["task.ready", "task.dispatched", "task.started", "task.progressed"])
def test_a_gap_in_a_task_whose_beginning_is_gone_is_found(before: str) -> None:
    log, last = kept_from(before)
    last.body["sequence"] += 1
    last.headers["ce_sequence"] = f"{last.body['sequence']:010d}"
    assert "I3" in found_in(log, before).counts


@pytest.mark.parametrize("before", ["task.ready", "task.dispatched", "task.started"])
def test_a_wrong_state_in_a_task_whose_beginning_is_gone_is_found(before: str) -> None:
    log, last = kept_from(before)
    last.body["from"] = "ready"
    assert "T1" in found_in(log, before).counts


@pytest.mark.parametrize("before", ["task.ready", "task.dispatched"])
def test_a_foreign_report_on_an_attempt_whose_dispatch_is_kept_is_found(before: str) -> None:
    log, last = kept_from(before)
    last.data["worker"] = "w2"
    assert "I16" in found_in(log, before).counts


def test_a_creation_that_the_kept_part_should_have_and_has_not_is_found() -> None:
    """`hub.intake` is decided in order: what a later record began has its beginning in the kept part."""
    log = good_log(1)
    log.submit("first")
    log.submit("second")
    log.partitions[0].events.remove(log.event("second", "task.created"))
    assert "I3" in check(cut_in_the_middle_of(log, "first", "task.created")).counts


def test_a_command_that_the_kept_part_should_have_and_has_not_is_found() -> None:
    log = good_log(1)
    del log.commands[-1]
    assert set(check(cut_history(log, commands=4)).counts) == {"I23"}
    log = good_log(1)
    log.partitions[0].events.remove(log.event("plain-again", "task.dispatched"))
    assert "I23" in check(cut_history(log, events=30)).counts


def test_a_step_made_after_its_workflow_ended_is_found() -> None:
    log = good_log(1)
    log.workflow("flow", {"a": []})
    log.finish_workflow("flow", "workflow.cancelled")
    log.add_steps("flow", {"b": []})
    assert "I8" in check(cut_history(log, events=30)).counts


def test_an_intake_that_was_trimmed_past_what_is_decided_is_found() -> None:
    log = good_log(1)
    log.report(0, "task.created", "lost", {"name": "charge"})
    log.report(0, "task.created", "kept", {"name": "charge"})
    state = log.state()
    decided = len(log.partitions[0].intake) - 2
    state[0][b"!meta"] = b'{"offset":%d,"epoch":%d}' % (decided, log.partitions[0].epoch)
    right, wrong = cut_history(log, intake=decided), cut_history(log, intake=decided + 1)
    right.state = wrong.state = state
    assert check(right).ok
    assert set(check(wrong).counts) == {"I31"}


async def test_a_running_broker_that_removed_the_beginning_is_checked(broker: BrokerServer) -> None:
    log = good_log(PARTITIONS)
    await write(broker.local, log)
    admin = make_admin(Cluster.of(broker.bootstrap))
    await admin.start()
    before = {TopicPartition("hub.events", 0): 41, TopicPartition("hub.intake", 0): 5, TopicPartition(COMMANDS, INBOX): 3}
    await admin.delete_records({place: RecordsToDelete(before_offset=offset) for place, offset in before.items()})
    await admin.close()
    for report in (await verify_source(LocalSource(broker.local)), await verify(Cluster.of(broker.bootstrap))):
        assert report.ok, report.render()
        assert report.starts == {"hub.events": {0: 41}, "hub.intake": {0: 5}, COMMANDS: {INBOX: 3}}
        assert report.partial_tasks > 0


@settings(max_examples=150, deadline=None)
@given(LOGS, st.data())
def test_nothing_is_found_wherever_records_are_removed_before_they_are_read(log: LogBuilder, data: st.DataObject) -> None:
    history: Any = log.history(acknowledged=[task.id for task in log.tasks.values() if task.id == task.root])
    checker = Checker(history.partitions, acknowledged=history.acknowledged)
    checker.inputs |= {"state", "commands", "intake"}

    def read(topic: str, records: dict[int, Any], take: Callable[[int, Any], None]) -> None:
        for partition, rows in records.items():
            first = data.draw(st.integers(0, len(rows)))
            after = data.draw(st.integers(first, len(rows)))
            for row in rows[:first]:
                take(partition, row)
            if after > first:
                checker.removed(topic, partition, rows[after].offset if after < len(rows) else rows[-1].offset + 1)
            for row in rows[after:]:
                take(partition, row)

    read("hub.events", history.events, checker.event)
    read(COMMANDS, history.commands[COMMANDS], lambda partition, row: checker.command(COMMANDS, partition, row))
    for partition, rows in history.state.items():
        for key, value in rows.items():
            checker.row(partition, key, value)
    read("hub.intake", history.intake, checker.intake_record)
    report = checker.finish()
    assert report.ok, report.render()


async def remove(broker: BrokerServer, offset: int, topic: str = "hub.events") -> None:
    """What retention does to the topic's partition 0."""
    admin = make_admin(Cluster.of(broker.bootstrap))
    await admin.start()
    await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=offset)})
    await admin.close()


class Retained(LocalSource):
    """The beginning of `hub.events-0` is removed while it is read: each time that somebody looks where it ends."""

    async def spans(self, topic: str) -> dict[int, Span]:
        found = await super().spans(topic)
        if topic == "hub.events" and found[0].start < found[0].committed:
            await self._broker.delete_records(topic, 0, min(found[0].start + 7, found[0].committed))
        return found


async def test_a_beginning_that_is_removed_faster_than_it_is_read_leaves_what_is_there(broker: BrokerServer) -> None:
    """A look says where the topic begins; when it is read, its first records are gone. In the end nothing of partition 0
    is left."""
    log = good_log(PARTITIONS)
    await write(broker.local, log)
    report = await verify_source(Retained(broker.local))
    assert report.ok, report.render()
    assert report.starts == {"hub.events": {0: broker.local.end("hub.events", 0)}}
    assert report.events == sum(len(partition.events) for partition in log.partitions[1:])


class Trimmed(LocalSource):
    """An engine that deletes the intake while the check reads: so many records of partition 0 with each look at `topic`."""

    def __init__(self, broker: BrokerServer, topic: str, steps: int) -> None:
        super().__init__(broker.local)
        self._server, self._topic, self._steps = broker, topic, steps
        self.removed = 0

    async def spans(self, topic: str) -> dict[int, Span]:
        if topic == self._topic:
            intake = (await super().spans("hub.intake"))[0]
            self.removed = min(intake.start + self._steps, intake.committed)
            await remove(self._server, self.removed, "hub.intake")
        return await super().spans(topic)


@pytest.mark.parametrize("topic", ["hub.events", "hub.state", "hub.intake"])
@pytest.mark.parametrize("steps", [1, 3, 1000])
async def test_an_intake_that_is_deleted_while_the_other_topics_are_read(broker: BrokerServer, topic: str, steps: int) -> None:
    log = good_log(PARTITIONS)
    await write(broker.local, log)
    source = Trimmed(broker, topic, steps)
    report = await verify_source(source)
    assert report.ok, report.render()
    begins = report.starts["hub.intake"][0]
    assert 0 < begins <= source.removed
    assert report.intake_records == sum(len(partition.intake) for partition in log.partitions) - begins


async def test_a_partition_that_lost_its_end_is_an_error(broker: BrokerServer) -> None:
    """It was recreated, say: to continue at its first record would read the same offsets twice."""

    class Recreated(LocalSource):
        async def spans(self, topic: str) -> dict[int, Span]:
            return {number: span._replace(committed=span.end + 5) for number, span in (await super().spans(topic)).items()}

        def read(self, topic: str, partition: int, start: int, end: int) -> AsyncIterator[Sequence[LogRecord]]:
            return super().read(topic, partition, end, end + 1)

    await write(broker.local, good_log(PARTITIONS))
    with pytest.raises(OffsetOutOfRange, match=r"hub\.events-0"):
        await verify_source(Recreated(broker.local))


async def test_over_the_network_a_removed_record_is_out_of_range(broker: BrokerServer) -> None:
    await write(broker.local, good_log(PARTITIONS))
    await remove(broker, 20)

    async def read_all_of(source: KafkaSource) -> None:
        async for records in source.read("hub.events", 0, 5, 30):
            assert not records, "a poll that brings nothing may come first"

    async with kafka_source(Cluster.of(broker.bootstrap)) as source:
        with pytest.raises(OffsetOutOfRange, match=r"hub\.events-0"):
            await read_all_of(source)


def test_a_worker_is_not_accused_for_what_it_may_have_announced_before_the_intake_begins() -> None:
    log = good_log(1)
    log.define(0, "w2", "paid")
    earlier = log.partitions[0].intake[-1]
    log.define(0, "w2", "paid", version="2")
    begin = len(log.partitions[0].intake)
    log.report(0, "worker.registered", "w2", earlier.body)  # delivered again, late
    log.dispatch(log.submit("late", name="paid", version="2"), "w2")
    assert check(log.history()).ok
    report = check(cut_history(log, intake=begin))
    assert report.ok, report.render()


def test_a_worker_whose_first_report_is_kept_is_checked_for_what_it_announced() -> None:
    log = good_log(1)
    log.define(0, "w1", "paid", version="2")
    begin = len(log.partitions[0].intake)
    log.worker("w3")
    log.partitions[0].announced["w3"] = [{"name": "paid"}]
    log.dispatch(log.submit("late", name="paid", version="2"), "w3")
    assert "D2" in check(cut_history(log, intake=begin)).counts
