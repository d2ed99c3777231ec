"""A workflow as a small builder: steps and what they wait for. What it gives is the plain JSON that any producer may send."""

from collections.abc import Iterable
from typing import Any

from .errors import InvalidSubmissionError


class Workflow:
    """A graph of steps under one root.

    >>> order = Workflow("fulfil").step("reserve", "reserve-stock", {"sku": 1}).step("charge", after=["reserve"])
    """

    def __init__(self, name: str, args: dict[str, Any] | None = None, **options: Any) -> None:
        """`options` are fields of a submission (`id`, `idempotency_key`, `timeouts`, `tags`, ...)."""
        self.name = name
        self.args = args or {}
        self.options = options
        self.steps: dict[str, dict[str, Any]] = {}

    def step(
        self,
        key: str,
        task: Any = None,
        args: dict[str, Any] | None = None,
        *,
        after: Iterable[str | dict[str, str]] = (),
        on: str = "success",
        **options: Any,
    ) -> "Workflow":
        """Add a step; `task` is a name or a registered function (default: `key`), `after` the keys it waits for, `on` how those
        must have ended (success, failure, ended). Raises InvalidSubmissionError for a repeated or unknown key."""
        if key in self.steps:
            raise InvalidSubmissionError(f"step {key!r}: the workflow {self.name!r} has a step of that key")
        dependencies: list[str | dict[str, str]] = []
        for before in after:
            name = before["task"] if isinstance(before, dict) else before
            if name not in self.steps:
                raise InvalidSubmissionError(f"step {key!r}: after names {name!r}, which is not a step yet; add steps in order")
            plain = isinstance(before, str) and on == "success"
            dependencies.append(before if plain or isinstance(before, dict) else {"task": name, "on": on})
        name, defaults = task_name_and_options(task if task is not None else key)
        defaults.pop("namespace", None)  # A step has that of its workflow.
        step: dict[str, Any] = {"name": name, **defaults, **options}
        if args:
            step["args"] = args
        if dependencies:
            step["depends_on"] = dependencies
        self.steps[key] = step
        return self

    def to_json(self) -> dict[str, Any]:
        """The value of a `task.created` event, as plain JSON types."""
        fields: dict[str, Any] = {"name": self.name, **self.options, "tasks": self.steps}
        if self.args:
            fields["args"] = self.args
        return fields


def task_name_and_options(task: Any) -> tuple[str, dict[str, Any]]:
    """The name of a task, and what its registration says about submissions of it (a plain name says nothing)."""
    if isinstance(task, str):
        return task, {}
    definition = getattr(task, "__hub_task__", None)
    if definition is None:
        raise InvalidSubmissionError(f"{task!r} is neither the name of a task nor a function registered with @tasks.task(...)")
    return definition.name, dict(definition.submission_options)
