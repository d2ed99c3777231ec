"""A subscriber alone in a test: what is fed, what waits for time, what the contract finds."""

from typing import Any, ClassVar

import pytest
from pydantic import SecretStr

from hub.errors import ConfigurationError
from hub.testing import HttpEndpoint, HttpReply, SubscriberContract, SubscriberHarness, make_event_record
from schemas import Event
from schemas.events import TaskFailed
from subscribers import (
    Delivery,
    F,
    Meta,
    Redelivery,
    Subscriber,
    SubscriberContext,
    SubscriberSettings,
    on,
    subscriber,
)
from subscribers.sinks import HttpSink


class PostSettings(SubscriberSettings):
    url: str
    token: SecretStr = SecretStr("hidden-token")


class Post(Subscriber[PostSettings]):
    name = "post"
    filter = F.not_(F.exact(namespace="sandbox"))
    delivery = Delivery(replay="skip")

    async def open(self, ctx: SubscriberContext) -> None:
        self.sink = HttpSink(timeout_seconds=2)
        self.metrics = ctx.metrics

    @on("task.failed", "task.completed")
    async def post(self, event: Event, meta: Meta) -> None:
        await self.sink.post(f"{self.settings.url}/events", event.type.encode(), {"x-key": meta.idempotency_key})
        self.metrics.counter("posts", type=event.type).add()

    async def close(self) -> None:
        await self.sink.aclose()


async def test_an_event_reaches_a_real_endpoint_before_feed_returns() -> None:
    async with HttpEndpoint() as endpoint, SubscriberHarness(Post, {"url": endpoint.url}) as harness:
        await harness.feed("task.failed", attempt=3)
        assert [one.body for one in endpoint.requests] == [b"task.failed"]
        assert harness.delivered == harness.acknowledged == 1
        assert harness.metric("posts") == {("task.failed",): 1.0}


async def test_types_and_filters_hold_and_examples_are_different_events() -> None:
    async with HttpEndpoint() as endpoint, SubscriberHarness(Post, {"url": endpoint.url}) as harness:
        await harness.feed("task.created")
        await harness.feed("task.failed", envelope={"namespace": "sandbox"})
        assert endpoint.requests == []
        for _ in range(3):
            await harness.feed("task.failed")
        assert len({one.headers["x-key"] for one in endpoint.requests}) == 3


async def test_a_record_that_is_fed_twice_has_the_same_key() -> None:
    record = make_event_record("task.completed")
    async with HttpEndpoint() as endpoint, SubscriberHarness(Post, {"url": endpoint.url}) as harness:
        await harness.feed(record)
        await harness.feed(record)
        first, second = endpoint.requests
        assert first.headers["x-key"] == second.headers["x-key"]


async def test_what_waits_is_delivered_when_the_time_has_come() -> None:
    busy = HttpReply(503, {"retry-after": "30"})
    async with HttpEndpoint([busy]) as endpoint, SubscriberHarness(Post, {"url": endpoint.url}) as harness:
        await harness.feed("task.failed")
        await harness.advance(seconds=29)
        assert (len(endpoint.requests), harness.delivered) == (1, 0)
        await harness.advance(seconds=10)
        assert (harness.delivered, harness.errors, harness.dead_letters) == (1, [], [])


async def test_errors_of_handlers_are_there_while_their_events_wait() -> None:
    async with SubscriberHarness(Faulty, delivery={"retry": {"initial": 5, "max": 5, "timeout": 60}}) as harness:
        await harness.feed("task.failed", worker=None)
        assert [type(error) for error in harness.errors] == [AssertionError]
        await harness.advance(seconds=120)
        assert [letter.attempts > 1 for letter in harness.dead_letters] == [True]


async def test_replayed_events_get_an_instance_of_their_own_and_are_counted_apart() -> None:
    seen: list[bool] = []

    @subscriber("task.failed")
    async def note(event: Event, meta: Meta) -> None:
        seen.append(meta.replay)

    async with SubscriberHarness(note) as harness:
        await harness.feed("task.failed")
        await harness.feed("task.failed", replay=True)
        assert (harness.delivered, harness.replayed, seen) == (1, 1, [False, True])


async def test_an_invalid_setting_is_named_when_the_harness_is_created() -> None:
    with pytest.raises(ConfigurationError, match=r"settings\.url"):
        SubscriberHarness(Post, {})


class TestPost(SubscriberContract):
    """Nobody listens at the address: deliveries wait, and no handler fails because of an event."""

    plugin = Post
    settings: ClassVar[dict[str, Any]] = {"url": "http://127.0.0.1:9"}


class Faulty(Subscriber[SubscriberSettings]):
    """Expects a field that may be absent."""

    name = "faulty"
    delivery = Delivery(retry=Redelivery(timeout=0))

    @on
    async def failed(self, event: TaskFailed) -> None:
        assert event.worker is not None


class AnySettings(SubscriberSettings, extra="allow"):
    """Accepts anything."""


class Loud(Subscriber[AnySettings]):
    """Its settings accept anything."""

    name = "loud"

    @on("task.failed")
    async def failed(self, event: Event) -> None:
        """Nothing."""


def test_the_contract_finds_a_handler_that_needs_a_field_that_may_be_absent() -> None:
    class Contract(SubscriberContract):
        plugin = Faulty

    Contract().test_every_event_type_that_it_takes_is_handled()
    with pytest.raises(AssertionError, match="a handler raised AssertionError"):
        Contract().test_an_event_without_optional_fields_is_handled()


def test_the_contract_finds_settings_that_accept_anything() -> None:
    class Contract(SubscriberContract):
        plugin = Loud

    with pytest.raises(AssertionError, match="a setting that does not exist is accepted"):
        Contract().test_unknown_settings_are_rejected()


def test_the_contract_finds_a_subscriber_without_a_name_or_without_events() -> None:
    class Nameless(Loud):
        name = ""

    class Contract(SubscriberContract):
        plugin = Nameless

    with pytest.raises(AssertionError, match="Nameless.name is empty"):
        Contract().test_it_has_a_name_and_handles_events()
