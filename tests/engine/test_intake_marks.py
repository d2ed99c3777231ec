"""Up to which offset the intake may be deleted: late by at most a fraction of the retention, never early, also across
restarts."""

from hypothesis import given
from hypothesis import strategies as st

from hub.core import INTAKE_KEY
from hub.engine.intake_marks import MARKS_MAX, IntakeMarks

SECOND = 1_000_000
DAY = 86_400


def test_nothing_is_deletable_before_the_retention_is_over() -> None:
    marks = IntakeMarks(10.0)
    assert not marks.due(0, 0)
    assert marks.due(0, 5)
    marks.note(0, 5)
    assert marks.deletable(10 * SECOND - 1) is None
    assert marks.deletable(10 * SECOND) == 5


def test_no_mark_is_noted_while_nothing_was_decided() -> None:
    marks = IntakeMarks(10.0)
    marks.note(0, 5)
    assert not marks.due(DAY * SECOND, 5)
    assert marks.due(DAY * SECOND, 6)


def test_a_foreign_row_does_not_delete_what_was_not_decided() -> None:
    marks = IntakeMarks(10.0)
    marks.restore(b'{"marks":[[0,7],[0,8],[0,1000000000]]}', 7)
    assert marks.deletable(DAY * SECOND) == 7
    assert marks.due(DAY * SECOND, 8)


@given(
    st.lists(st.tuples(st.integers(0, 3 * 3_600), st.integers(0, 1_000)), max_size=300), st.sampled_from([1.0, 600.0, 7.0 * DAY])
)
def test_what_is_deleted_was_decided_long_enough_ago_and_little_more_is_kept(
    steps: list[tuple[int, int]], retention_seconds: float
) -> None:
    marks, now_us, offset, row = IntakeMarks(retention_seconds), 0, 0, None
    decided: list[tuple[int, int]] = []  # at this time, everything before this offset was decided
    for seconds, records in steps:
        now_us, offset = now_us + seconds * SECOND, offset + records
        decided.append((now_us, offset))
        if marks.due(now_us, offset):
            key, row = marks.note(now_us, offset)
            assert key == INTAKE_KEY
            assert len(row) < 50 * (MARKS_MAX + 80)
        marks = IntakeMarks(retention_seconds)
        marks.restore(row, offset)  # a restart after each step changes nothing
        before = marks.deletable(now_us)
        old = [reached for time_us, reached in decided if now_us - time_us >= retention_seconds * SECOND]
        assert (before or 0) <= max(old, default=0)


def test_marks_are_a_fraction_of_the_retention_apart() -> None:
    marks = IntakeMarks(960.0)
    marks.note(100 * SECOND, 5)
    assert not marks.due(110 * SECOND - 1, 6)
    assert marks.due(110 * SECOND, 6)


def test_a_mark_that_is_still_the_latest_of_those_past_the_retention_is_kept() -> None:
    marks = IntakeMarks(10.0)
    marks.note(0, 5)
    marks.note(5 * SECOND, 7)
    _, row = marks.note(12 * SECOND, 9)
    restored = IntakeMarks(10.0)
    restored.restore(row, 9)
    assert restored.deletable(12 * SECOND) == 5
    _, row = marks.note(15 * SECOND, 11)
    restored.restore(row, 11)
    assert restored.deletable(15 * SECOND) == 7
    assert restored.deletable(15 * SECOND - 1) is None, "the mark of 0 s is obsolete"
