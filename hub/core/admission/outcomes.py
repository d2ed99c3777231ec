"""What becomes of a submission that is not rejected."""

from typing import NamedTuple

from ..changes import NewTask
from ..rows import EndedRow
from ..state import Task


class Admitted(NamedTuple):
    """`tasks` are to be created in this order; `root` is the live workflow they are added to, if any. `warning`: what the client
    should know all the same."""

    tasks: list[NewTask]
    root: Task | None = None
    warning: str | None = None


class Duplicate(NamedTuple):
    """The submission is known: the task `task` stands as it is (`live`, or its entry in the ended index)."""

    task: str
    live: Task | None
    ended: EndedRow | None
