"""A pager: opens an incident when tasks of a name begin to fail, and closes it when one of them completes.

```toml
[[subscribers]]
use = "pager:Pager"
settings = { url = "https://pager.example.com/v1/incidents", token = "..." }
```
"""

import json
from typing import Any, ClassVar

from pydantic import SecretStr

from schemas import Event
from subscribers import Delivery, Subscriber, SubscriberContext, SubscriberSettings, Unavailable, error_of, on
from subscribers.sinks import HttpSink

MAINTENANCE = frozenset({409})
"""The answer of this pager during maintenance. It takes incidents later, so this status is no rejection."""


class PagerSettings(SubscriberSettings):
    """`url`: where incidents are posted. `token`: sent as a bearer token."""

    url: str
    token: SecretStr


class Pager(Subscriber[PagerSettings]):
    """One incident per task name. Which are open is kept in `ctx.state`, so that a restart opens none again. One handler runs
    at a time (`concurrency` is 1), so that nothing happens between `get` and `put`.

    Events that are replayed, or older than an hour, open no incident. `HttpSink` raises Unavailable while the pager cannot be
    reached (events wait), and Undeliverable for events that it rejects (events become dead letters)."""

    name = "pager"
    uses_state: ClassVar[bool] = True
    delivery = Delivery(replay="skip", max_event_age="1h")

    async def open(self, ctx: SubscriberContext) -> None:
        """Prepare the HTTP client."""
        self._state = ctx.state
        self._sink = HttpSink(timeout_seconds=10)

    @on("task.failed")
    async def firing(self, event: Event) -> None:
        """Open an incident, unless there is one: the next failures of the same name belong to it."""
        name = event.taskname or ""
        if self._state.get(name) is None:
            error = error_of(event)
            await self._post(name, "firing", task=event.subject, error="" if error is None else error.message)
            await self._state.put(name, {"since": event.time})

    @on("task.completed")
    async def resolved(self, event: Event) -> None:
        """Close the incident, if there is one."""
        name = event.taskname or ""
        if self._state.get(name) is not None:
            await self._post(name, "resolved")
            await self._state.delete(name)

    async def _post(self, name: str, status: str, **details: Any) -> None:
        """The pager deduplicates by `key`: to post twice, after a crash between `post` and `put`, does no harm."""
        content = json.dumps({"key": f"taskhub/{name}", "status": status, **details}).encode()
        headers = {"content-type": "application/json", "authorization": f"Bearer {self.settings.token.get_secret_value()}"}
        answer = await self._sink.post(self.settings.url, content, headers, status_is_answer=MAINTENANCE)
        if answer.status in MAINTENANCE:
            raise Unavailable("the pager is in maintenance", retry_after="5m")

    async def close(self) -> None:
        """Close the connections."""
        await self._sink.aclose()
