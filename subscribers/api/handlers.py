"""Handlers: the methods of a subscriber and their event types. Invalid ones raise TypeError when the class is created."""

import inspect
import types
import typing
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, TypeVar, overload

from schemas import CATALOGUE, TYPE_OF_DATA, Event

from .delivery import Batch


class On(NamedTuple):
    """The arguments of `@on`, stored on the method: event types (none if the annotation has them), and the batch."""

    patterns: tuple[str, ...]
    batch: Batch | None


class Handler(NamedTuple):
    """A method that handles events.

    `patterns`: event types, in which `*` matches any text. `whole`: it takes a `schemas.Event`, otherwise the data struct of the
    type. `takes_meta`: it has a second parameter. `batch`: it takes lists.
    """

    method: str
    patterns: tuple[str, ...]
    whole: bool
    takes_meta: bool
    is_async: bool
    batch: Batch | None = None

    def matches(self, event_type: str) -> int:
        """How specifically the patterns match `event_type`: 0 if not at all; an exact name is higher than a pattern, a longer
        pattern higher than a shorter one."""
        best = 0
        for pattern in self.patterns:
            if pattern == event_type:
                return 1_000_000
            if type_matches(pattern, event_type):
                best = max(best, len(pattern))
        return best


def type_matches(pattern: str, event_type: str) -> bool:
    """Whether `event_type` matches `pattern`, in which `*` matches any text."""
    return pattern == event_type or ("*" in pattern and fnmatchcase(event_type, pattern.replace("[", "[[]").replace("?", "[?]")))


Method = TypeVar("Method", bound=Callable[..., Any])


@overload
def on(method: Method, /) -> Method: ...
@overload
def on(*event_types: str, batch: Batch | None = None) -> Callable[[Method], Method]: ...
def on(*arguments: Any, batch: Batch | None = None) -> Any:
    """Mark a method as a handler: `@on` (event types from the annotation of its first parameter), or
    `@on("task.failed", "worker.*")`.

    If the first parameter is annotated with a data struct (or a union of several), it gets the event's data, otherwise the whole
    `schemas.Event`. An optional second parameter gets the `Meta`. With `batch`, both are lists.
    """
    if len(arguments) == 1 and callable(arguments[0]):
        arguments[0].__subscriber_on__ = On((), None)
        return arguments[0]
    if not all(isinstance(one, str) for one in arguments):
        raise TypeError("@on: event types must be strings; use @on without parentheses to take them from the annotation")

    def mark(method: Method) -> Method:
        method.__subscriber_on__ = On(tuple(arguments), batch)  # type: ignore[attr-defined]
        return method

    return mark


def read_handler(where: str, name: str, function: Callable[..., Any], marked: On, skip: int) -> Handler:
    """The handler for a marked function, from its signature; `skip`: the number of leading parameters (self). Raises TypeError,
    which begins with `where`, if it cannot be a handler."""
    parameters = list(inspect.signature(function).parameters.values())[skip:]
    required = [one for one in parameters if one.default is one.empty and one.kind is not one.VAR_KEYWORD]
    if not parameters or len(required) > 2:
        raise TypeError(f"{where}: a handler takes the event and, optionally, its Meta")
    try:
        annotation = inspect.get_annotations(function, eval_str=True).get(parameters[0].name)
    except NameError as missing:
        raise TypeError(f"{where}: the annotation of {parameters[0].name!r} cannot be evaluated: {missing}") from None
    structs = _structs(where, annotation, marked.batch)
    patterns = marked.patterns or tuple(TYPE_OF_DATA[one].type for one in structs)
    if not patterns:
        raise TypeError(f"{where}: list event types in @on(...), or annotate the parameter with structs of schemas.events")
    for pattern in patterns:
        if "*" not in pattern and pattern not in CATALOGUE:
            raise TypeError(f"{where}: {pattern!r} is not an event type of this hub; see `hub events list`")
    named = {one for one in CATALOGUE if Handler(name, patterns, False, False, False).matches(one)}
    if structs and not named <= {TYPE_OF_DATA[one].type for one in structs}:
        raise TypeError(f"{where}: the annotation does not include all types in {', '.join(patterns)}")
    return Handler(name, patterns, not structs, len(parameters) > 1, inspect.iscoroutinefunction(function), marked.batch)


def _structs(where: str, annotation: Any, batch: Batch | None) -> list[Any]:
    """The data structs in the annotation; none if the handler takes whole events."""
    if batch is not None and annotation is not None:
        if typing.get_origin(annotation) is not list:
            raise TypeError(f"{where}: the first parameter of a batch handler must be annotated with list[...]")
        (annotation,) = typing.get_args(annotation)
    if annotation is None or annotation is Event or annotation is Any:
        return []
    members = typing.get_args(annotation) if typing.get_origin(annotation) in (types.UnionType, typing.Union) else (annotation,)
    for member in members:
        if member not in TYPE_OF_DATA:
            raise TypeError(f"{where}: {member!r} is not the data of an event; use structs of schemas.events, or schemas.Event")
    return list(members)


def read_handlers(cls: type) -> list[Handler]:
    """The handlers of a class and of its bases. Raises TypeError for a marked method that cannot be a handler."""
    found = []
    for name in dir(cls):
        plain = inspect.getattr_static(cls, name)
        function = plain.__func__ if isinstance(plain, staticmethod) else plain
        marked = getattr(function, "__subscriber_on__", None)
        if isinstance(marked, On):
            skip = 0 if isinstance(plain, staticmethod) else 1
            found.append(read_handler(f"{cls.__qualname__}.{name}", name, function, marked, skip))
    return found
