"""Handlers: which method of a subscriber takes which event types. Mistakes raise TypeError when the class is created."""

import inspect
import types
import typing
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, TypeVar, overload

from schemas import CATALOGUE, TYPE_OF_DATA, Event

from .delivery import Batch


class On(NamedTuple):
    """What `@on` leaves on a method: the named event types, none when the annotation names them, and the batch."""

    patterns: tuple[str, ...]
    batch: Batch | None


class Handler(NamedTuple):
    """One method that takes events: found by the class, used by the runtime.

    `patterns`: event types, with `*` for any text. `whole`: it takes `schemas.Event`, otherwise the type's data struct.
    `takes_meta`: it has a second parameter. `batch`: it takes lists.
    """

    method: str
    patterns: tuple[str, ...]
    whole: bool
    takes_meta: bool
    is_async: bool
    batch: Batch | None = None

    def matches(self, event_type: str) -> int:
        """How closely this names `event_type`: 0 not at all; an exact name beats a pattern, a longer pattern a shorter one."""
        best = 0
        for pattern in self.patterns:
            if pattern == event_type:
                return 1_000_000
            if type_matches(pattern, event_type):
                best = max(best, len(pattern))
        return best


def type_matches(pattern: str, event_type: str) -> bool:
    """Whether `event_type` is `pattern`, in which `*` stands for any text."""
    return pattern == event_type or ("*" in pattern and fnmatchcase(event_type, pattern.replace("[", "[[]").replace("?", "[?]")))


Method = TypeVar("Method", bound=Callable[..., Any])


@overload
def on(method: Method, /) -> Method: ...
@overload
def on(*event_types: str, batch: Batch | None = None) -> Callable[[Method], Method]: ...
def on(*arguments: Any, batch: Batch | None = None) -> Any:
    """Mark a method as a handler: `@on` (types from the annotation of its first parameter), `@on("task.failed", "worker.*")`.

    The first parameter is the type's data struct when it is annotated with one (or a union of several), else the whole
    `schemas.Event`. A second parameter, if there is one, is the `Meta`. With `batch`, both are lists.
    """
    if len(arguments) == 1 and callable(arguments[0]):
        arguments[0].__subscriber_on__ = On((), None)
        return arguments[0]
    if not all(isinstance(one, str) for one in arguments):
        raise TypeError("@on takes event types as text, or stands bare before a method")

    def mark(method: Method) -> Method:
        method.__subscriber_on__ = On(tuple(arguments), batch)  # type: ignore[attr-defined]
        return method

    return mark


def read_handler(where: str, name: str, function: Callable[..., Any], marked: On, skip: int) -> Handler:
    """Read the function's signature. Raises TypeError with a sentence about what cannot be."""
    parameters = list(inspect.signature(function).parameters.values())[skip:]
    required = [one for one in parameters if one.default is one.empty and one.kind is not one.VAR_KEYWORD]
    if not parameters or len(required) > 2:
        raise TypeError(f"{where}: a handler takes the event and, optionally, its Meta")
    try:
        annotation = inspect.get_annotations(function, eval_str=True).get(parameters[0].name)
    except NameError as missing:
        raise TypeError(f"{where}: the annotation of {parameters[0].name!r} cannot be read: {missing}") from None
    structs = _structs(where, annotation, marked.batch)
    patterns = marked.patterns or tuple(TYPE_OF_DATA[one].type for one in structs)
    if not patterns:
        raise TypeError(f"{where}: name event types in @on(...), or annotate the parameter with structs of schemas.events")
    for pattern in patterns:
        if "*" not in pattern and pattern not in CATALOGUE:
            raise TypeError(f"{where}: {pattern!r} is not an event type of this hub")
    named = {one for one in CATALOGUE if Handler(name, patterns, False, False, False).matches(one)}
    if structs and not named <= {TYPE_OF_DATA[one].type for one in structs}:
        raise TypeError(f"{where}: the annotation does not cover every type in {', '.join(patterns)}")
    return Handler(name, patterns, not structs, len(parameters) > 1, inspect.iscoroutinefunction(function), marked.batch)


def _structs(where: str, annotation: Any, batch: Batch | None) -> list[Any]:
    """The data structs that the annotation names; none when the handler takes whole events."""
    if batch is not None and annotation is not None:
        if typing.get_origin(annotation) is not list:
            raise TypeError(f"{where}: a batch handler takes list[...]")
        (annotation,) = typing.get_args(annotation)
    if annotation is None or annotation is Event or annotation is Any:
        return []
    members = typing.get_args(annotation) if typing.get_origin(annotation) in (types.UnionType, typing.Union) else (annotation,)
    for member in members:
        if member not in TYPE_OF_DATA:
            raise TypeError(f"{where}: {member!r} is not the data of an event; take structs of schemas.events, or schemas.Event")
    return list(members)


def read_handlers(cls: type) -> list[Handler]:
    """The marked methods of the class and of its bases. Raises TypeError with a sentence about one that cannot be a handler."""
    found = []
    for name in dir(cls):
        plain = inspect.getattr_static(cls, name)
        function = plain.__func__ if isinstance(plain, staticmethod) else plain
        marked = getattr(function, "__subscriber_on__", None)
        if isinstance(marked, On):
            skip = 0 if isinstance(plain, staticmethod) else 1
            found.append(read_handler(f"{cls.__qualname__}.{name}", name, function, marked, skip))
    return found
