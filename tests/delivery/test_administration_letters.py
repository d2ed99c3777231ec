"""Dead letters: read, retried, dropped."""

from typing import Any

import pytest

from hub.delivery import DeliveryService, SubscriberConfig, SubscriberPlan, load
from hub.delivery.administration import (
    Choice,
    LetterBox,
    Retried,
    StoredLetter,
    describe_subscribers,
    drop_letters,
    known_ids,
    retry_letters,
)
from hub.delivery.administration.letters import letter_of
from hub.delivery.config import plan
from hub.kafka import Cluster, StoredRecord, describe_offsets
from schemas import Event
from subscribers import Unavailable, on
from tests.brokers import unique

from .event_log import create_topic, progress, running, write
from .plugins import SEEN, Recorder
from .waiting import until

ALL = Choice()


class Offline(Recorder):
    """Its destination is unavailable when it gets an event in `poison`."""

    name = "offline"

    @on("*")
    async def any_event(self, event: Event) -> None:  # type: ignore[override]  # called by its own signature, as every handler
        if (event.subject, event.sequence) in self.seen.poison:
            raise Unavailable("maintenance until noon")
        self.seen.events.append((event.subject, event.sequence))


def plan_of(config: SubscriberConfig, use: str = "") -> SubscriberPlan:
    changed = config.model_copy(update={"use": use or config.use})
    return plan(changed, load(changed.use))


async def letters_of(bootstrap: str, config: SubscriberConfig, choice: Choice = ALL) -> list[StoredLetter]:
    return [one async for one in LetterBox(Cluster.of(bootstrap), config.id).letters(choice)]


@pytest.fixture
async def config(bootstrap: str) -> SubscriberConfig:
    """A subscriber with five dead letters: sequences 1 to 5 of the task `bad`."""
    topic, id = unique("events"), unique("recorder")
    await create_topic(bootstrap, topic)
    config = SubscriberConfig(
        use="tests.delivery.plugins:Recorder",
        id=id,
        settings={"tag": id},
        start_from="earliest",
        delivery={"retry": {"initial": 0.01, "timeout": 0}, "max_event_age": "3h"},
    )
    seen = SEEN[id]
    seen.poison = {("bad", number) for number in range(1, 6)}
    await write(bootstrap, topic, [progress("bad", number) for number in range(1, 6)])
    async with running(DeliveryService(Cluster.of(bootstrap), [config], topic=topic)) as service:
        await until(lambda: service.status()[0].dead_lettered == 5, "the dead letters")
    return config


async def test_a_dead_letter_is_read_with_its_reasons_and_its_original_record(bootstrap: str, config: SubscriberConfig) -> None:
    found = await letters_of(bootstrap, config)
    assert [one.place for one in found] == [(0, number) for number in range(5)]
    first = found[0]
    assert (first.type, first.subject, first.cut_bytes) == ("task.progressed", "bad", None)
    assert (first.original.partition, first.original.offset) == (0, 0)
    assert first.reasons["dlq_error"] == "ValueError: cannot stand bad 1"
    assert not [name for name, _ in first.original.headers if name.startswith("dlq_")]
    assert await letters_of(bootstrap, config, Choice((0, 3), "task.progressed")) == [found[3]]
    assert await letters_of(bootstrap, config, Choice(None, "workflow.*")) == []
    assert config.id in await known_ids(Cluster.of(bootstrap))


async def test_retried_dead_letters_are_first_deliveries_and_those_that_fail_again_remain(
    bootstrap: str, config: SubscriberConfig
) -> None:
    seen, cluster, reported = SEEN[config.id], Cluster.of(bootstrap), list[Retried]()
    seen.poison = {("bad", 3)}
    numbers = await retry_letters(cluster, plan_of(config), ALL, reported.append)
    assert (numbers[True], numbers[False]) == (4, 1)
    assert seen.of("bad") == [1, 2, 4, 5]
    assert {(meta.replay, meta.attempt) for meta in seen.metas} == {(False, 1)}
    assert {meta.offset for meta in seen.metas} == {0, 1, 3, 4}, "positions on the log, not in the topic of dead letters"
    assert [one.error for one in reported if one.error] == ["ValueError: cannot stand bad 3"]
    assert [one.place for one in await letters_of(bootstrap, config)] == [(0, 2)], "no second record was written"
    assert (await describe_offsets(cluster, config.dead_letter_topic))[0] == (2, 5), "the first two are deleted"
    (known,) = await describe_subscribers(cluster, [], topic=config.dead_letter_topic, only=config.id)
    assert known.dead_letters == 1

    seen.poison = set()
    assert (await retry_letters(cluster, plan_of(config), ALL, reported.append))[True] == 1
    assert (await describe_offsets(cluster, config.dead_letter_topic))[0] == (5, 5)
    assert await letters_of(bootstrap, config) == []


