"""A task or a workflow as a tree that follows its events. `TreeView` is a plain fold of events; `follow` shows it.

A step hangs below the last of the steps that it waits for; where it waits for several, the others are named beside it.
"""

import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from msgspec import Struct

from schemas import TERMINAL_STATES, Event

from .render import STATE_MARKS, STATE_STYLES, clock, detail_of, duration, make_console, one_line

if TYPE_CHECKING:
    from rich.tree import Tree

STEPS_SHOWN_MAX = 40
REFRESHES_PER_SECOND = 10


class Node(Struct, kw_only=True):
    """What is known of one task from its events."""

    id: str
    label: str
    name: str
    after: list[str] = []
    nodes: int = 0
    state: str = ""
    attempt: int = 0
    percent: float | None = None
    message: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    waits_until: datetime | None = None


class TreeView:
    """Folds the events of `task_id` and of its steps."""

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        self.nodes: dict[str, Node] = {}
        self.now: datetime | None = None

    @property
    def state(self) -> str:
        """The state of the watched task itself; empty before its first event."""
        node = self.nodes.get(self.task_id)
        return node.state if node is not None else ""

    def take(self, event: Event) -> None:
        """Fold one event in."""
        self.now = at = datetime.fromisoformat(event.time)
        data = event.data
        node = self.nodes.get(event.subject)
        if node is None:
            name = event.taskname or event.subject
            node = self.nodes[event.subject] = Node(id=event.subject, label=name, name=name)
        if event.type == "task.created":
            node.label = data.key or data.name
            node.after = [dependency.task for dependency in data.depends_on]
            node.nodes = data.nodes
        self._mark(node, event, at)

    def _mark(self, node: Node, event: Event, at: datetime) -> None:
        data = event.data
        if event.to_state is not None:
            node.state = event.to_state
            node.waits_until = None
        node.attempt = getattr(data, "attempt", 0) or node.attempt
        if event.type == "task.progressed":
            node.percent, node.message = data.percent, data.message
        elif event.type in ("task.started", "attempt.started", "workflow.started"):
            node.started_at, node.percent, node.message = node.started_at or at, None, ""
        elif event.type == "task.retry_scheduled":
            node.waits_until = _moment(data.next_retry_at)
        elif event.type == "task.scheduled":
            node.waits_until = _moment(data.start_after)
        error = getattr(data, "error", None)
        if error is not None:
            node.message = f"{error.type}: {error.message}"
        if node.state in TERMINAL_STATES:
            node.finished_at = at
            node.message = node.message if node.state == "failed" else getattr(data, "reason", "")

    def line(self, node: Node, now: datetime | None = None) -> str:
        """A node in words: label, state, attempt, progress, how long. `now`: the moment for what still runs."""
        name = node.name if node.name != node.label else ""
        parts = [node.label, name and f"({name})", node.state]
        if node.attempt > 1:
            parts.append(f"attempt {node.attempt}")
        if node.percent is not None and node.state not in TERMINAL_STATES:
            parts.append(f"{node.percent:g} %")
        end = node.finished_at or now
        if node.started_at is not None and end is not None:
            parts.append(duration(max(0.0, (end - node.started_at).total_seconds())))
        if node.waits_until is not None and now is not None and node.waits_until > now:
            parts.append(f"in {duration((node.waits_until - now).total_seconds())}")
        if node.message:
            parts.append(node.message)
        return one_line(" ".join(part for part in parts if part))

    def steps(self) -> list[Node]:
        """The steps, in the order in which they were created."""
        return [node for node in self.nodes.values() if node.id != self.task_id]

    def shown(self) -> list[Node]:
        """The steps that a terminal has room for: all of a small workflow, what moves of a large one."""
        steps = self.steps()
        if len(steps) <= STEPS_SHOWN_MAX:
            return steps
        telling = [node for node in steps if node.state in ("running", "retrying", "failed")]
        return telling[:STEPS_SHOWN_MAX]

    def counts(self) -> str:
        """How many steps are in which state."""
        counted = Counter(node.state for node in self.steps())
        return ", ".join(f"{count:,} {state}" for state, count in sorted(counted.items()))

    def tree(self, now: datetime | None = None) -> "Tree":
        """The tree for a terminal."""
        from rich.text import Text
        from rich.tree import Tree

        def text(node: Node) -> Text:
            beside = [self.nodes[task].label for task in node.after[:-1] if task in self.nodes]
            line = Text(f"{STATE_MARKS.get(node.state, ' ')} ", STATE_STYLES.get(node.state, ""))
            line.append(self.line(node, now), STATE_STYLES.get(node.state, ""))
            if beside:
                line.append(one_line(f"  also after {', '.join(beside)}"), "dim")
            return line

        root = self.nodes.get(self.task_id)
        tree = Tree(text(root) if root is not None else f"{self.task_id}: waiting for its first event")
        branches: dict[str, Tree] = {}
        shown = self.shown()
        for node in shown:
            below = branches.get(node.after[-1], tree) if node.after else tree
            branches[node.id] = below.add(text(node))
        if len(shown) < len(self.steps()):
            tree.add(Text(f"{len(self.steps()):,} steps: {self.counts()}", "dim"))
        return tree

    def told(self, event: Event) -> str:
        """One plain line for an event that changes what one would want to know."""
        node = self.nodes[event.subject]
        return one_line(f"{clock(event.time)}  {node.label:<16} {event.type:<22} {detail_of(event)}".rstrip())


def _moment(text: str) -> datetime | None:
    """A point in time from an event's data; None for what is not one."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo is not None else None


async def follow(view: TreeView, events: AsyncIterator[Event], *, live: bool) -> None:
    """Show the events until they end: a tree that moves (`live`), else one line an event."""
    if not live:
        async for event in events:
            view.take(event)
            print(view.told(event), flush=True)
        return
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
    """The engine's time, as far as its last event gives it; between events it advances by our own clock."""
    seen: datetime | None = None
    seen_at = 0.0

    def now() -> datetime | None:
        nonlocal seen, seen_at
        if view.now is not seen:
            seen, seen_at = view.now, time.monotonic()
        return seen + timedelta(seconds=time.monotonic() - seen_at) if seen is not None else None

    return now
