"""Outages are logged once per cause, with one line at their end."""

from structlog.testing import capture_logs

from hub.errors import cause_of
from hub.kafka import BrokerUnreachable, ConnectionLost, PartitionUnavailable
from hub.logs import Logger, OutageLog


class Clock:
    """Seconds, moved by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_an_outage_is_warned_of_once_per_cause_and_ends_with_how_long_it_took() -> None:
    clock = Clock()
    with capture_logs() as records:
        outages = OutageLog(Logger("hub.a"), action="beat_failed", over="beats_again", clock=clock)
        for _ in range(50):
            for partition in range(4):
                outages.failed(partition, "leader a", "no beat", partition=partition)
        clock.now += 2
        outages.failed(3, "leader b", "no beat", partition=3)
        for partition in range(3):
            outages.works(partition)
        clock.now += 5.25
        outages.works(3)
        outages.works(3)
    warnings = [record for record in records if record["log_level"] == "warning"]
    assert [(record["action"], record.get("partition"), record.get("seconds")) for record in warnings] == [
        ("beat_failed", 0, None),
        ("beat_failed", 3, None),
        ("beats_again", None, 7.2),
    ]


def test_the_next_outage_is_warned_of_again() -> None:
    with capture_logs() as records:
        outages = OutageLog(Logger("hub.a"), action="failed", over="over", clock=Clock())
        for _ in range(2):
            outages.failed("x", "cause", "failed")
            outages.works("x")
        outages.works("y")
    assert [record["action"] for record in records] == ["failed", "over", "failed", "over"]


def test_partitions_of_one_leader_fail_for_one_cause() -> None:
    errors = [PartitionUnavailable("hub.intake", partition, "10.0.0.1:9092", "does not respond") for partition in range(4)]
    assert {cause_of(error) for error in errors} == {"leader 10.0.0.1:9092"}
    assert str(errors[2]) == "The leader of hub.intake-2, 10.0.0.1:9092, does not respond."
    assert str(PartitionUnavailable("a", 0, None, "nothing was written")) == "a-0 has no leader now: nothing was written."
    assert cause_of(BrokerUnreachable("a:1", "x")) == cause_of(BrokerUnreachable("a:1", "y")) != cause_of(ValueError("z"))
    assert cause_of(ConnectionLost("lost", cause="leader a:1")) == "leader a:1"
