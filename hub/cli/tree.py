"""Shows a task or a workflow as a tree that is updated by its events. `TreeView` folds the events; `follow` prints it.

A step is placed below the last step that it depends on; if it depends on several, the others are named beside it.
"""

import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from msgspec import Struct

from schemas import TERMINAL_STATES, Event, TaskError, one_line

from .render import STATE_MARKS, STATE_STYLES, clock, detail_of, duration, make_console

if TYPE_CHECKING:
    from rich.tree import Tree

STEPS_SHOWN_MAX = 40
REFRESHES_PER_SECOND = 10


class TaskView(Struct, kw_only=True):
    """The state of one task, from its events."""

    id: str
    label: str
    name: str
    after: list[str] = []
    steps_total: int = 0
    state: str = ""
    attempt: int = 0
    percent: float | None = None
    message: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    ran_seconds: float | None = None
    waits_until: datetime | None = None

    def seconds(self, now: datetime | None = None) -> float | None:
        """Seconds since the start of its first attempt, until its end or until `now` if it is still running; None if it has not
        begun. For a single attempt the worker's measurement, because its start and end may have been reported together."""
        end = self.finished_at or now
        if self.started_at is None or end is None:
            return None
        if self.attempt <= 1 and self.finished_at is not None and self.ran_seconds is not None:
            return self.ran_seconds
        return max(0.0, (end - self.started_at).total_seconds())


class TreeView:
    """Folds the events of `task_id` and of its steps."""

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        self.tasks: dict[str, TaskView] = {}
        self.now: datetime | None = None

    @property
    def state(self) -> str:
        """The state of the watched task itself; empty before its first event."""
        task = self.tasks.get(self.task_id)
        return task.state if task is not None else ""

    def take(self, event: Event) -> None:
        """Apply one event."""
        self.now = at = datetime.fromisoformat(event.time)
        data = event.data
        task = self.tasks.get(event.subject)
        if task is None:
            name = event.taskname or event.subject
            task = self.tasks[event.subject] = TaskView(id=event.subject, label=name, name=name)
        if event.type == "task.created":
            task.label = data.key or data.name
            task.after = [dependency.task for dependency in data.depends_on]
            task.steps_total = data.steps_total
        self._mark(task, event, at)

    def _mark(self, task: TaskView, event: Event, at: datetime) -> None:
        data = event.data
        if event.to_state is not None:
            task.state = event.to_state
            task.waits_until = None
        task.attempt = getattr(data, "attempt", 0) or task.attempt
        task.ran_seconds = getattr(data, "ran_seconds", task.ran_seconds)
        if event.type == "task.progressed":
            task.percent, task.message = data.percent, data.message
        elif event.type in ("task.started", "attempt.started", "workflow.started"):
            task.started_at, task.percent, task.message = task.started_at or at, None, ""
        elif event.type == "task.retry_scheduled":
            task.waits_until = _moment(data.next_retry_at)
        elif event.type == "task.scheduled":
            task.waits_until = _moment(data.start_after)
        error = getattr(data, "error", None)
        if isinstance(error, TaskError):
            task.message = f"{error.type}: {error.message}"
        if task.state in TERMINAL_STATES:
            task.finished_at = at
            task.message = task.message if task.state == "failed" else getattr(data, "reason", "")

    def line(self, task: TaskView, now: datetime | None = None) -> str:
        """A task as text: label, state, attempt, progress, duration. `now`: the current time, for running tasks."""
        name = task.name if task.name != task.label else ""
        parts = [task.label, name and f"({name})", task.state]
        if task.attempt > 1:
            parts.append(f"attempt {task.attempt}")
        if task.percent is not None and task.state not in TERMINAL_STATES:
            parts.append(f"{task.percent:g} %")
        if (seconds := task.seconds(now)) is not None:
            parts.append(duration(seconds))
        if task.waits_until is not None and now is not None and task.waits_until > now:
            parts.append(f"in {duration((task.waits_until - now).total_seconds())}")
        if task.message:
            parts.append(task.message)
        return one_line(" ".join(part for part in parts if part))

    def steps(self) -> list[TaskView]:
        """The steps, in the order of their creation."""
        return [task for task in self.tasks.values() if task.id != self.task_id]

    def shown(self) -> list[TaskView]:
        """The steps to show on a terminal: all steps of a small workflow; running, retrying and failed ones of a large one."""
        steps = self.steps()
        if len(steps) <= STEPS_SHOWN_MAX:
            return steps
        telling = [task for task in steps if task.state in ("running", "retrying", "failed")]
        return telling[:STEPS_SHOWN_MAX]

    def counts(self) -> str:
        """The number of steps per state, as text."""
        counted = Counter(task.state for task in self.steps())
        return ", ".join(f"{count:,} {state}" for state, count in sorted(counted.items()))

    def tree(self, now: datetime | None = None) -> "Tree":
        """The tree for a terminal."""
        from rich.text import Text
        from rich.tree import Tree

        def text(task: TaskView) -> Text:
            beside = [self.tasks[other].label for other in task.after[:-1] if other in self.tasks]
            line = Text(f"{STATE_MARKS.get(task.state, ' ')} ", STATE_STYLES.get(task.state, ""))
            line.append(self.line(task, now), STATE_STYLES.get(task.state, ""))
            if beside:
                line.append(one_line(f"  also after {', '.join(beside)}"), "dim")
            return line

        root = self.tasks.get(self.task_id)
        tree = Tree(text(root) if root is not None else f"{self.task_id}: waiting for its first event")
        branches: dict[str, Tree] = {}
        shown = self.shown()
        for task in shown:
            below = branches.get(task.after[-1], tree) if task.after else tree
            branches[task.id] = below.add(text(task))
        if len(shown) < len(self.steps()):
            tree.add(Text(f"{len(self.steps()):,} steps: {self.counts()}", "dim"))
        return tree

    def told(self, event: Event) -> str:
        """An event as one plain line."""
        task = self.tasks[event.subject]
        return one_line(f"{clock(event.time)}  {task.label:<16} {event.type:<22} {detail_of(event)}".rstrip())


def _moment(text: str) -> datetime | None:
    """A timestamp from an event's data; None if it is invalid."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo is not None else None


async def follow(view: TreeView, events: AsyncIterator[Event], *, live: bool) -> None:
    """Show the events until they end: as a tree that is updated (`live`), otherwise one line per event."""
    if not live:
        async for event in events:
            view.take(event)
            print(view.told(event), flush=True)
        return
    async for event in events:  # the tree is shown from the first event on
        view.take(event)
        break
    with _live_tree(view):
        async for event in events:
            view.take(event)


@contextlib.contextmanager
def _live_tree(view: TreeView) -> Iterator[None]:
    from rich.live import Live

    now = _clock_of(view)
    with Live(
        get_renderable=lambda: view.tree(now()), console=make_console(), refresh_per_second=REFRESHES_PER_SECOND, transient=False
    ) as shown:
        yield
        shown.refresh()


def _clock_of(view: TreeView) -> Callable[[], datetime | None]:
    """The engine's time: that of the last event, advanced by the local clock."""
    seen: datetime | None = None
    seen_at = 0.0

    def now() -> datetime | None:
        nonlocal seen, seen_at
        if view.now is not seen:
            seen, seen_at = view.now, time.monotonic()
        return seen + timedelta(seconds=time.monotonic() - seen_at) if seen is not None else None

    return now
