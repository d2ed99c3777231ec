"""What a sender does when requests, responses, leaders and identities are lost. The brokers are scripted; their logs recognise
repeated batches as Apache Kafka's do."""

import asyncio
import logging
import random
from collections.abc import Sequence

import pytest

from hub.kafka import (
    BrokerUnreachable,
    Cluster,
    PartitionUnavailable,
    RecordRejected,
    RecordTooLarge,
    Sender,
    TopicPartition,
)
from hub.protocol import ErrorCode
from tests.components.running import until
from tests.ports import free_port

from .scripted import (
    ScriptedCluster,
    Step,
    answer_nonsense,
    forget_producers,
    lose_answer,
    lose_request,
    move_leader,
    numbers,
    outgoing,
    refuse,
    scripted,
    sending,
    stay_silent,
    store,
    store_but_answer,
)

SECONDS = 60.0


async def post_each(sender: Sender, values: Sequence[bytes], partition: int = 0) -> list[bytes]:
    """Post each value in a turn of the loop of its own; returns a list that grows as they are settled."""
    settled: list[bytes] = []
    for value in values:
        await sender.post(outgoing(value, partition), lambda value=value: settled.append(value))  # type: ignore[misc]
        await asyncio.sleep(0)
    return settled


async def test_records_of_one_turn_are_one_request_and_metadata_is_asked_once(one: ScriptedCluster) -> None:
    async with sending(one) as sender:
        for number in range(3):
            await sender.send(outgoing(b"first", number))
        assert one.asked == ["InitProducerId", "Metadata"]
        one.requests.clear()
        for number, value in enumerate(numbers(9)):
            await sender.post(outgoing(value, number % 3))
        assert await sender.flush(timeout_seconds=SECONDS)
    assert [set(batches) for _, batches in one.requests] == [set(one.logs)]
    assert [one.values(number) for number in range(3)] == [[b"first", *numbers(9)[number::3]] for number in range(3)]
    assert one.asked == ["InitProducerId", "Metadata"]


async def test_records_that_linger_are_sent_together(one: ScriptedCluster) -> None:
    async with sending(one, linger_ms=20) as sender:
        await sender.send(outgoing(b"first"))
        await post_each(sender, numbers(30))
        assert await sender.flush(timeout_seconds=SECONDS)
    assert one.values() == [b"first", *numbers(30)]
    assert len(one.requests) < 10


