"""Valid declarations of a subscriber, and errors at the definition of its class."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import subscribers
from hub.testing import make_event
from schemas import CATALOGUE, Event
from schemas.events import AttemptFailedEvent, TaskCompleted, TaskFailed
from subscribers import (
    Batch,
    Delivery,
    F,
    Meta,
    Redelivery,
    Subscriber,
    SubscriberSettings,
    on,
    parse_duration,
    parse_filter,
    subscriber,
)


def test_every_public_name_is_there() -> None:
    assert all(hasattr(subscribers, name) for name in subscribers.__all__)


@pytest.mark.parametrize(
    ("text", "seconds"), [("250ms", 0.25), ("5s", 5), ("10m", 600), ("1.5h", 5400), ("1d", 86400), ("7", 7), (0.5, 0.5), (3, 3)]
)
def test_durations_are_numbers_of_seconds_or_text_with_a_unit(text: Any, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "5 weeks", "-1s", -1, float("nan"), "1h30m"])
def test_what_is_no_duration_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


def test_back_off_doubles_up_to_its_maximum() -> None:
    retry = Redelivery(initial=1, max="10s", timeout="1h")
    assert [retry.delay_seconds(n) for n in (1, 2, 3, 4, 5, 500)] == [1, 2, 4, 8, 10, 10]


def test_an_unknown_option_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="speed"):
        Delivery(speed="5/s")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("text", "calls", "seconds"),
    [
        ("5/s", 5, 1),
        ("1/s", 1, 1),
        ("300/m", 5, 1),
        ("100/m", 1, 0.6),
        ("150/m", 2, 0.8),
        ("10/h", 1, 360),
        (" 2 / d ", 1, 43_200),
    ],
)
def test_a_rate_is_at_most_a_seconds_worth_of_calls_at_once(text: str, calls: int, seconds: float) -> None:
    rate = Delivery(rate=text).calls_max
    assert rate is not None
    assert rate.calls == calls
    assert rate.seconds == pytest.approx(seconds)


@given(calls=st.integers(1, 6000), unit=st.sampled_from(["s", "m", "h", "d"]))
def test_a_rate_admits_as_many_calls_as_its_text_and_no_burst_of_more_than_a_second(calls: int, unit: str) -> None:
    seconds = {"s": 1, "m": 60, "h": 3600, "d": 86_400}[unit]
    rate = Delivery(rate=f"{calls}/{unit}").calls_max
    assert rate is not None
    assert rate.calls / rate.seconds == pytest.approx(calls / seconds)
    assert calls % rate.calls == 0
    assert rate.calls == 1 or rate.seconds <= 1 + 1e-9


@pytest.mark.parametrize("text", ["", "5", "5/week", "0/s", "-1/s", "1.5/s", "100001/s", "9999999999/d", "/s"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="is not a rate"):
        Delivery(rate=text)


@pytest.mark.parametrize(("field", "value"), [("sample", 1.01), ("sample", -0.1), ("max_event_age", "old"), ("replay", "always")])
def test_a_policy_out_of_its_range_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=field):
        Delivery.model_validate({field: value})


def test_meta_identifies_an_event_equally_at_each_delivery() -> None:
    event = make_event("task.failed", envelope={"subject": "order-8"})
    first, again = Meta(event, 0, 7), Meta(event, 3, 99, 2, replay=True)
    assert first.idempotency_key == again.idempotency_key == f"{event.source}#{event.id}"
    assert (first.replay, again.replay) == (False, True)
    assert repr(again).endswith("3/99, attempt 2, replay)")


HEADERS = {"ce_type": b"task.failed", "ce_namespace": b"prod", "ce_subject": b"order-17", "ce_taskname": b""}


@pytest.mark.parametrize(
    ("filter", "passes"),
    [
        (F.exact(type="task.failed"), True),
        (F.exact(type="task.failed", namespace="sandbox"), False),
        (F.prefix(type="task."), True),
        (F.suffix(subject="-17"), True),
        (F.suffix(traceparent="01"), False),
        (F.not_(F.exact(traceparent="x")), True),
        (F.all(F.prefix(type="task."), F.not_(F.exact(namespace="sandbox"))), True),
        (F.any(F.exact(type="task.completed"), F.prefix(subject="order-")), True),
        (F.any(F.exact(type="task.completed"), F.prefix(subject="invoice-")), False),
    ],
)
def test_filters_follow_the_cloudevents_dialect(filter: subscribers.Filter, passes: bool) -> None:
    assert filter.predicate()(HEADERS) is passes
    assert parse_filter(filter.to_json()) == filter


names, values = st.sampled_from(["type", "namespace", "subject"]), st.sampled_from(["task.failed", "prod", "t", "7"])
attributes = st.dictionaries(names, values, min_size=1)
leaves = st.builds(lambda make, named: make(**named), st.sampled_from([F.exact, F.prefix, F.suffix]), attributes)
filters = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(F.not_, inner),
        st.lists(inner, min_size=1, max_size=3).map(lambda many: F.all(*many)),
        st.lists(inner, min_size=1, max_size=3).map(lambda many: F.any(*many)),
    ),
    max_leaves=6,
)


@given(filters)
def test_a_filter_survives_its_json_and_its_negation_is_its_opposite(filter: subscribers.Filter) -> None:
    assert parse_filter(filter.to_json()) == filter
    assert F.not_(filter).predicate()(HEADERS) is not filter.predicate()(HEADERS)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({}, "one of exact"),
        ({"exact": {"type": "x"}, "prefix": {"type": "y"}}, "one of exact"),
        ({"like": {"type": "x"}}, "'like'"),
        ({"exact": {"rootid": "x"}}, "exact.rootid: unknown attribute; must be one of"),
        ({"exact": {"type": 5}}, "exact.type: must be a non-empty string"),
        ({"exact": {}}, "exact: must have at least one attribute"),
        ({"any": []}, "any: must have at least one filter"),
        ({"all": [{"not": {"suffix": {"type": ""}}}]}, "suffix.type"),
        ("type = 'x'", "one of exact"),
    ],
)
def test_a_wrong_filter_is_refused_with_the_part_that_is_wrong(value: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_filter(value)


class Settings(SubscriberSettings):
    """Settings of a test."""

    key: str = "x"


def test_types_come_from_the_annotation_or_from_text() -> None:
    class Pager(Subscriber[Settings]):
        @on
        async def failed(self, event: TaskFailed | AttemptFailedEvent, meta: Meta) -> None: ...

        @on("worker.*", "engine.stopped")
        async def machines(self, event: Event) -> None: ...

        @on(batch=Batch(max=5))
        async def ended(self, events: list[TaskCompleted], metas: list[Meta]) -> None: ...

    assert Pager.settings_class is Settings
    by_type = {one: handler.method for one in CATALOGUE if (handler := Pager.handler_of(one)) is not None}
    assert by_type == {
        "task.failed": "failed",
        "attempt.failed": "failed",
        "task.completed": "ended",
        "engine.stopped": "machines",
        **{one: "machines" for one in CATALOGUE if one.startswith("worker.")},
    }
    failed = Pager.handler_of("task.failed")
    assert failed is not None
    assert (failed.whole, failed.takes_meta, failed.is_async) == (False, True, True)


def test_the_method_that_names_a_type_most_closely_gets_it() -> None:
    class Layers(Subscriber[SubscriberSettings]):
        @on("*")
        async def rest(self, event: Event) -> None: ...

        @on("task.*")
        async def tasks(self, event: Event) -> None: ...

        @on("task.failed")
        async def failed(self, event: Event) -> None: ...

    found = [Layers.handler_of(one) for one in ("worker.lost", "task.ready", "task.failed")]
    assert [one.method for one in found if one is not None] == ["rest", "tasks", "failed"]


def test_a_subclass_may_override_a_handler() -> None:
    class First(Subscriber[SubscriberSettings]):
        @on("task.failed")
        async def seen(self, event: Event) -> None: ...

    class Second(First):
        @on("task.completed")
        async def seen(self, event: Event) -> None: ...

    assert First.handler_of("task.completed") is None
    assert Second.handler_of("task.completed") is not None
    assert Second.handler_of("task.failed") is None


def test_mistakes_are_said_when_the_class_is_made() -> None:
    with pytest.raises(TypeError, match=r"Unknown\.seen: 'task\.finished' is not an event type"):

        class Unknown(Subscriber[SubscriberSettings]):
            @on("task.finished")
            async def seen(self, event: Event) -> None: ...

    with pytest.raises(TypeError, match="task.failed must be handled by one method, but one and two"):

        class Twice(Subscriber[SubscriberSettings]):
            @on("task.failed")
            async def one(self, event: Event) -> None: ...

            @on("task.failed")
            async def two(self, event: Event) -> None: ...

    with pytest.raises(TypeError, match="list event types"):

        class Untyped(Subscriber[SubscriberSettings]):
            @on
            async def seen(self, event, meta): ...  # type: ignore[no-untyped-def]

    with pytest.raises(TypeError, match="is not the data of an event"):

        class Foreign(Subscriber[SubscriberSettings]):
            @on
            async def seen(self, event: int) -> None: ...

    with pytest.raises(TypeError, match="does not include all types"):

        class Narrow(Subscriber[SubscriberSettings]):
            @on("task.*")
            async def seen(self, event: TaskFailed) -> None: ...

    with pytest.raises(TypeError, match="takes the event and, optionally, its Meta"):

        class Greedy(Subscriber[SubscriberSettings]):
            @on("task.*")
            async def seen(self, event: Event, meta: Meta, more: int) -> None: ...

    with pytest.raises(TypeError, match="must be annotated with list"):

        class Single(Subscriber[SubscriberSettings]):
            @on(batch=Batch())
            async def seen(self, event: TaskFailed) -> None: ...


async def test_a_function_becomes_a_subscriber_and_stays_callable() -> None:
    calls = []

    @subscriber("task.failed", "order.*")
    async def on_fail(event: Any) -> None:
        calls.append(event)

    assert on_fail.name == "on_fail"
    assert on_fail.handler_of("task.failed") is not None
    assert on_fail.handler_of("order.paid") is not None
    assert on_fail.handler_of("task.completed") is None
    await on_fail.handle("an event")  # type: ignore[attr-defined]
    assert calls == ["an event"]
