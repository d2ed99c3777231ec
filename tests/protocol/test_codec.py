"""The encoding compared with kio's, for every supported API and version."""

import enum
import io
import random
import uuid
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
from kio.schema.errors import ErrorCode as KioErrorCode
from kio.serial import entity_reader, entity_writer

from hub.protocol import (
    APIS,
    ApiKey,
    ErrorCode,
    MalformedMessage,
    Message,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
    name_of,
)
from hub.protocol.definition import Api, Field
from tests.broker.client import kio_class

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
        raw = encode_request(api.key, version, ours)
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
        assert flat(decode_response(api.key, version, raw), api.response, version) == flat(ours, api.response, version)


@pytest.mark.parametrize(("api", "version"), CASES, ids=IDS)
def test_cut_and_garbled_requests_are_refused(api: Api, version: int) -> None:
    dice = random.Random(version)
    raw = encode_request(api.key, version, invented_message(api.request, version, dice))
    for size in range(0, len(raw), max(1, len(raw) // 50)):
        with pytest.raises(MalformedMessage):
            decode_request(api.key, version, raw[:size], 0)
    for _ in range(100):
        garbled = bytearray(raw or b"\0")
        garbled[dice.randrange(len(garbled))] = dice.randrange(256)
        try:
            decode_request(api.key, version, bytes(garbled), 0)
        except MalformedMessage:
            continue


def test_error_codes_have_their_names_in_kafka() -> None:
    assert {code.name: code.value for code in ErrorCode} == {code.name.upper(): int(code.value) for code in KioErrorCode}
    assert (name_of(47), name_of(30_000)) == ("INVALID_PRODUCER_EPOCH", "error 30000")


def test_every_api_has_its_key() -> None:
    assert {snake(api.name).upper(): api.key for api in APIS.values()} == {key.name: key.value for key in ApiKey}
