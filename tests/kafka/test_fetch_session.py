"""Fetch sessions (KIP-227): what is sent, and what a refusal changes."""

from hypothesis import given
from hypothesis import strategies as st

from hub.kafka import TopicPartition
from hub.kafka.fetch_session import EPOCH_MAX, NO_SESSION, FetchSession
from hub.protocol import ErrorCode
from hub.protocol.fetch import FetchPosition

A, B, C = (TopicPartition("t", number) for number in range(3))
ID = 77


def at(offset: int) -> FetchPosition:
    return FetchPosition(offset, 1, 100)


def opened(*partitions: TopicPartition) -> FetchSession:
    """A session with these partitions at offset 0."""
    session = FetchSession(12)
    assert session.request({one: at(0) for one in partitions})[0] == (0, 0)
    assert session.accept(0, ID)
    return session


def test_only_changes_are_sent() -> None:
    session = opened(A, B)
    assert session.request({A: at(0), B: at(5)}) == ((ID, 1), {B: at(5)}, [])
    assert session.accept(0, ID)
    assert session.request({B: at(5), C: at(1)}) == ((ID, 2), {C: at(1)}, [A])
    assert session.accept(0, ID)
    assert session.request({B: at(5), C: at(1)}) == ((ID, 3), {}, [])


def test_a_version_without_sessions_sends_everything() -> None:
    session = FetchSession(6)
    for _ in range(2):
        assert session.request({A: at(0)}) == (NO_SESSION, {A: at(0)}, [])
        assert session.accept(0, 0)


def test_after_any_error_of_a_request_everything_is_sent_again_in_a_new_session() -> None:
    session = opened(A, B)
    session.request({A: at(5), B: at(0)})
    assert session.accept(ErrorCode.UNKNOWN_SERVER_ERROR, 0), "an error of the partitions, not of the session"
    assert session.request({A: at(5), B: at(0)}) == ((ID, 0), {A: at(5), B: at(0)}, [])


def test_the_epoch_begins_again_with_one() -> None:
    session = opened(A)
    session._epoch = EPOCH_MAX
    session.request({A: at(0)})
    assert session.accept(0, ID)
    assert session.request({A: at(0)})[0] == (ID, 1)


wanted = st.dictionaries(st.sampled_from([A, B, C]), st.integers(0, 3).map(at), min_size=1)


@given(st.lists(st.tuples(wanted, st.sampled_from(["accept", "forget", "refuse", "decline", "fail"])), max_size=30))
def test_the_broker_always_knows_what_is_wanted(steps: list[tuple[dict[TopicPartition, FetchPosition], str]]) -> None:
    """A model of the broker: it rebuilds the partitions from the requests."""
    session, known, epoch = FetchSession(12), dict[TopicPartition, FetchPosition](), 0
    for partitions, outcome in steps:
        (number, sent_epoch), included, forgotten = session.request(partitions)
        if sent_epoch == 0:
            known, epoch = dict(included), 0
            assert not forgotten
        else:
            assert (number, sent_epoch) == (ID, epoch + 1)
            epoch = sent_epoch
            known.update(included)
            for one in forgotten:
                del known[one]
        assert known == partitions
        if outcome == "accept":
            assert session.accept(0, ID)
        elif outcome == "decline":
            assert session.accept(0, 0)
        elif outcome == "fail":  # before or after the broker has processed the request
            assert session.accept(ErrorCode.UNKNOWN_SERVER_ERROR, 0)
            known.clear()
        else:
            code = "FETCH_SESSION_ID_NOT_FOUND" if outcome == "forget" else "INVALID_FETCH_SESSION_EPOCH"
            assert not session.accept(ErrorCode[code], 0)
            known.clear()
