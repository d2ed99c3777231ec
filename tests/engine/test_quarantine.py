"""Records and timers are processed one by one only while it is unknown which of them cannot be written."""

from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from hub.core import PoisonTimer, TimerKey
from hub.engine.partition import Phase, PoisonRecord
from hub.engine.quarantine import ALL, ONE_BY_ONE, Quarantine, UnwritableBatch
from hub.kafka import StoredRecord

RECORDS = [StoredRecord(offset, 0, b"key", b"value", ()) for offset in (6, 7)]


def test_without_a_failure_everything_is_processed_together() -> None:
    assert Quarantine(0).phases(0) == ALL


def test_after_a_batch_that_cannot_be_written_its_records_and_the_due_timers_are_processed_one_by_one() -> None:
    quarantine = Quarantine(0)
    quarantine.learn(UnwritableBatch(RECORDS, None, "all", ValueError("too large")), 6)
    assert quarantine.phases(6) == quarantine.phases(7) == ONE_BY_ONE
    assert quarantine.phases(8) == ONE_BY_ONE, "timers were in the batch"
    quarantine.looked_at_timers(("retry", "t", 1, 0))
    assert quarantine.phases(8) == ONE_BY_ONE
    quarantine.looked_at_timers(None)
    assert quarantine.phases(7) == ONE_BY_ONE
    assert quarantine.phases(8) == ALL


def unwritable(phase: Phase, *, records: Sequence[StoredRecord] = (), timer: TimerKey | None = None) -> UnwritableBatch:
    """The failure of a batch of this phase."""
    return UnwritableBatch(records, timer, phase, ValueError("too large"))


TIMER = ("retry", "t", 1, 0)


def test_what_was_processed_alone_is_to_blame() -> None:
    first = [StoredRecord(0, 0, b"key", b"value", ())]
    blamed = unwritable("records", records=first).blamed()
    assert isinstance(blamed, PoisonRecord)
    assert (blamed.offset, blamed.reason) == (0, "ValueError: too large")
    timed = unwritable("timers", timer=TIMER).blamed()
    assert isinstance(timed, PoisonTimer)
    assert (timed.key, timed.reason) == (TIMER, "ValueError: too large")
    for nobody in (
        unwritable("records"),
        unwritable("timers"),
        unwritable("all", records=RECORDS, timer=TIMER),
        unwritable("dispatch"),
    ):
        assert nobody.blamed() is nobody
    assert unwritable("dispatch", timer=TIMER).blamed().args == ("ValueError: too large",)


def test_what_fails_is_logged_and_what_fails_again_in_the_same_way_is_raised() -> None:
    quarantine = Quarantine(3)
    with capture_logs() as logs:
        quarantine.learn(ValueError("odd"), 5)
        quarantine.learn(ValueError("even"), 5)
        quarantine.learn(ValueError("even"), 6)
        with pytest.raises(ValueError, match="even"):
            quarantine.learn(ValueError("even"), 6)
    said = ["processing failed; restoring the partition"] * 3 + [
        "processing failed again with the same error; stopping the partition"
    ]
    assert [(entry["event"], entry["partition"]) for entry in logs] == [(message, 3) for message in said]


def test_a_record_or_timer_is_set_aside_once() -> None:
    quarantine = Quarantine(0)
    for failure in (PoisonRecord(6, "odd"), PoisonTimer(TIMER, "late")):
        quarantine.learn(failure, 6)
        with pytest.raises(type(failure)):
            quarantine.learn(failure, 6)
    assert (quarantine.records, quarantine.timers) == ({6: "odd"}, {TIMER: "late"})


def test_a_batch_that_cannot_be_written_and_that_nobody_is_to_blame_for_stops_the_partition() -> None:
    quarantine = Quarantine(0)
    quarantine.learn(unwritable("all", records=RECORDS), 6)
    with pytest.raises(UnwritableBatch):
        quarantine.learn(unwritable("dispatch"), 6)
