"""A task that is to be created: what admission hands to a turn."""

from typing import NamedTuple

from schemas import events as e

from .graph import Plan


class NewTask(NamedTuple):
    """A task to be created. `root` is None where it is its own."""

    id: str
    root: str | None
    namespace: str
    correlation: str
    data: e.TaskCreated
    plan: Plan | None = None
