"""The outcomes of submissions that are not rejected."""

from msgspec import Struct

from ..changes import NewTask
from ..rows import EndedRow
from ..state import Task


class Admitted(Struct, frozen=True, gc=False):
    """`tasks` are to be created in this order; `root` is the live workflow they are added to, if any. `warning`: what the client
    should know nevertheless."""

    tasks: list[NewTask]
    root: Task | None = None
    warning: str | None = None


class Duplicate(Struct, frozen=True, gc=False):
    """The submission is a duplicate of task `task`, which does not change (`live`, or its entry in the ended index)."""

    task: str
    live: Task | None
    ended: EndedRow | None
