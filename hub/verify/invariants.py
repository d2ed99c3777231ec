"""The table of invariants: id, sentence, and required inputs. The rules in the other modules report under these ids.

I1 to I36 are numbered as in the project's catalogue of invariants, of which README.md names those that are not checked here; D1,
D2, T1 and R1 are the checker's own.
"""

from typing import Final, NamedTuple


class Invariant(NamedTuple):
    """One invariant. `reads`: the inputs that it requires in addition to `events`; without them it is skipped."""

    id: str
    sentence: str
    reads: tuple[str, ...] = ()


INVARIANTS: Final[dict[str, Invariant]] = {
    row.id: row
    for row in (
        Invariant("I1", "An acknowledged submission creates exactly one task, or is rejected with an event.", ("acknowledged",)),
        Invariant("I2", "A created task ends exactly once.", ("require_all_ended",)),
        Invariant("I3", "Within a run the sequence is 1, 2, 3 … on one partition."),
        Invariant("I4", "The events of one cause are committed in one transaction, with indexes 0 to k."),
        Invariant("I5", "The epoch never decreases within a partition."),
        Invariant("I6", "Each intake record, timer and take-over is processed in one batch only."),
        Invariant("I7", "Intake is processed in order, and `!meta` has the first offset that was not processed.", ()),
        Invariant("I8", "A task has no events after its end, and a run starts only after the previous one ended."),
        Invariant("I9", "Records that were read once never change.", ("earlier",)),
        Invariant("I10", "The durable state of every entity is the fold of its events.", ("state",)),
        Invariant("I11", "A step is dispatched only after the end of each dependency satisfies its `on`."),
        Invariant("I12", "A task becomes ready when its last dependency is met: never earlier, and always then."),
        Invariant("I13", "A task has at most one current lease."),
        Invariant("I14", "An attempt starts only after the previous one has ended."),
        Invariant("I16", "Only the holder of the current lease starts an attempt, reports its progress and ends it."),
        Invariant("I18", "A task has one policy; its attempts comply with it, and a retry waits until it is due."),
        Invariant("I19", "Within its window an idempotency key identifies one task and one payload."),
        Invariant("I20", "No timer fires before it is due, and the engine's time never decreases."),
        Invariant("I22", "A root belongs to one partition: murmur2 of its id modulo the number of partitions."),
        Invariant("I23", "Dispatches and `attempt.execute` commands match one to one; so do grants.", ("commands",)),
        Invariant("I24", "A new owner continues exactly after the last offset that its predecessor processed."),
        Invariant("I25", "Epochs increase by one, and each starts with engine.started."),
        Invariant("I26", "No record of a fenced owner follows the first record of its successor."),
        Invariant(
            "I27", "Each subscriber received every event that matches its filter, or has it in its dead letters.", ("journals",)
        ),
        Invariant("I28", "A subscriber receives the events of an entity in order.", ("journals",)),
        Invariant("I29", "A subscriber's position is within the log and decreases only for a replay.", ("journals",)),
        Invariant("I30", "A redelivered event has the same id and the same bytes.", ("journals",)),
        Invariant("I31", "Every processed intake record has an effect on the log, or is soft state.", ("state", "intake")),
        Invariant("I32", "Every event and command matches its schema, and every event is a valid CloudEvent."),
        Invariant("I33", "When the hub is idle, no task that could run is waiting.", ("require_all_ended",)),
        Invariant("I34", "The body of an at-most-once task ran at most once, and only after a grant.", ("executions",)),
        Invariant("I35", "No attempt starts after a cancel request."),
        Invariant("D1", "What holds for a task is what the definition of its name said when it was fixed."),
        Invariant("D2", "An attempt goes only to a worker that announced the version.", ("intake",)),
        Invariant("T1", "Each event is a valid transition from the state after the previous event, and names both states."),
        Invariant("R1", "A reply that reports an end agrees with the log.", ("replies",)),
    )
}


def sentence_of(invariant: str) -> str:
    """The sentence of an invariant. Raises KeyError for an unknown id."""
    return INVARIANTS[invariant].sentence
