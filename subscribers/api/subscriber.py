"""The base classes of subscribers and of their settings; the decorator for functions."""

import logging
import typing
from collections.abc import Callable
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict

from schemas import CATALOGUE

from .delivery import Batch, Delivery
from .filters import Filter
from .handlers import Handler, on, read_handlers
from .metrics import Metrics, NoMetrics
from .state import State, UndeclaredState


class SubscriberContext(NamedTuple):
    """The argument of `open`: the id of the instance (from the configuration), its logger, its durable state, if the class
    declares `uses_state`, and its metrics."""

    id: str
    logger: logging.Logger
    state: State = UndeclaredState()
    metrics: Metrics = NoMetrics()


class SubscriberSettings(BaseModel):
    """The base of a plugin's settings. Unknown keys are rejected; use `pydantic.SecretStr` for secrets."""

    model_config = ConfigDict(extra="forbid", frozen=True)


SettingsT = TypeVar("SettingsT", bound=SubscriberSettings)


class Subscriber(Generic[SettingsT]):
    """The base class of subscribers: methods marked with `@on` receive events.

    Each configured subscriber has one instance, which runs in its own thread and event loop, so that blocking code does not
    affect others. An event type is handled by one method, the one with the most specific pattern. `uses_state`: `ctx.state` is
    loaded before `open`.
    """

    name: ClassVar[str] = ""
    delivery: ClassVar[Delivery] = Delivery()
    filter: ClassVar[Filter | None] = None
    settings_class: ClassVar[type[SubscriberSettings]] = SubscriberSettings
    handlers: ClassVar[tuple[Handler, ...]] = ()
    uses_state: ClassVar[bool] = False

    def __init__(self, settings: SettingsT) -> None:
        self.settings = settings

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        for base in getattr(cls, "__orig_bases__", ()):
            for argument in typing.get_args(base):
                if isinstance(argument, type) and issubclass(argument, SubscriberSettings):
                    cls.settings_class = argument
        cls.handlers = tuple(read_handlers(cls))
        for event_type in CATALOGUE:
            cls.handler_of(event_type)

    @classmethod
    def event_types(cls, settings: SettingsT) -> tuple[str, ...]:
        """The event types to receive, in which `*` matches any text (default: all). Override it to select them by settings."""
        return ("*",)

    @classmethod
    def handler_of(cls, event_type: str) -> Handler | None:
        """The handler with the most specific pattern for the type; None if none matches. Raises TypeError if two match equally
        well."""
        ranked = sorted(((one.matches(event_type), one) for one in cls.handlers), key=lambda pair: -pair[0])
        if not ranked or ranked[0][0] == 0:
            return None
        if len(ranked) > 1 and ranked[1][0] == ranked[0][0]:
            both = f"{ranked[0][1].method} and {ranked[1][1].method}"
            raise TypeError(f"{cls.__qualname__}: {event_type} must be handled by one method, but {both} match it equally well")
        return ranked[0][1]

    async def open(self, ctx: SubscriberContext) -> None:
        """Called before the first event, in the thread and loop of the handlers. If it raises, it is retried later."""

    async def flush(self) -> None:
        """For sinks that buffer: if overridden, events are acknowledged only after it has returned."""

    async def close(self) -> None:
        """Called after the last event; also before `open` is called again on a new instance after a failure."""


def subscriber(
    *event_types: str,
    name: str | None = None,
    delivery: Delivery | None = None,
    filter: Filter | None = None,
    batch: Batch | None = None,
) -> Callable[[Callable[..., Any]], type[Subscriber[SubscriberSettings]]]:
    """Create a subscriber from a function: `@subscriber("task.failed", "workflow.*") async def on_fail(event): ...`.

    The result is a class (configure it as "module:on_fail"); the function remains callable as its `handle`. Raises TypeError if
    the function cannot be a handler.
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
