"""Derived ids, as published for other languages."""

import hashlib
import json
import uuid
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import check_id, step_id, task_id_of_cloudevent, task_id_of_key

PUBLISHED = json.loads(files("schemas").joinpath("id_vectors.json").read_text(encoding="utf-8"))
FUNCTIONS = {"cloudevent": task_id_of_cloudevent, "idempotency": task_id_of_key, "step": step_id}
VECTORS = [(purpose, *vector) for purpose in FUNCTIONS for vector in PUBLISHED[purpose]["vectors"]]


def as_described(purpose: str, *parts: str) -> str:
    """The id, made as the published description says."""
    message = b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in parts)
    digest = bytearray(hashlib.blake2b(message, digest_size=16, person=purpose.encode().ljust(16, b"\0")).digest())
    digest[6], digest[8] = (digest[6] & 0x0F) | 0x80, (digest[8] & 0x3F) | 0x80
    return str(uuid.UUID(bytes=bytes(digest)))


@pytest.mark.parametrize(("purpose", "first", "second", "expected"), VECTORS)
def test_published_vectors_hold(purpose: str, first: str, second: str, expected: str) -> None:
    assert FUNCTIONS[purpose](first, second) == as_described(purpose, first, second) == expected


@pytest.mark.parametrize("purpose", FUNCTIONS)
@given(st.text(max_size=60), st.text(max_size=60))
def test_the_ids_are_those_of_the_description(purpose: str, first: str, second: str) -> None:
    derived = uuid.UUID(FUNCTIONS[purpose](first, second))
    assert str(derived) == as_described(purpose, first, second)
    assert (derived.version, derived.variant) == (8, uuid.RFC_4122)
    assert check_id(str(derived), "id") is None


@given(st.text(max_size=20), st.text(max_size=20), st.integers(0, 20))
def test_the_border_between_the_parts_counts(first: str, second: str, at: int) -> None:
    whole = first + second
    other = (whole[:at], whole[at:])
    same = FUNCTIONS["cloudevent"](first, second) == FUNCTIONS["cloudevent"](*other)
    assert same == (other == (first, second))


def test_each_purpose_has_ids_of_its_own() -> None:
    assert len({function("a", "b") for function in FUNCTIONS.values()}) == len(FUNCTIONS)
