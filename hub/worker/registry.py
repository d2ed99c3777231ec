"""Handlers by name, version and namespace. A registry has no connection and no background tasks."""

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from msgspec import MsgspecError, convert, json, to_builtins

from schemas import FIRST_VERSION, Definition, RetryPolicy, decoding_problem
from schemas.tasks import EMPTY_ARGS, Delivery

from ..core import DEFINITIONS_MAX, problem_of_definition
from ..errors import ConfigurationError, HubError, code_location
from ..validation import fault_of, place_of
from .context import TaskContext
from .registration import Registration

_NO_ARGS = bytes(EMPTY_ARGS)

Handler = TypeVar("Handler", bound=Callable[..., Any])


class InvalidArgumentsError(Exception):
    """The arguments of a task do not match its handler; the message names the field."""


class TaskDefinition:
    """A handler, its parameters, and its options: `submission_options` for submissions of the function itself, `announced` for
    the engine."""

    def __init__(self, name: str, function: Callable[..., Any], submission_options: dict[str, Any]) -> None:
        self.name = name
        self.function = function
        self.submission_options = submission_options
        self.announced = _announced(name, submission_options)
        self.is_async = inspect.iscoroutinefunction(function)
        self._context_name, self._parameters = _parameters_of(function)
        self._validate: Callable[[bytes], dict[str, Any]] | None = None

    def bind(self, args: bytes, context: TaskContext) -> dict[str, Any]:
        """The keyword arguments of a call; `args` is a JSON object. Raises InvalidArgumentsError, which names the field."""
        if self._parameters is None:
            try:
                values = json.decode(args)
            except MsgspecError as error:
                raise InvalidArgumentsError(f"args: {decoding_problem(error)}") from None
        else:
            values = self._validated(args, self._parameters)
        if self._context_name is not None:
            values[self._context_name] = context
        return values  # type: ignore[no-any-return]  # admission has checked that args is an object

    def _validated(self, args: bytes, parameters: dict[str, Any]) -> dict[str, Any]:
        if not parameters and args == _NO_ARGS:
            return {}
        if self._validate is None:
            self._validate = _validator_of(self.name, parameters)
        return self._validate(args)


def _announced(name: str, given: dict[str, Any]) -> Definition:
    try:
        definition = Definition(
            name=name,
            version=convert(given.get("version", FIRST_VERSION), str),
            namespace=convert(given.get("namespace"), str | None),
            queue=convert(given.get("queue"), str | None),
            priority=convert(given.get("priority"), int | None),
            retry=convert(given["retry"], RetryPolicy) if "retry" in given else None,
            timeout_seconds=given.get("timeouts", {}).get("attempt"),
            delivery=convert(given.get("delivery"), Delivery | None),
        )
        problem = problem_of_definition(definition)
    except MsgspecError as error:
        problem = decoding_problem(error)
    if problem is not None:
        raise ConfigurationError(f"The task {name!r} cannot be registered: {problem}.")
    return definition


def _plain_policy(name: str | None, retry: RetryPolicy | dict[str, Any]) -> Any:
    try:
        return to_builtins(convert(retry, RetryPolicy) if isinstance(retry, dict) else retry)
    except MsgspecError as error:
        what = f"The task {name!r}" if name is not None else "A task"
        raise ConfigurationError(f"{what} cannot be registered: retry: {decoding_problem(error)}.") from None


def _parameters_of(function: Callable[..., Any]) -> tuple[str | None, dict[str, Any] | None]:
    """The name of the context parameter, and (annotation, default) of the others; None with `**kwargs`: nothing is checked."""
    signature = inspect.signature(function)
    try:
        hints = get_type_hints(function)
    except (NameError, TypeError):
        hints = {}
    context_name = None
    parameters: dict[str, Any] = {}
    for name, parameter in signature.parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            return context_name, None
        if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY):
            raise ConfigurationError(
                f"{function.__qualname__}: arguments are a JSON object and cannot be passed to {parameter}; use named parameters."
            )
        if hints.get(name) is TaskContext or (name == "ctx" and name not in hints):
            context_name = name
            continue
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        parameters[name] = (hints.get(name, Any), default)
    return context_name, parameters


def _validator_of(name: str, parameters: dict[str, Any]) -> Callable[[bytes], dict[str, Any]]:
    """A function that converts a JSON object to values of these parameters. It raises InvalidArgumentsError."""
    from pydantic import ConfigDict, ValidationError, create_model

    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    model: Any = create_model(f"{name} arguments", __config__=config, **parameters)

    def validate(args: bytes) -> dict[str, Any]:
        try:
            values = model.model_validate_json(args)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise InvalidArgumentsError(f"{place_of(first['loc'], 'args')}: {fault_of(first)}") from None
        return {parameter: getattr(values, parameter) for parameter in parameters}

    return validate


