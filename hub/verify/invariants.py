"""The invariants, as data: id, the sentence, and what each reads. Rules in the sibling modules report under these ids.

I1 to I36 are numbered as in the project's catalogue of invariants, of which README.md names those that are not checked here; D1,
D2, T1 and R1 are the checker's own.
"""

from typing import Final, NamedTuple


class Invariant(NamedTuple):
    """One promise. `reads`: the inputs without which it is skipped (all of them beside `events`)."""

    id: str
    sentence: str
    reads: tuple[str, ...] = ()


INVARIANTS: Final[dict[str, Invariant]] = {
    row.id: row
    for row in (
        Invariant("I1", "An acknowledged submission is created exactly once, or visibly refused.", ("acknowledged",)),
        Invariant("I2", "A created task reaches exactly one end.", ("require_all_ended",)),
        Invariant("I3", "Within a run the sequence is 1, 2, 3 … on one partition."),
        Invariant("I4", "What one cause made is committed whole, in one transaction: indexes 0..k."),
        Invariant("I5", "The epoch never decreases along a partition."),
        Invariant("I6", "Each intake record, agenda item and take-over is decided in one batch only."),
        Invariant("I7", "Intake is decided in order, and `!meta` names the first offset that is not decided.", ()),
        Invariant("I8", "Nothing happens to a task after its end, and a run begins only after the last one ended."),
        Invariant("I9", "What was once read of the log never changes.", ("earlier",)),
        Invariant("I10", "The durable state of every entity is the fold of its events.", ("state",)),
        Invariant("I11", "A step is dispatched only after its dependencies ended as `on` asks."),
        Invariant("I12", "A task becomes ready exactly when its last dependency is met: never before, and always after."),
        Invariant("I13", "At most one lease of a task is live."),
        Invariant("I14", "Another attempt begins only after the one before has ended."),
        Invariant("I16", "Only the holder of the current lease starts, progresses and ends an attempt."),
        Invariant("I18", "One policy holds for a task; attempts stay within it, and a retry waits until it is due."),
        Invariant("I19", "Within its window an idempotency key stands for one task and one payload."),
        Invariant("I20", "Nothing happens before it is due, and the engine's time never goes back."),
        Invariant("I22", "A root lies on one partition: murmur2 of its id modulo P."),
        Invariant("I23", "Dispatches and `attempt.execute` commands match one to one; so do grants.", ("commands",)),
        Invariant("I24", "A new owner continues exactly where its predecessor stopped deciding."),
        Invariant("I25", "Epochs follow each other by one, and each begins with its engine.started."),
        Invariant("I26", "No record of a fenced owner follows its successor's first."),
        Invariant("I27", "Each subscriber got every event that it asked for, or has it in its dead letters.", ("journals",)),
        Invariant("I28", "A subscriber gets the events of one entity in order.", ("journals",)),
        Invariant("I29", "A subscriber's position lies within the log and goes back only for a replay.", ("journals",)),
        Invariant("I30", "A repeated delivery has the same id and the same bytes.", ("journals",)),
        Invariant("I31", "Every intake record is accounted for.", ("state", "intake")),
        Invariant("I32", "Every event and command fits its schema and is a valid CloudEvent."),
        Invariant("I33", "At rest, nothing that could run is left waiting.", ("require_all_ended",)),
        Invariant("I34", "An at-most-once body ran at most once, and only after a grant.", ("executions",)),
        Invariant("I35", "Nothing starts after a cancel."),
        Invariant("D1", "What holds for a task is what the definition of its name said when it was fixed."),
        Invariant("D2", "An attempt goes only to a worker that announced the version.", ("intake",)),
        Invariant("T1", "Each event follows from the state that the one before left, and names both states."),
        Invariant("R1", "A reply that reports an end agrees with the log.", ("replies",)),
    )
}


def sentence_of(invariant: str) -> str:
    """What an invariant promises. Raises KeyError for an id that is not in the table."""
    return INVARIANTS[invariant].sentence
