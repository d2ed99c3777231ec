"""The whole plugin interface of subscribers: what a plugin declares, what it is handed, what it may raise.

A subscriber is handed lifecycle events at least once, in order per task, with stable ids (`meta.source` + `meta.id`).
A handler that returns has acknowledged its event; one that raises gets it again. Everything that can be declared here is
acted on by the runtime; mistakes in a declaration raise TypeError or ValueError when the class is made, not at night.

Rules: imports `schemas` and pydantic only; no IO, no clock.
"""

import inspect
import logging
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any, ClassVar, Generic, Literal, NamedTuple, TypeVar, overload

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from schemas import CATALOGUE, TYPE_OF_DATA, Event

# Durations

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*")


def parse_duration(value: float | str) -> float:
    """Seconds in `value`: a number, or text such as "250ms", "5s", "10m", "1.5h", "1d". Raises ValueError otherwise."""
    if isinstance(value, str):
        match = _DURATION.fullmatch(value)
        if match is None:
            raise ValueError(
                f'{value!r} is not a duration: a number of seconds, or text such as "250ms", "5s", "10m", "1h", "1d"'
            )
        return float(match[1]) * _UNITS[match[2] or "s"]
    if value < 0 or value != value:
        raise ValueError(f"{value!r} is not a duration: it must not be negative")
    return float(value)


Duration = Annotated[float | str, AfterValidator(parse_duration)]


