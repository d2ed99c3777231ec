"""What alert targets share: their settings, the decision which events are announced, and the request over HTTP.

A target is a class with `settings` and one pure method, `request`, that turns a notice into an HTTP request. Handling of an
event:

1. `Alerts.take` decides whether a notice must be sent.
2. The target sends it. If the destination is unavailable, the event is redelivered later.
3. `Alerts.commit` writes the state.
"""

import asyncio
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, NamedTuple, TypeVar

from pydantic import SecretStr

from schemas import Event

from ..api import (
    Delivery,
    Duration,
    EventTypes,
    Meta,
    Redelivery,
    Subscriber,
    SubscriberContext,
    SubscriberSettings,
    on,
    parse_duration,
)
from ..sinks import Answer, HttpSink, SecretProxyUrl
from .alerting import DEFAULT_TYPES, AlertPolicy, Alerts, types_to_receive
from .counting import Notifications
from .links import LinkTemplate
from .notice import LinkTemplates, Notice

ALERT_DELIVERY = Delivery(retry=Redelivery(initial=1, max=60, timeout="1h"), replay="skip", max_event_age="1h")
"""Past events are not announced: neither those of a replay, nor those that waited longer than an hour."""
JSON_CONTENT: Mapping[str, str] = {"content-type": "application/json"}


class NoticeSettings(SubscriberSettings):
    """`types`: event types that are announced, `*` matches any text (default: errors, state of the disk, alerts of rules).
    `task_url`, `trace_url`: templates of links, see `LinkTemplate`."""

    types: EventTypes = DEFAULT_TYPES
    task_url: LinkTemplate = ""
    trace_url: LinkTemplate = ""

    @property
    def templates(self) -> LinkTemplates:
        """The templates of links."""
        return LinkTemplates(self.task_url, self.trace_url)


class AlertSettings(NoticeSettings):
    """Also: `repeat_after`: an alert that still fires is announced again at the first failure after this time. `resolve_after`: a
    success resolves only alerts without a failure for this time; set it for tasks of which some always fail."""

    repeat_after: Duration = "4h"
    resolve_after: Duration = 0

    @property
    def policy(self) -> AlertPolicy:
        """Which events are announced."""
        return AlertPolicy(self.types, self.templates, parse_duration(self.repeat_after), parse_duration(self.resolve_after))


class HttpAlertSettings(AlertSettings):
    """Also: `proxy`: the URL of an HTTP proxy."""

    proxy: SecretProxyUrl | None = None


class AlertRequest(NamedTuple):
    """A POST request. The URL may be secret."""

    url: str
    content: bytes
    headers: Mapping[str, str] = JSON_CONTENT


AlertSettingsT = TypeVar("AlertSettingsT", bound=AlertSettings)
HttpAlertSettingsT = TypeVar("HttpAlertSettingsT", bound=HttpAlertSettings)


class Notifier(Subscriber[AlertSettingsT]):
    """A subscriber that sends notices and keeps the state of alerts. A subclass has a handler, which calls `notify`, and
    `send`."""

    delivery = ALERT_DELIVERY
    uses_state: ClassVar[bool] = True

    @classmethod
    def event_types(cls, settings: AlertSettingsT) -> tuple[str, ...]:
        """The types in the settings, and those that resolve their alerts."""
        return types_to_receive(settings.types)

    async def open(self, ctx: SubscriberContext) -> None:
        """Read the alerts that fire."""
        self.log = ctx.logger
        self._itself = f"subscriber/{ctx.id}"
        self._notifications = Notifications(ctx.metrics, self.name)
        self.alerts = Alerts(self.settings.policy, ctx.state, self._forgotten)
        self._turn = asyncio.Lock()  # decisions about one alert must not overlap if the operator sets a higher concurrency

    async def notify(self, events: Iterable[Event]) -> None:
        """Send the notices that are due because of these events. Events about this subscriber itself are not announced: a
        failure to send would cause the next one."""
        async with self._turn:
            try:
                notices = [notice for event in events if event.entity != self._itself for notice in self.alerts.take(event)]
                if notices:
                    with self._notifications.counting(notices):
                        await self.send(notices)
                await self.alerts.commit()
            finally:
                self.alerts.discard()

    @abstractmethod
    async def send(self, notices: Sequence[Notice]) -> None:
        """Send notices, in order. Raises Unavailable, Undeliverable."""
        raise NotImplementedError

    def _forgotten(self, group: str) -> None:
        self.log.warning(
            "too many alerts fire: %s is forgotten, and will not be resolved", group, extra={"action": "alert_forgotten"}
        )


def sink_of(proxy: SecretStr | None) -> HttpSink:
    """The client of a target. Its destination is in the operator's file, so no address is refused."""
    return HttpSink(proxy=None if proxy is None else proxy.get_secret_value())


class HttpTarget(Notifier[HttpAlertSettingsT]):
    """A target over HTTP: `request` makes the request of a notice."""

    async def open(self, ctx: SubscriberContext) -> None:
        """Read the alerts that fire; connections are opened when they are needed."""
        await super().open(ctx)
        self.http = sink_of(self.settings.proxy)

    @on("*")
    async def receive(self, event: Event, meta: Meta) -> None:
        """Send the notices that are due because of this event."""
        await self.notify([event])

    async def send(self, notices: Sequence[Notice]) -> None:
        """Send the request of each notice."""
        for notice in notices:
            await self.post(self.request(notice))

    @abstractmethod
    def request(self, notice: Notice) -> AlertRequest:
        """The request for a notice."""
        raise NotImplementedError

    async def post(self, request: AlertRequest) -> Answer:
        """Send a request. Raises Unavailable, Undeliverable."""
        return await self.http.post(request.url, request.content, request.headers)

    async def close(self) -> None:
        """Close the connections."""
        await self.http.aclose()