class TaskRegistry:
    """Tasks by name, version and namespace.

    >>> tasks = TaskRegistry()
    >>> @tasks.task("charge", retry={"max_attempts": 5})
    ... async def charge(order: int, amount: str, ctx: TaskContext) -> dict: ...
    """

    def __init__(self) -> None:
        self._definitions: dict[tuple[str | None, str, str], TaskDefinition] = {}
        self._watchers: list[Callable[[], object]] = []

    def task(
        self,
        name: str | None = None,
        *,
        version: str | None = None,
        namespace: str | None = None,
        queue: str | None = None,
        priority: int | None = None,
        retry: RetryPolicy | dict[str, Any] | None = None,
        timeout_seconds: float | None = None,
        delivery: str | None = None,
    ) -> Callable[[Handler], Handler]:
        """Register an async function, or a plain one, which runs in a thread. `name` defaults to the function's name.

        A name can have handlers for several versions (default "1") and for several namespaces (default: all namespaces without
        a handler of their own). A submission is executed by the version that it names, else by the default version: the highest
        that is not deprecated.

        `queue`, `priority`, `retry`, `timeout_seconds` (of one attempt) and `delivery` apply to all submissions that do not set
        them; the engine fixes them when the task is created.
        Arguments are validated against the annotations. A parameter named `ctx`, or annotated TaskContext, gets the context.

        Raises ConfigurationError if an option is invalid or the task is already registered.
        """
        plain = {"version": version, "namespace": namespace, "queue": queue, "priority": priority, "delivery": delivery}
        options: dict[str, Any] = {field: value for field, value in plain.items() if value is not None}
        if retry is not None:
            options["retry"] = _plain_policy(name, retry)
        if timeout_seconds is not None:
            options["timeouts"] = {"attempt": timeout_seconds}

        def register(function: Handler) -> Handler:
            definition = TaskDefinition(name or function.__name__, function, options)
            self._add(definition)
            with suppress(AttributeError):  # A bound method cannot have attributes: it can only be submitted by name.
                function.__hub_task__ = definition  # type: ignore[attr-defined]  # for `Hub.submit(function)`
            return function

        return register

    def _add(self, definition: TaskDefinition) -> None:
        announced = definition.announced
        place = (announced.namespace, announced.name, announced.version)
        if place in self._definitions:
            version = "" if announced.version == FIRST_VERSION else f" in version {announced.version}"
            raise ConfigurationError(
                f"The task {definition.name!r} is registered twice{version}: use another name, version or namespace."
            )
        if len(self._definitions) >= DEFINITIONS_MAX:
            raise ConfigurationError(
                f"A registry has at most {DEFINITIONS_MAX:,} tasks: register {definition.name!r} in another worker."
            )
        self._definitions[place] = definition
        for changed in list(self._watchers):
            changed()

    @contextmanager
    def watched(self, changed: Callable[[], object]) -> Iterator[None]:
        """While the context is active, `changed` is called after each registration, in the thread that registered."""
        self._watchers.append(changed)
        try:
            yield
        finally:
            self._watchers.remove(changed)

    @property
    def registration(self) -> Registration:
        """The current definitions and their revision."""
        definitions = tuple(one.announced for one in list(self._definitions.values()))
        return Registration(len(definitions), definitions)

    def find(self, namespace: str, name: str, version: str | None) -> TaskDefinition | None:
        """The handler of a task: that of its namespace, else that for all namespaces; None if there is none."""
        version = version or FIRST_VERSION
        return self._definitions.get((namespace, name, version)) or self._definitions.get((None, name, version))

    @property
    def names(self) -> list[str]:
        """The names of all tasks, sorted."""
        return sorted({name for _, name, _ in list(self._definitions)})


def load_registry(reference: str) -> TaskRegistry:
    """The registry at "module:attribute" (attribute defaults to `tasks`); the current folder is searched first.

    Raises ConfigurationError if the module cannot be imported or has no such registry; the message lists those it has."""
    module_name, _, attribute = reference.partition(":")
    attribute = attribute or "tasks"
    if not module_name:
        raise ConfigurationError(
            f"{reference!r} does not name a module. Specify the tasks as module:registry, for example app:tasks."
        )
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == module_name:
            why = f"no module {module_name!r} was found in {folder} or on the path. Specify the tasks as module:registry"
        else:
            said = str(error).rstrip(".") if isinstance(error, HubError) else f"{type(error).__name__}: {error}"
            why = f"{said}{code_location(error)}"
        raise ConfigurationError(f"The worker module {module_name!r} cannot be imported: {why}.") from error
    except SystemExit as error:
        raise ConfigurationError(
            f"The worker module {module_name!r} cannot be imported: it ends the process with sys.exit({error})."
        ) from error
    found = getattr(module, attribute, None)
    if isinstance(found, TaskRegistry):
        return found
    there = [name for name, value in vars(module).items() if isinstance(value, TaskRegistry)]
    close = get_close_matches(attribute, there, 1)
    listed = f" Registries of the module: {', '.join(there) or 'none'}."
    hint = f" Did you mean {module_name}:{close[0]}?" if close else listed
    what = "is not a TaskRegistry" if found is not None else "does not exist"
    raise ConfigurationError(f"The registry {attribute!r} of the module {module_name!r} {what}.{hint}")
