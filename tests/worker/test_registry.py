"""Registration of handlers, binding of their parameters, and loading a registry by name."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from msgspec import json

from hub import TaskContext, TaskRegistry
from hub.errors import ConfigurationError
from hub.worker import load_registry
from hub.worker.registry import InvalidArgumentsError, TaskDefinition
from schemas import ExecuteAttempt


def context() -> TaskContext:
    command = ExecuteAttempt(
        task="t", root="t", partition=0, attempt=2, dispatch=3, token="x", namespace="default", name="n", max_attempts=5
    )
    return TaskContext(command, lambda percent, message: None)


def bind(function: Any, args: dict[str, Any]) -> dict[str, Any]:
    return TaskDefinition("n", function, {}).bind(json.encode(args), context())


def test_parameters_are_checked_and_converted_by_their_annotations() -> None:
    @dataclass
    class Line:
        sku: str
        count: int = 1

    def handler(order: int, lines: list[Line], note: str = "none") -> None: ...

    bound = bind(handler, {"order": "7", "lines": [{"sku": "a", "count": 2}]})
    assert bound == {"order": 7, "lines": [Line("a", 2)], "note": "none"}


@pytest.mark.parametrize(
    ("args", "field"),
    [
        ({}, "order: is missing"),
        ({"order": "x"}, "order: must be an integer"),
        ({"order": 1, "odrer": 2}, "odrer: there is no such field"),
        ({"order": None}, "order: must be an integer"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_naming_the_field(args: dict[str, Any], field: str) -> None:
    def handler(order: int) -> None: ...

    with pytest.raises(InvalidArgumentsError, match=rf"^args\.{field}$"):
        bind(handler, args)


def test_the_context_is_given_by_annotation_or_by_the_name_ctx() -> None:
    def annotated(where: TaskContext, order: int) -> None: ...
    def named(ctx, order: int) -> None: ...  # type: ignore[no-untyped-def]

    assert bind(annotated, {"order": 1})["where"].attempt == 2
    assert bind(named, {"order": 1})["ctx"].max_attempts == 5


def test_a_handler_with_keywords_takes_anything() -> None:
    def handler(**everything: Any) -> None: ...

    assert bind(handler, {"a": 1, "b": [2]}) == {"a": 1, "b": [2]}


def test_a_handler_that_json_cannot_fill_is_refused_when_it_is_registered() -> None:
    tasks = TaskRegistry()
    with pytest.raises(ConfigurationError, match="named parameters"):

        @tasks.task("n")
        def handler(*parts: int) -> None: ...


def test_a_retry_policy_that_cannot_be_is_refused_when_it_is_registered() -> None:
    with pytest.raises(ConfigurationError, match=r"The task 'n' cannot be registered: retry: jitter: must be a number"):
        TaskRegistry().task("n", retry={"jitter": "much"})


def test_two_tasks_of_one_name_are_refused() -> None:
    tasks = TaskRegistry()
    tasks.task("n")(lambda: None)
    with pytest.raises(ConfigurationError, match="twice"):
        tasks.task("n")(lambda: None)


def test_options_become_the_defaults_of_submissions_by_the_function() -> None:
    tasks = TaskRegistry()

    @tasks.task("n", queue="q", priority=3, retry={"max_attempts": 9}, timeout_seconds=5, delivery="at_most_once")
    def handler() -> None: ...

    definition = tasks.get("n")
    assert definition is not None
    options = definition.submission_options
    assert options.pop("retry")["max_attempts"] == 9
    assert options == {"queue": "q", "priority": 3, "delivery": "at_most_once", "timeouts": {"attempt": 5}}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder of the test's own, whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path


def test_a_registry_is_found_in_the_current_folder(folder: Path) -> None:
    (folder / "some_app.py").write_text("from hub import TaskRegistry\nmine = TaskRegistry()\n")
    assert isinstance(load_registry("some_app:mine"), TaskRegistry)


@pytest.mark.parametrize(
    ("reference", "content", "words"),
    [
        ("no_such_app:tasks", None, "there is no module of that name|there is no module 'no_such_app'"),
        ("broken_app:tasks", "import nothing_like_this", "nothing_like_this"),
        ("raising_app:tasks", "raise ValueError('boom')", "ValueError: boom"),
        ("other_app:task", "from hub import TaskRegistry\ntasks = TaskRegistry()", "Did you mean other_app:tasks"),
        ("number_app:tasks", "tasks = 7", "is not a TaskRegistry"),
    ],
)
def test_a_registry_that_cannot_be_loaded_says_why(folder: Path, reference: str, content: str | None, words: str) -> None:
    if content is not None:
        (folder / (reference.partition(":")[0] + ".py")).write_text(content)
    with pytest.raises(ConfigurationError, match=words):
        load_registry(reference)


def test_a_reference_without_a_module_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"':tasks' does not name a module\. Give the tasks as module:registry"):
        load_registry(":tasks")