async def test_dropped_dead_letters_are_hidden_and_later_ones_are_not(bootstrap: str, config: SubscriberConfig) -> None:
    cluster = Cluster.of(bootstrap)
    assert await drop_letters(cluster, config.id, Choice((0, 1))) == 1
    assert await drop_letters(cluster, config.id, Choice((0, 1))) == 0, "it was dropped before"
    assert [one.place[1] for one in await letters_of(bootstrap, config)] == [0, 2, 3, 4]
    assert (await describe_offsets(cluster, config.dead_letter_topic))[0].start == 0
    assert await drop_letters(cluster, config.id, ALL) == 4
    await write(bootstrap, config.dead_letter_topic, [progress("bad", 6)])
    assert len(await letters_of(bootstrap, config)) == 1


async def test_a_retry_ends_while_the_destination_is_unavailable(bootstrap: str, config: SubscriberConfig) -> None:
    SEEN[config.id].poison = {("bad", 2)}
    reported: list[Retried] = []
    offline = plan_of(config, f"{__name__}:Offline")
    numbers = await retry_letters(Cluster.of(bootstrap), offline, ALL, reported.append)
    assert SEEN[config.id].events[:1] == [("bad", 1)]
    assert numbers[True] == 1
    assert {one.error for one in reported} == {None, "the destination is unavailable"}
    assert [one.place[1] for one in await letters_of(bootstrap, config)] == [1, 2, 3, 4]


async def test_what_cannot_be_delivered_is_reported_and_remains(bootstrap: str, config: SubscriberConfig) -> None:
    cut = [("ce_type", b"task.progressed"), ("dlq_subscriber", b"x"), ("dlq_cut_from", b"900000")]
    await write(bootstrap, config.dead_letter_topic, [(b"bad", b"{", cut)])
    SEEN[config.id].poison = set()
    narrowed = config.model_copy(update={"filter": {"exact": {"type": "task.ready"}}})
    reported: list[Any] = []
    numbers = await retry_letters(Cluster.of(bootstrap), plan_of(narrowed), ALL, lambda one: reported.append(one.error))
    assert (numbers[True], numbers[False]) == (0, 6)
    assert reported[0] == "the types and the filter of the subscriber do not select it"
    assert reported[5].startswith("it was truncated from 900,000 bytes")
    assert len(await letters_of(bootstrap, config)) == 6


async def test_an_old_event_is_retried_although_it_is_older_than_the_maximum_age(
    bootstrap: str, config: SubscriberConfig
) -> None:
    """An operator asked for it; otherwise it would be acknowledged without the handler, and marked as retried."""
    SEEN[config.id].poison = set()
    aged = config.model_copy(update={"delivery": {"max_event_age": 0}, "types": {"task.*": {"max_event_age": 0, "sample": 0}}})
    numbers = await retry_letters(Cluster.of(bootstrap), plan_of(aged), ALL, lambda _: None)
    assert numbers[True] == 5
    assert SEEN[config.id].of("bad") == [1, 2, 3, 4, 5]


def test_only_the_headers_that_delivery_added_are_reasons() -> None:
    headers = [("dlq_subscriber", b"of the event"), ("ce_type", b"x"), ("dlq_subscriber", b"s"), ("dlq_value_was_null", b"1")]
    letter = letter_of(1, StoredRecord(7, 1, None, b"", [*headers, ("dlq_offset", b"no number")]))
    assert letter.original.headers == (("dlq_subscriber", b"of the event"), ("ce_type", b"x"))
    assert (letter.original.value, letter.original.offset, letter.reasons["dlq_subscriber"]) == (None, -1, "s")
