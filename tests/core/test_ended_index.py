"""The index of ended tasks: what is removed, when, and in which order."""

import pytest
from msgspec import json

from hub.core.rows.ended import EndedRow
from hub.core.state.ended import EndedIndex


def put(index: EndedIndex, task: str, until_us: int, *, keyed: bool = False) -> None:
    row = EndedRow(ended="completed", run=0, sequence=1, name="a", until_us=until_us, finished_at="", keyed=keyed)
    index.put(task, row, json.encode(row))


@pytest.mark.parametrize("keyed", [False, True])
def test_an_entry_is_removed_at_its_time_and_not_before(keyed: bool) -> None:
    index = EndedIndex(10)
    put(index, "t", 100, keyed=keyed)
    assert index.next_expiry() == 100
    assert index.take_expired(99, 10) == []
    assert index.take_expired(100, 10) == ["t"]
    assert (index.next_expiry(), len(index)) == (None, 0)


def test_the_next_expiry_is_the_earliest_of_both_kinds() -> None:
    index = EndedIndex(10)
    put(index, "plain", 200)
    put(index, "keyed", 100, keyed=True)
    assert index.next_expiry() == 100
    assert index.take_expired(300, 1) == ["plain"]
    assert index.take_expired(300, 1) == ["keyed"]


def test_more_entries_than_allowed_are_removed_the_oldest_first_but_none_with_a_key() -> None:
    index = EndedIndex(2)
    put(index, "keyed", 100, keyed=True)
    for number in range(3):
        put(index, f"t{number}", 100 + number)
    assert index.take_expired(0, 1) == ["t0"]
    assert index.take_expired(0, 10) == ["t1"]
    assert index.take_expired(0, 10) == []
    assert "keyed" in index
    assert not index.full
    put(index, "another", 100, keyed=True)
    assert index.full


def test_a_later_run_of_an_id_is_kept_for_its_own_time() -> None:
    index = EndedIndex(10)
    put(index, "t", 100)
    index.discard("t")
    assert index.get("t") is None
    put(index, "t", 200)
    assert index.take_expired(150, 10) == []
    assert "t" in index
    assert index.take_expired(200, 10) == ["t"]
