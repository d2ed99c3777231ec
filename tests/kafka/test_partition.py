"""The partition of a key, as published for other languages."""

import json
from importlib.resources import files

import pytest
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.partitioner import murmur2 as reference
from hypothesis import given
from hypothesis import strategies as st

from hub.kafka import INBOX_PARTITIONS, inbox_of, murmur2, partition_of

VECTORS = json.loads(files("hub.kafka").joinpath("partition_vectors.json").read_text(encoding="utf-8"))["vectors"]
FROM_KAFKAS_OWN_TESTS = {
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    "abc": 479470107,
}


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: repr(vector["key"]))
def test_published_vectors_hold(vector: dict) -> None:  # type: ignore[type-arg]
    assert murmur2(vector["key"].encode()) == vector["murmur2"]
    for partitions, partition in vector["partitions"].items():
        assert partition_of(vector["key"], int(partitions)) == partition


@pytest.mark.parametrize(("key", "signed"), FROM_KAFKAS_OWN_TESTS.items())
def test_the_hash_is_that_of_the_java_client(key: str, signed: int) -> None:
    assert murmur2(key.encode()) == signed & 0xFFFFFFFF


@given(st.binary(max_size=100))
def test_the_hash_is_that_of_aiokafka(data: bytes) -> None:
    assert murmur2(data) == reference(data)


@given(st.text(max_size=60), st.integers(1, 64))
def test_the_partition_is_that_of_a_murmur2_client(key: str, partitions: int) -> None:
    everywhere = list(range(partitions))
    assert partition_of(key, partitions) == DefaultPartitioner()(key.encode(), everywhere, everywhere)


def test_an_inbox_is_a_partition_of_the_commands_topic() -> None:
    inboxes = {inbox_of(f"worker-{n}") for n in range(500)}
    assert inboxes == set(range(INBOX_PARTITIONS))
