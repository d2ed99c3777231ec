"""The credit of engine partitions: shares, hung functions, refused partitions, and credit that moves."""

import pytest

from hub.worker.holdings import Holdings, shares


@pytest.mark.parametrize(
    ("slots", "partitions", "expected"),
    [(10, 3, [4, 3, 3]), (11, 3, [4, 4, 3]), (9, 3, [3, 3, 3]), (2, 4, [1, 1, 1, 1]), (5, 1, [5])],
)
def test_slots_are_shared_out_equally_and_everybody_has_one(slots: int, partitions: int, expected: list[int]) -> None:
    assert shares(slots, partitions) == expected
    holdings = Holdings(slots, partitions)
    assert [holdings.credit(partition, hung=0, refused=False) for partition in range(partitions)] == expected


@pytest.mark.parametrize(("hung", "credit"), [(0, 4), (1, 3), (2, 3), (4, 2), (7, 1), (8, 0), (9, 0)])
def test_hung_functions_lower_a_share_in_proportion_to_one_until_they_hold_every_slot(hung: int, credit: int) -> None:
    assert Holdings(8, 2).credit(0, hung=hung, refused=False) == credit


def test_a_refused_partition_has_no_more_credit_than_attempts() -> None:
    holdings = Holdings(8, 2)
    assert holdings.credit(0, hung=0, refused=True) == 0
    for token in "abcdef":
        holdings.accept(0, token)
    assert holdings.credit(0, hung=0, refused=True) == 4
    for _ in range(3):
        holdings.put_down(0)
    assert holdings.credit(0, hung=0, refused=True) == 3
    assert holdings.credit(1, hung=0, refused=True) == 0


def test_a_lease_is_held_until_it_is_settled() -> None:
    holdings = Holdings(4, 2)
    for token in "ba":
        holdings.accept(1, token)
    holdings.put_down(1)
    assert (holdings.held(0), holdings.held(1)) == ([], ["a", "b"])
    holdings.settle(1, "a")
    holdings.settle(1, "a")
    assert holdings.held(1) == ["b"]


def credits(holdings: Holdings, partitions: int) -> list[int]:
    return [holdings.credit(partition, hung=0, refused=False) for partition in range(partitions)]


def test_half_of_the_idle_credit_moves_until_one_is_left() -> None:
    holdings = Holdings(10, 2)
    for after in ([8, 2], [9, 1]):
        assert holdings.move_credit(0) == 1
        assert credits(holdings, 2) == after
    assert holdings.move_credit(0) is None
    assert credits(holdings, 2) == [9, 1]


def test_credit_comes_from_whoever_has_most_of_it_idle() -> None:
    holdings = Holdings(12, 3)
    for token in "abc":
        holdings.accept(1, token)
    assert holdings.move_credit(0) == 2
    assert credits(holdings, 3) == [6, 4, 2]
    assert holdings.move_credit(0) == 2
    assert holdings.move_credit(0) == 1, "one is idle there, too"
    assert credits(holdings, 3) == [8, 3, 1]
    assert holdings.move_credit(0) is None


def test_a_partition_gives_nothing_to_itself() -> None:
    assert Holdings(4, 1).move_credit(0) is None
    assert Holdings(4, 1).credit(0, hung=0, refused=False) == 4
