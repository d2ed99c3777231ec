"""Our encoding against kio's, for every API and version that is served."""

import enum
import io
import random
import uuid
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
from kio.schema.errors import ErrorCode as KioErrorCode
from kio.serial import entity_reader, entity_writer

from hub.broker.errors import ErrorCode, MalformedRequest
from hub.broker.fetch import PartitionData, PartitionFetch, read_fetch, write_fetch
from hub.broker.produce import PartitionResult, read_produce, write_produce
from hub.broker.wire import APIS, Api, Field, Message, decode_request, encode_response, request_writer, response_reader

from .client import batch, kio_class

CASES = [(api, version) for api in APIS.values() for version in range(api.lowest, api.highest + 1)]
IDS = [f"{api.name}-v{version}" for api, version in CASES]


def snake(name: str) -> str:
    return "".join("_" + letter.lower() if letter.isupper() else letter for letter in name).lstrip("_")


def invented(entry: Field, version: int, dice: random.Random) -> Any:
    """A value for a field."""
    if entry.array:
        if entry.nullable_in(version) and dice.random() < 0.2:
            return None
        return [invented_element(entry, version, dice) for _ in range(dice.randrange(3))]
    if entry.nullable_in(version) and entry.kind != "uuid" and dice.random() < 0.3:
        return None
    return invented_element(entry, version, dice)


def invented_element(entry: Field, version: int, dice: random.Random) -> Any:
    if entry.kind == "struct":
        return invented_message(entry.fields, version, dice)
    if entry.name.endswith("error_code"):
        return dice.choice([0, 3, 47, 51, 90])
    match entry.kind:
        case "string":
            return "text-é" * dice.randrange(1, 40)
        case "bytes":
            return dice.randbytes(dice.randrange(300))
        case "bool":
            return dice.random() < 0.5
        case "uuid":
            return uuid.UUID(int=dice.getrandbits(128) | 1)
        case _:
            return dice.randrange(2**7 if entry.kind == "int8" else 2**15 if entry.kind == "int16" else 2**31)


def invented_message(definition: list[Field], version: int, dice: random.Random) -> Message:
    return {entry.name: invented(entry, version, dice) for entry in definition if entry.in_version(version)}


def plain(value: Any) -> Any:
    """A kio value as ours: structs by position, times in milliseconds, no enums."""
    if is_dataclass(value):
        known = [entry for entry in fields(value) if "tag" not in entry.metadata or "feature" in entry.name]
        return [plain(getattr(value, entry.name)) for entry in known]
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, KioErrorCode | enum.IntEnum):
        return int(value.value)
    if hasattr(value, "total_seconds"):
        return round(value.total_seconds() * 1000)
    if hasattr(value, "timestamp"):
        return round(value.timestamp() * 1000)
    return value


def flat(message: Message, definition: list[Field], version: int) -> list[Any]:
    """Our message by position."""
    out = []
    for entry in definition:
        if not entry.in_version(version):
            continue
        value = message[entry.name]
        if entry.kind == "struct" and value is not None:
            value = [flat(item, entry.fields, version) for item in value]
        out.append(value)
    return out


@pytest.mark.parametrize(("api", "version"), CASES, ids=IDS)
def test_requests_are_read_as_kio_reads_them(api: Api, version: int) -> None:
    dice = random.Random(f"{api.name}{version}")
    for _ in range(5):
        ours = invented_message(api.request, version, dice)
        parts: list[bytes] = []
        request_writer(api.key, version)(parts, ours)
        raw = b"".join(parts)
        theirs, size = entity_reader(kio_class(snake(api.name), version, "request"))(raw, 0)
        assert size == len(raw)
        assert plain(theirs) == flat(ours, api.request, version)
        again = io.BytesIO()
        entity_writer(type(theirs))(again, theirs)
        assert flat(decode_request(api.key, version, again.getvalue(), 0), api.request, version) == plain(theirs)