FAULTS: dict[str, Step] = {
    "lost answer": lose_answer,
    "lost request": lose_request,
    "no answer": stay_silent,
    "malformed answer": answer_nonsense,
    "leader moved": move_leader,
    "not enough replicas": refuse(ErrorCode.NOT_ENOUGH_REPLICAS),
    "not enough replicas after append": store_but_answer(ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND),
    "replicas too slow": store_but_answer(ErrorCode.REQUEST_TIMED_OUT),
    "leader not ready": refuse(ErrorCode.LEADER_NOT_AVAILABLE),
    "topic not known yet": refuse(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
    "disk full": refuse(ErrorCode.KAFKA_STORAGE_ERROR),
    "not allowed yet": refuse(ErrorCode.TOPIC_AUTHORIZATION_FAILED),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
async def test_each_record_is_stored_once_and_in_order_in_spite_of(two: ScriptedCluster, fault: Step) -> None:
    two.script.extend([store, store, fault, store, fault])
    async with sending(two, request_seconds=0.3) as sender:
        settled = await post_each(sender, numbers(40))
        assert await sender.flush(timeout_seconds=SECONDS)
    assert settled == numbers(40)
    assert two.values() == numbers(40)
    assert two.ids_assigned == 1


async def test_what_is_sent_again_is_the_same_batch(one: ScriptedCluster) -> None:
    one.script.extend([lose_answer, lose_request, refuse(ErrorCode.NOT_ENOUGH_REPLICAS)])
    async with sending(one) as sender:
        await sender.send(outgoing(b"value"))
    first, *again = one.batches()
    assert again == [first] * 3
    assert one.values() == [b"value"]


async def test_a_repetition_that_the_broker_names_so_is_stored(one: ScriptedCluster) -> None:
    one.script.extend([lose_answer, refuse(ErrorCode.DUPLICATE_SEQUENCE_NUMBER)])
    async with sending(one) as sender:
        await sender.send(outgoing(b"value"))
        await sender.send(outgoing(b"next"))
    assert one.values() == [b"value", b"next"]


@pytest.mark.parametrize("after", [1, 40, 150])
async def test_a_connection_cut_in_the_middle_of_a_request_costs_nothing(one: ScriptedCluster, after: int) -> None:
    async with sending(one) as sender:
        await sender.send(outgoing(b"first"))
        one.cut_request_after = after
        await asyncio.gather(*(sender.send(outgoing(value * 50, number)) for number, value in enumerate(numbers(3))))
    assert [one.values(number)[-1] for number in range(3)] == [value * 50 for value in numbers(3)]


@pytest.mark.parametrize(
    "fault",
    [
        forget_producers,
        refuse(ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER),
        refuse(ErrorCode.INVALID_PRODUCER_EPOCH),
        refuse(ErrorCode.INVALID_PRODUCER_ID_MAPPING),
    ],
    ids=["unknown producer id", "out of order", "epoch", "mapping"],
)
async def test_a_partition_that_does_not_know_the_producer_gets_a_new_one_and_everything_in_order(
    one: ScriptedCluster, fault: Step, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "hub.kafka.routing")
    async with sending(one) as sender:
        await sender.send(outgoing(b"before"))
        await sender.send(outgoing(b"other", 1))
        one.script.append(fault)
        settled = await post_each(sender, numbers(20))
        assert await sender.flush(timeout_seconds=SECONDS)
        assert settled == numbers(20)
        await sender.send(outgoing(b"again", 1))
    assert one.values(0) == [b"before", *numbers(20)]
    assert one.values(1) == [b"other", b"again"]
    assert one.ids_assigned == 2
    assert len(one.logs[TopicPartition("t", 1)].producers) == 1, "the other partition keeps its identity"
    assert "new producer id" in caplog.text


async def test_a_batch_that_is_too_large_is_divided_until_it_fits(one: ScriptedCluster) -> None:
    one.logs[TopicPartition("t", 0)].bytes_max = 500
    values = [value * 10 for value in numbers(90, 10)]
    async with sending(one) as sender:
        await sender.send_many([outgoing(value) for value in values])
        await sender.send(outgoing(b"after"))
    assert one.values() == [*values, b"after"]


async def test_only_a_record_that_is_too_large_alone_is_given_up(one: ScriptedCluster, caplog: pytest.LogCaptureFixture) -> None:
    one.logs[TopicPartition("t", 0)].bytes_max = 500
    values = [*numbers(5), b"x" * 600, *numbers(5, 5)]
    async with sending(one) as sender:
        settled = await post_each(sender, values)
        assert await sender.flush(timeout_seconds=SECONDS)
        assert sorted(settled) == sorted(values)
        assert one.values() == numbers(10)
        with pytest.raises(RecordTooLarge, match="A record for t has about 600 bytes"):
            await sender.send_many([outgoing(value) for value in (b"a", b"x" * 600, b"b")])
        assert one.values() == [*numbers(10), b"a", b"b"]
        with pytest.raises(RecordTooLarge):
            await sender.post(outgoing(b"x" * (8 << 20)))
    assert caplog.text.count("record rejected") == 1


async def test_a_record_that_the_broker_rejects_is_reported_and_the_others_are_stored(
    one: ScriptedCluster, caplog: pytest.LogCaptureFixture
) -> None:
    async with sending(one) as sender:
        await sender.send(outgoing(b"first"))
        one.script.append(refuse(ErrorCode.INVALID_RECORD, of=0))
        with pytest.raises(RecordRejected, match=rf"t-0, {one.brokers[0].address}, rejected a record \(INVALID_RECORD\)"):
            await sender.send_many([outgoing(b"bad"), outgoing(b"good", 1)])
        one.logs[TopicPartition("t", 0)].refused.add(b"bad")
        await asyncio.gather(*(sender.post(outgoing(value)) for value in [*numbers(10), b"bad", *numbers(10, 10)]))
        assert await sender.flush(timeout_seconds=SECONDS)
    assert one.values(0) == [b"first", *numbers(20)]
    assert one.values(1) == [b"good"]
    assert caplog.text.count("record rejected action=record_refused") == 1


async def test_a_partition_without_a_leader_does_not_hold_up_the_others(one: ScriptedCluster) -> None:
    one.leaders[TopicPartition("t", 0)] = None
    async with sending(one) as sender:
        waiting = await post_each(sender, numbers(3))
        await sender.send_many([outgoing(value, 1) for value in numbers(3)])
        with pytest.raises(PartitionUnavailable, match="t-0 has no leader now") as unavailable:
            await sender.send(outgoing(b"late"), timeout_seconds=0.1)
        assert unavailable.value.leader is None
        assert waiting == []
        one.leaders[TopicPartition("t", 0)] = 0
        assert await sender.flush(timeout_seconds=SECONDS)
    assert one.values(0) == numbers(3), "what nobody waits for any longer is not sent"


async def test_a_killed_leader_is_followed_by_the_next_one(two: ScriptedCluster) -> None:
    async with sending(two) as sender:
        await sender.send(outgoing(b"first"))
        two.brokers[0].kill()
        with pytest.raises(PartitionUnavailable, match="does not respond.*waiting for a new leader") as unavailable:
            await sender.send(outgoing(b"late"), timeout_seconds=0.2)
        assert unavailable.value.leader == two.brokers[0].address
        assert "No Kafka broker responds" not in str(unavailable.value)
        two.leaders = dict.fromkeys(two.leaders, 1)
        await sender.send(outgoing(b"second"))
        await sender.send(outgoing(b"elsewhere", 2))
    assert [value for value in two.values() if value != b"late"] == [b"first", b"second"]
    assert two.values(2) == [b"elsewhere"]


async def test_the_only_broker_is_named_when_it_is_away_and_everything_is_sent_when_it_is_back(one: ScriptedCluster) -> None:
    async with sending(one) as sender:
        await sender.send(outgoing(b"first"))
        one.brokers[0].kill()
        settled = await post_each(sender, numbers(20))
        with pytest.raises(BrokerUnreachable, match=rf"No Kafka broker responds at {one.brokers[0].address}"):
            await sender.send(outgoing(b"late", 1), timeout_seconds=0.1)
        assert not await sender.flush(timeout_seconds=0)
        await one.brokers[0].start()
        assert await sender.flush(timeout_seconds=SECONDS)
        assert settled == numbers(20)
    assert one.values() == [b"first", *numbers(20)]


async def test_a_broker_that_is_busy_is_named_as_connected(one: ScriptedCluster) -> None:
    async with sending(one) as sender:
        await sender.send(outgoing(b"first"))
        one.script.append(stay_silent)
        with pytest.raises(PartitionUnavailable, match=r"is connected but did not acknowledge within 0\.1 s") as unavailable:
            await sender.send(outgoing(b"second"), timeout_seconds=0.1)
        assert unavailable.value.leader == one.brokers[0].address


async def test_addresses_that_do_not_respond_are_skipped(one: ScriptedCluster) -> None:
    async with scripted() as mute:
        mute.brokers[0].hung.set()
        addresses = f"127.0.0.1:{free_port()},{mute.brokers[0].address},{one.brokers[0].address}"
        sender = Sender(one.cluster(addresses=Cluster.of(addresses).addresses, request_seconds=0.2))  # type: ignore[arg-type]
        await sender.start()
        await sender.send(outgoing(b"value"))
        await sender.stop()
        with pytest.raises(BrokerUnreachable, match="did not respond"):
            await Sender(mute.cluster(request_seconds=0.2)).start()
    assert one.values() == [b"value"]


async def test_an_identity_that_is_not_available_yet_is_asked_for_again(one: ScriptedCluster) -> None:
    one.id_errors.extend([ErrorCode.COORDINATOR_NOT_AVAILABLE, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS])
    async with sending(one) as sender:
        await sender.send(outgoing(b"value"))
    assert one.values() == [b"value"]


async def test_a_call_of_send_that_is_under_way_when_the_sender_stops_raises(one: ScriptedCluster) -> None:
    one.script.append(stay_silent)
    sender = Sender(one.cluster())
    await sender.start()
    settled = await post_each(sender, [b"posted"])
    call = asyncio.create_task(sender.send(outgoing(b"value")))
    await until(lambda: bool(one.requests))
    await sender.stop()
    with pytest.raises(Exception, match="was stopped before"):
        await call
    assert settled == []


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_each_record_is_stored_once_and_in_order(seed: int) -> None:
    """Random faults that leave the identity as it is, with several partitions and brokers."""
    chance = random.Random(seed)
    async with scripted(brokers=3, partitions=3) as cluster:
        cluster.leaders = {place: place.partition for place in cluster.leaders}
        faults = [*FAULTS.values()]
        cluster.script.extend(chance.choice(faults) if chance.random() < 0.3 else store for _ in range(60))
        settled: list[tuple[int, bytes]] = []
        async with sending(cluster, request_seconds=0.2) as sender:
            for value in numbers(300):
                place = chance.randrange(3)
                await sender.post(
                    outgoing(value, place),
                    lambda place=place, value=value: settled.append((place, value)),  # type: ignore[misc]
                )
                if chance.random() < 0.5:
                    await asyncio.sleep(chance.choice([0, 0, 0.001]))
            assert await sender.flush(timeout_seconds=SECONDS)
        assert cluster.ids_assigned == 1
        stored = [value for place in range(3) for value in cluster.values(place)]
        assert sorted(stored) == sorted(numbers(300))
        for place in range(3):
            assert cluster.values(place) == sorted(cluster.values(place), key=int)
            assert [value for where, value in settled if where == place] == cluster.values(place)


@pytest.mark.parametrize("seed", range(4))
async def test_with_lost_identities_too_nothing_is_lost_and_the_first_copies_are_in_order(seed: int) -> None:
    chance = random.Random(100 + seed)
    faults = [*FAULTS.values(), forget_producers, forget_producers, refuse(ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER)]
    async with scripted(brokers=2, partitions=1) as cluster:
        cluster.script.extend(chance.choice(faults) if chance.random() < 0.3 else store for _ in range(60))
        async with sending(cluster, request_seconds=0.2) as sender:
            for value in numbers(200):
                await sender.post(outgoing(value))
                if chance.random() < 0.5:
                    await asyncio.sleep(0)
            assert await sender.flush(timeout_seconds=SECONDS)
        assert list(dict.fromkeys(cluster.values())) == numbers(200)
