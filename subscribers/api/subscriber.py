"""The base class of subscribers and of their settings; a subscriber of a plain function."""

import logging
import typing
from collections.abc import Callable
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict

from schemas import CATALOGUE

from .delivery import Batch, Delivery
from .filters import Filter
from .handlers import Handler, on, read_handlers


class SubscriberContext(NamedTuple):
    """What `open` is given: the instance's id (from the configuration) and a logger of its own."""

    id: str
    logger: logging.Logger


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
        cls.handlers = tuple(read_handlers(cls))
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
