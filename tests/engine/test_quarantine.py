"""Records and timers are processed one by one only while it is unknown which of them cannot be written."""

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
