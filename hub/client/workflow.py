"""A builder for workflows. Its result is plain JSON, which any Kafka producer can send."""

from collections.abc import Iterable
from typing import Any

from .errors import InvalidSubmissionError


class Workflow:
    """An acyclic graph of steps with a common root.

    >>> order = Workflow("fulfil").step("reserve", "reserve-stock", {"sku": 1}).step("charge", after=["reserve"])
    """

    def __init__(self, name: str, args: dict[str, Any] | None = None, **options: Any) -> None:
        """`options`: fields of a submission (`id`, `idempotency_key`, `timeouts`, `tags`, ...)."""
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
        """Add a step and return the workflow. `task`: a name or a registered function (default: `key`). `after`: the keys of the
        steps that it depends on. `on`: how they must have ended (success, failure, ended). `options`: further fields of the step.
        Raises InvalidSubmissionError for a repeated or unknown key."""
        if key in self.steps:
            raise InvalidSubmissionError(f"step {key!r}: the workflow {self.name!r} already has a step with this key")
        dependencies: list[str | dict[str, str]] = []
        for before in after:
            name = before["task"] if isinstance(before, dict) else before
            if name not in self.steps:
                raise InvalidSubmissionError(
                    f"step {key!r}: after: unknown step {name!r}; add steps after those that they depend on"
                )
            plain = isinstance(before, str) and on == "success"
            dependencies.append(before if plain or isinstance(before, dict) else {"task": name, "on": on})
        name, defaults = task_name_and_options(task if task is not None else key)
        defaults.pop("namespace", None)  # A step has the namespace of its workflow.
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
    """The name of a task, and the submission options of its registration (none for a plain name)."""
    if isinstance(task, str):
        return task, {}
    definition = getattr(task, "__hub_task__", None)
    if definition is None:
        raise InvalidSubmissionError(f"{task!r} is neither the name of a task nor a function registered with @tasks.task(...)")
    return definition.name, dict(definition.submission_options)
