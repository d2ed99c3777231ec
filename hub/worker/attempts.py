"""The desk's record of an attempt."""

from schemas import ExecuteAttempt

#: The number of `attempt.started`. The other reports of an attempt have higher numbers even if this one was not sent: the
#: heartbeat thread may send it late, and it must not supersede a later report of the event loop.
STARTED_NUMBER = 1


class Attempt:
    """An accepted command, until its slot is free again. `command` never changes; `announced`, `over` and `began_at` change
    under the desk's lock; `number`, that of its last report, is used by the worker's event loop only."""

    __slots__ = ("announced", "arrived_at", "began_at", "command", "number", "over")

    def __init__(self, command: ExecuteAttempt, arrived_at: float) -> None:
        self.command = command
        self.arrived_at = arrived_at
        self.number = STARTED_NUMBER
        self.began_at = 0.0
        self.announced = False
        self.over = False
