"""An attempt as the desk knows it."""

from schemas import ExecuteAttempt

#: The number of the report that a body has begun. All others count on from it, whether it was sent or not: it may come from
#: the heartbeat thread, and must never overtake what the loop reports later.
STARTED_NUMBER = 1


class Attempt:
    """A command that was accepted, until its slot is free again. `command` never changes; `announced`, `over` and `began_at`
    change under the desk's lock; `number`, of its last report, belongs to the worker's loop."""

    __slots__ = ("announced", "arrived_at", "began_at", "command", "number", "over")

    def __init__(self, command: ExecuteAttempt, arrived_at: float) -> None:
        self.command = command
        self.arrived_at = arrived_at
        self.number = STARTED_NUMBER
        self.began_at = 0.0
        self.announced = False
        self.over = False
