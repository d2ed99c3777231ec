"""A task in memory."""

from msgspec import Raw

from schemas.tasks import TERMINAL_STATES

from ..graph import Plan
from ..rows import TaskRow


class Task:
    """A live task, or an ended step of a live workflow, with data derived from its row."""

    __slots__ = ("args", "args_row", "children", "id", "plan", "plan_row", "row")

    def __init__(self, task_id: str, row: TaskRow, args: Raw) -> None:
        self.id = task_id
        self.row = row
        self.args = args
        self.children: list[str] | None = [] if row.steps.total else None
        self.plan: Plan | None = None
        self.args_row = False
        self.plan_row = False

    @property
    def root(self) -> str:
        """The id of its root, or its own id if it is a root."""
        return self.row.root or self.id

    @property
    def result(self) -> Raw:
        """Its result; absent until it completes."""
        return self.row.result

    @property
    def ended(self) -> bool:
        """Whether it has reached a terminal state."""
        return self.row.state in TERMINAL_STATES
