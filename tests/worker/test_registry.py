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


def test_a_parameter_without_annotation_is_an_argument_and_so_is_a_ctx_of_another_type() -> None:
    def handler(ctx: int, order, note="none") -> None: ...  # type: ignore[no-untyped-def]

    assert bind(handler, {"ctx": 7, "order": [1]}) == {"ctx": 7, "order": [1], "note": "none"}


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

    definition = tasks.find("default", "n", None)
    assert definition is not None
    options = definition.submission_options
    assert options.pop("retry")["max_attempts"] == 9
    assert options == {"queue": "q", "priority": 3, "delivery": "at_most_once", "timeouts": {"attempt": 5}}


def test_a_name_has_handlers_by_version_and_namespace() -> None:
    tasks = TaskRegistry()
    for version, namespace in ((None, None), ("2", None), ("2", "shop")):
        tasks.task("n", version=version, namespace=namespace)(lambda: None)
    assert tasks.names == ["n"]
    assert [one.id for one in tasks.registration.definitions] == ["*/n@1", "*/n@2", "shop/n@2"]
    cases = {("default", "1"): "*/n@1", ("default", "2"): "*/n@2", ("shop", "2"): "shop/n@2", ("shop", None): "*/n@1"}
    found = {case: tasks.find(case[0], "n", case[1]) for case in cases}
    assert {case: one and one.announced.id for case, one in found.items()} == cases
    assert tasks.find("default", "n", "3") is None
    with pytest.raises(ConfigurationError, match="twice in version 2"):
        tasks.task("n", version="2")(lambda: None)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"version": ""}, "version"),
        ({"namespace": "n" * 300}, "namespace"),
        ({"queue": "\x00"}, "queue"),
        ({"priority": 10**7}, "priority"),
    ],
)
def test_a_definition_that_cannot_be_is_refused_by_its_field(options: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigurationError, match=f"cannot be registered: {field}"):
        TaskRegistry().task("n", **options)(lambda: None)


def test_a_registry_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.worker.registry.DEFINITIONS_MAX", 1)
    tasks = TaskRegistry()
    tasks.task("a")(lambda: None)
    with pytest.raises(ConfigurationError, match="at most 1 tasks: register 'b' in another worker"):
        tasks.task("b")(lambda: None)


def test_who_watches_a_registry_learns_of_each_task_until_it_stops() -> None:
    tasks, seen = TaskRegistry(), []
    with tasks.watched(lambda: seen.append(tasks.registration.revision)):
        tasks.task("a")(lambda: None)
        tasks.task("b")(lambda: None)
    tasks.task("c")(lambda: None)
    assert seen == [1, 2]


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
        ("no_such_app:tasks", None, "no module 'no_such_app' was found in"),
        ("broken_app:tasks", "import nothing_like_this", "nothing_like_this"),
        ("raising_app:tasks", "raise ValueError('boom')", "ValueError: boom"),
        ("other_app:task", "from hub import TaskRegistry\ntasks = TaskRegistry()", "Did you mean other_app:tasks"),
        ("number_app:tasks", "tasks = 7", r"is not a TaskRegistry\. Registries of the module: none\.$"),
        ("far_app:x", "from hub import TaskRegistry\na, b = TaskRegistry(), TaskRegistry()", r"of the module: a, b\.$"),
        ("none_app:x", "", r"The registry 'x' of the module 'none_app' does not exist\. Registries of the module: none\.$"),
        ("quitting_app:x", "import sys\nsys.exit(3)", r"it ends the process with sys\.exit\(3\)"),
    ],
)
def test_a_registry_that_cannot_be_loaded_says_why(folder: Path, reference: str, content: str | None, words: str) -> None:
    if content is not None:
        (folder / (reference.partition(":")[0] + ".py")).write_text(content)
    with pytest.raises(ConfigurationError, match=words):
        load_registry(reference)


def test_a_reference_without_a_module_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"':tasks' does not name a module\. Specify the tasks as module:registry"):
        load_registry(":tasks")