@pytest.mark.parametrize(("api", "version"), CASES, ids=IDS)
def test_answers_are_written_so_that_kio_reads_them(api: Api, version: int) -> None:
    dice = random.Random(f"{version}{api.name}")
    for _ in range(5):
        ours = invented_message(api.response, version, dice)
        raw = encode_response(api.key, version, ours)
        theirs, size = entity_reader(kio_class(snake(api.name), version, "response"))(raw, 0)
        assert size == len(raw)
        assert plain(theirs) == flat(ours, api.response, version)
        assert response_reader(api.key, version)(raw, 0)[1] == size


@pytest.mark.parametrize("version", range(3, 13))
def test_produce_by_hand_agrees_with_the_table(version: int) -> None:
    topics = [("t-é", [(0, batch([b"a"])), (7, None)]), ("u", [])]
    message = {
        "transactional_id": "tx",
        "acks": -1,
        "timeout_ms": 5,
        "topic_data": [
            {"name": name, "partition_data": [{"index": index, "records": raw} for index, raw in partitions]}
            for name, partitions in topics
        ],
    }
    parts: list[bytes] = []
    request_writer(0, version)(parts, message)
    request = read_produce(b"head" + b"".join(parts), 4, version)
    assert (request.transactional_id, request.acks, request.topics) == ("tx", -1, topics)

    result = PartitionResult(3, ErrorCode.INVALID_PRODUCER_EPOCH, 2**40, 9)
    answer, _ = response_reader(0, version)(write_produce([("t", [result])], version), 0)
    (entry,) = answer["responses"][0]["partition_responses"]
    assert (entry["index"], entry["error_code"], entry["base_offset"]) == (3, 47, 2**40)
    assert entry["log_start_offset"] == (9 if version >= 5 else -1)


@pytest.mark.parametrize("version", range(4, 13))
def test_fetch_by_hand_agrees_with_the_table(version: int) -> None:
    partition = {"partition": 2, "fetch_offset": 2**40, "partition_max_bytes": 77}
    message = {
        "max_wait_ms": 500,
        "min_bytes": 1,
        "max_bytes": 99,
        "isolation_level": 1,
        "topics": [{"topic": "t", "partitions": [partition]}],
    }
    parts: list[bytes] = []
    request_writer(1, version)(parts, message)
    request = read_fetch(b"".join(parts), 0, version)
    assert request.topics == [("t", [PartitionFetch(2, 2**40, 77)])]
    assert (request.max_wait_seconds, request.min_bytes, request.max_bytes, request.committed) == (0.5, 1, 99, True)

    data = [
        PartitionData(2, ErrorCode.NONE, 10, 8, 1, [(1000, 4)], b"records" * 50),
        PartitionData(3, ErrorCode.OFFSET_OUT_OF_RANGE),
    ]
    answer, _ = response_reader(1, version)(write_fetch([("t", data)], version), 0)
    first, second = answer["responses"][0]["partitions"]
    assert (first["high_watermark"], first["last_stable_offset"], first["records"]) == (10, 8, b"records" * 50)
    assert first["aborted_transactions"] == [{"producer_id": 1000, "first_offset": 4}]
    assert (second["error_code"], second["aborted_transactions"]) == (1, None)


@pytest.mark.parametrize(("api", "version"), CASES, ids=IDS)
def test_cut_and_garbled_requests_are_refused(api: Api, version: int) -> None:
    dice = random.Random(version)
    parts: list[bytes] = []
    request_writer(api.key, version)(parts, invented_message(api.request, version, dice))
    raw = b"".join(parts)
    for size in range(0, len(raw), max(1, len(raw) // 50)):
        with pytest.raises(MalformedRequest):
            decode_request(api.key, version, raw[:size], 0)
    for _ in range(100):
        garbled = bytearray(raw or b"\0")
        garbled[dice.randrange(len(garbled))] = dice.randrange(256)
        try:
            decode_request(api.key, version, bytes(garbled), 0)
        except MalformedRequest:
            continue