class _Declared(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


# How events are delivered


class Redelivery(_Declared):
    """Backoff after a failure: `initial` seconds, doubled each time, at most `max`; given up `timeout` after the first."""

    initial: Duration = 1.0
    max: Duration = 60.0
    timeout: Duration = "1h"

    def delay_seconds(self, failures: int) -> float:
        """The wait after the `failures`-th failure in a row (from 1), without jitter."""
        initial, longest = parse_duration(self.initial), parse_duration(self.max)
        return min(longest, initial * 2.0 ** min(failures - 1, 60))

    @property
    def timeout_seconds(self) -> float:
        """Seconds from the first failure after which no further try is made."""
        return parse_duration(self.timeout)


class Delivery(_Declared):
    """What the runtime promises a subscriber. Configuration may override any field, per instance.

    `order`: events of one "task" come one after the other (default); of one "root" (a workflow and all its steps); or of one
    "partition" of the log. `concurrency`: how many handlers run side by side (each for another task). `timeout`: how long one
    call of a handler may take. `on_error`, after the last retry: "dlq" sets the event aside in `hub.dlq.<id>`, "skip" logs it
    and continues, "stop" halts the subscriber before that event. A record that is not an event is set aside or skipped without
    retries, also where `on_error` is "stop". `in_flight_max`, `in_flight_bytes_max`: handed over and not
    yet acknowledged; beyond either, reading pauses.
    """

    order: Literal["task", "root", "partition"] = "task"
    concurrency: int = Field(default=1, ge=1, le=1024)
    retry: Redelivery = Redelivery()
    on_error: Literal["dlq", "skip", "stop"] = "dlq"
    timeout: Duration = "30s"
    in_flight_max: int = Field(default=2000, ge=1)
    in_flight_bytes_max: int = Field(default=32 * 1024 * 1024, ge=1)

    @property
    def timeout_seconds(self) -> float:
        """Seconds that one call of a handler may take."""
        return parse_duration(self.timeout)


class Batch(_Declared):
    """A handler takes up to `max` events at once; fewer when `linger` has passed since the first of them arrived."""

    max: int = Field(default=100, ge=1)
    linger: Duration = "1s"

    @property
    def linger_seconds(self) -> float:
        """Seconds that the first event of a batch waits for others."""
        return parse_duration(self.linger)


class Postpone(Exception):
    """Raised by a handler: not now; hand me this event again `after` seconds. Later events of the same task wait for it."""

    def __init__(self, after: float | str) -> None:
        super().__init__(f"postponed by {after}")
        self.after_seconds = parse_duration(after)


class Drop(Exception):
    """Raised by a handler: this event is of no use; acknowledge it and count it as dropped, with the reason."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


# Filters: the CloudEvents filter dialect over what is in the headers of a record, so that nothing is decoded for a refusal

FILTER_ATTRIBUTES = frozenset(
    {"specversion", "type", "source", "id", "subject", "time", "namespace", "taskname", "severitynumber", "traceparent"}
)
"""The CloudEvents attributes of an event that are in its headers: what a filter may name."""

Predicate = Callable[[Mapping[str, bytes]], bool]
_OPERATORS = ("exact", "prefix", "suffix", "all", "any", "not")


@dataclass(frozen=True)
class Filter:
    """A filter as a value: `operator` is one of exact, prefix, suffix (on `attributes`), all, any, not (on `filters`)."""

    operator: str
    attributes: tuple[tuple[str, str], ...] = ()
    filters: tuple["Filter", ...] = ()

    def predicate(self) -> Predicate:
        """A function from the headers of a record to whether it passes. An attribute that is absent matches nothing."""
        if self.operator in ("exact", "prefix", "suffix"):
            return _attribute_predicate(self.operator, self.attributes)
        inner = [one.predicate() for one in self.filters]
        if self.operator == "not":
            refused = inner[0]
            return lambda headers: not refused(headers)
        if self.operator == "all":
            return lambda headers: all(one(headers) for one in inner)
        return lambda headers: any(one(headers) for one in inner)

    def to_json(self) -> dict[str, Any]:
        """The filter in the JSON of the CloudEvents Subscriptions API."""
        if self.operator in ("exact", "prefix", "suffix"):
            return {self.operator: dict(self.attributes)}
        if self.operator == "not":
            return {"not": self.filters[0].to_json()}
        return {self.operator: [one.to_json() for one in self.filters]}


def _attribute_predicate(operator: str, attributes: tuple[tuple[str, str], ...]) -> Predicate:
    wanted = [("ce_" + name, value.encode()) for name, value in attributes]
    if operator == "exact":
        return lambda headers: all(headers.get(name) == value for name, value in wanted)
    if operator == "prefix":
        return lambda headers: all(headers.get(name, b"").startswith(value) and name in headers for name, value in wanted)
    return lambda headers: all(headers.get(name, b"").endswith(value) and name in headers for name, value in wanted)


class F:
    """How filters are written: `F.all(F.prefix(type="task."), F.not_(F.exact(namespace="sandbox")))`."""

    @staticmethod
    def exact(**attributes: str) -> Filter:
        """Every named attribute has exactly this value."""
        return _on_attributes("exact", attributes)

    @staticmethod
    def prefix(**attributes: str) -> Filter:
        """Every named attribute begins with this."""
        return _on_attributes("prefix", attributes)

    @staticmethod
    def suffix(**attributes: str) -> Filter:
        """Every named attribute ends with this."""
        return _on_attributes("suffix", attributes)

    @staticmethod
    def all(*filters: Filter) -> Filter:
        """All of them pass."""
        return _on_filters("all", filters)

    @staticmethod
    def any(*filters: Filter) -> Filter:
        """At least one of them passes."""
        return _on_filters("any", filters)

    @staticmethod
    def not_(inner: Filter) -> Filter:
        """It does not pass."""
        return Filter("not", filters=(inner,))


def _on_attributes(operator: str, attributes: Mapping[str, str]) -> Filter:
    if not attributes:
        raise ValueError(f"{operator}: name at least one attribute")
    for name, value in attributes.items():
        if name not in FILTER_ATTRIBUTES:
            raise ValueError(f"{operator}.{name}: no attribute in the headers; known are {', '.join(sorted(FILTER_ATTRIBUTES))}")
        if not isinstance(value, str) or not value:
            raise ValueError(f"{operator}.{name}: the value must be text that is not empty")
    return Filter(operator, attributes=tuple(attributes.items()))


def _on_filters(operator: str, filters: tuple[Filter, ...]) -> Filter:
    if not filters:
        raise ValueError(f"{operator}: at least one filter is needed")
    return Filter(operator, filters=filters)


def parse_filter(value: Any) -> Filter:
    """The filter in `value`: the JSON of the CloudEvents Subscriptions API. Raises ValueError naming the wrong part."""
    if not isinstance(value, Mapping) or len(value) != 1:
        raise ValueError(f"a filter is a table with one of {', '.join(_OPERATORS)}")
    ((operator, inner),) = value.items()
    if operator in ("exact", "prefix", "suffix") and isinstance(inner, Mapping):
        return _on_attributes(operator, inner)
    if operator in ("all", "any") and isinstance(inner, list):
        return _on_filters(operator, tuple(parse_filter(one) for one in inner))
    if operator == "not":
        return F.not_(parse_filter(inner))
    raise ValueError(f"{operator!r}: a filter is a table with one of {', '.join(_OPERATORS)}")


# What a handler is told beside the event


class Meta:
    """The envelope of an event and how this delivery of it came about.

    `partition`, `offset`: its place on `hub.events`. `attempt`: which try this is, from 1. `event`: the whole event
    (`schemas.Event`; `as_dict()` is the CloudEvent).
    """

    __slots__ = ("attempt", "event", "offset", "partition")

    def __init__(self, event: Event, partition: int, offset: int, attempt: int = 1) -> None:
        self.event = event
        self.partition = partition
        self.offset = offset
        self.attempt = attempt

    @property
    def type(self) -> str:
        """The dotted type."""
        return self.event.type

    @property
    def id(self) -> str:
        """Unique within `source`, the same at every delivery."""
        return self.event.id

    @property
    def source(self) -> str:
        """URI path of the entity."""
        return self.event.source

    @property
    def subject(self) -> str:
        """The entity's id: the task, the worker, the engine partition."""
        return self.event.subject

    @property
    def entity(self) -> str:
        """<kind>/<id>."""
        return self.event.entity

    @property
    def time(self) -> str:
        """RFC 3339, UTC, the engine's clock."""
        return self.event.time

    @property
    def sequence(self) -> int:
        """1, 2, 3 … within the entity's run."""
        return self.event.sequence

    @property
    def run(self) -> int:
        """Rises with each use of the entity's id."""
        return self.event.run

    @property
    def namespace(self) -> str | None:
        """None for workers and the engine."""
        return self.event.namespace

    @property
    def taskname(self) -> str | None:
        """None for workers and the engine."""
        return self.event.taskname

    @property
    def rootid(self) -> str | None:
        """The workflow's (or the task's own) id."""
        return self.event.rootid

    @property
    def correlationid(self) -> str | None:
        """The caller's own id of the business process."""
        return self.event.correlationid

    @property
    def severity(self) -> int:
        """OpenTelemetry: 5 debug, 9 info, 13 warn, 17 error."""
        return self.event.severitynumber

    @property
    def traceparent(self) -> str | None:
        """W3C trace context of the flow."""
        return self.event.traceparent

    @property
    def from_state(self) -> str | None:
        """The task's state before, or None."""
        return self.event.from_state

    @property
    def to_state(self) -> str | None:
        """The task's state after, or None."""
        return self.event.to_state

    def __repr__(self) -> str:
        return f"Meta({self.type} {self.subject} #{self.sequence}, {self.partition}/{self.offset}, attempt {self.attempt})"


class SubscriberContext(NamedTuple):
    """What `open` is given: the instance's id (from the configuration) and a logger of its own."""

    id: str
    logger: logging.Logger


# Handlers: which method takes which types


class _On(NamedTuple):
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
        arguments[0].__subscriber_on__ = _On((), None)
        return arguments[0]
    if not all(isinstance(one, str) for one in arguments):
        raise TypeError("@on takes event types as text, or stands bare before a method")

    def mark(method: Method) -> Method:
        method.__subscriber_on__ = _On(tuple(arguments), batch)  # type: ignore[attr-defined]
        return method

    return mark


def _handler_of(where: str, name: str, function: Callable[..., Any], marked: _On, skip: int) -> Handler:
    """Read the function's signature. Raises TypeError with a sentence about what cannot be."""
    parameters = list(inspect.signature(function).parameters.values())[skip:]
    required = [one for one in parameters if one.default is one.empty and one.kind is not one.VAR_KEYWORD]
    if not parameters or len(required) > 2:
        raise TypeError(f"{where}: a handler takes the event and, if it likes, the meta")
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


# The subscriber


class SubscriberSettings(BaseModel):
    """The base of a plugin's settings: unknown keys are refused; keep secrets in `pydantic.SecretStr`."""

    model_config = ConfigDict(extra="forbid", frozen=True)


SettingsT = TypeVar("SettingsT", bound=SubscriberSettings)


class Subscriber(Generic[SettingsT]):
    """Derive from it, mark methods with `@on`, and be handed events.

    One instance per configured subscriber, in a thread and an event loop of its own: what blocks here slows nobody else.
    An event type goes to one method: the one that names it most closely.
    """

    name: ClassVar[str] = ""
    delivery: ClassVar[Delivery] = Delivery()
    filter: ClassVar[Filter | None] = None
    settings_class: ClassVar[type[SubscriberSettings]] = SubscriberSettings
    handlers: ClassVar[tuple[Handler, ...]] = ()

    def __init__(self, settings: SettingsT) -> None:
        self.settings = settings

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        for base in getattr(cls, "__orig_bases__", ()):
            for argument in typing.get_args(base):
                if isinstance(argument, type) and issubclass(argument, SubscriberSettings):
                    cls.settings_class = argument
        cls.handlers = tuple(_handlers_of(cls))
        for event_type in CATALOGUE:
            cls.handler_of(event_type)

    @classmethod
    def event_types(cls, settings: SettingsT) -> tuple[str, ...]:
        """Override to let settings narrow what the handlers are given: types, with `*` for any text. By default everything."""
        return ("*",)

    @classmethod
    def handler_of(cls, event_type: str) -> Handler | None:
        """The handler that names the type most closely; None when none does. Raises TypeError when two do equally."""
        ranked = sorted(((one.matches(event_type), one) for one in cls.handlers), key=lambda pair: -pair[0])
        if not ranked or ranked[0][0] == 0:
            return None
        if len(ranked) > 1 and ranked[1][0] == ranked[0][0]:
            both = f"{ranked[0][1].method} and {ranked[1][1].method}"
            raise TypeError(f"{cls.__qualname__}: {event_type} goes to one method, but {both} name it equally")
        return ranked[0][1]

    async def open(self, ctx: SubscriberContext) -> None:
        """Called before the first event, in the thread and loop that handlers run in. Raise, and it is tried again later."""

    async def flush(self) -> None:
        """For sinks that buffer: if it is overridden, events are acknowledged only after it has returned."""

    async def close(self) -> None:
        """Called after the last event (also before another try at `open`, if that succeeded once)."""


def _handlers_of(cls: type[Subscriber[Any]]) -> list[Handler]:
    found = []
    for name in dir(cls):
        plain = inspect.getattr_static(cls, name)
        function = plain.__func__ if isinstance(plain, staticmethod) else plain
        marked = getattr(function, "__subscriber_on__", None)
        if isinstance(marked, _On):
            skip = 0 if isinstance(plain, staticmethod) else 1
            found.append(_handler_of(f"{cls.__qualname__}.{name}", name, function, marked, skip))
    return found


def subscriber(
    *event_types: str,
    name: str | None = None,
    delivery: Delivery | None = None,
    filter: Filter | None = None,
    batch: Batch | None = None,
) -> Callable[[Callable[..., Any]], type[Subscriber[SubscriberSettings]]]:
    """Make a subscriber of a plain function: `@subscriber("task.failed", "workflow.*") async def on_fail(event): ...`.

    The result is a class (configure it as "module:on_fail"); the function itself stays callable as its `handle`.
    """

    def make(function: Callable[..., Any]) -> type[Subscriber[SubscriberSettings]]:
        plain = on(*event_types, batch=batch)(function)
        members = {
            "name": name or getattr(function, "__name__", "function"),
            "delivery": delivery or Delivery(),
            "filter": filter,
            "handle": staticmethod(plain),
            "__module__": function.__module__,
            "__doc__": function.__doc__,
        }
        return type(getattr(function, "__name__", "function"), (Subscriber,), members)

    return make
