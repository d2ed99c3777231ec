"""Errors for Sentry: envelopes, grouping, limits of size and rate."""

import json
import re
from typing import Any

import pytest
from msgspec import structs
from pydantic import ValidationError

from hub.metrics import PluginMetrics, Registry
from hub.testing import make_event
from subscribers import Unavailable
from subscribers.notices import Notice, notice_of
from subscribers.sentry import Dsn, Sentry, SentrySettings, envelope_of, limited_seconds, sentry_event

from .http_endpoint import HttpEndpoint, Reply
from .notice_cases import TASK, cases, check_golden, context, failed, firing, meta_of


def settings(**more: Any) -> SentrySettings:
    return SentrySettings.model_validate({"dsn": "https://0a1b@o1.ingest.example/2", **more})


def exactly() -> Notice:
    """Message and error type are as long as Sentry keeps them."""
    notice = firing()
    assert notice.error is not None
    return structs.replace(notice, error=structs.replace(notice.error, type="E" * 200, message="m" * 8192))


@cases(exactly)
def test_golden_events(case: str, notice: Notice) -> None:
    payload = sentry_event(notice, settings(environment="production", release="shop@7"))
    content = envelope_of(payload).split(b"\n")[2]
    assert len(content) <= 200_000
    event = check_golden(f"sentry_{case}", content)
    assert re.fullmatch("[0-9a-f]{32}", event["event_id"])
    assert all(len(value) <= 200 for value in event["tags"].values())
    assert TASK not in json.dumps(event["fingerprint"])
    assert ("…" in content.decode()) == (case == "long")


def test_the_id_is_that_of_the_event_and_the_group_that_of_the_fault() -> None:
    one, again, other = failed(), failed(), failed(subject="order-9")
    events = [sentry_event(notice_of(event), settings()) for event in (one, again, other)]
    assert events[0] == events[1]
    assert events[0]["event_id"] != events[2]["event_id"]
    assert events[0]["fingerprint"] == events[2]["fingerprint"] == ["task.failed", "CardError", "shop", "charge"]
    assert events[0]["contexts"]["trace"]["trace_id"] == TASK.replace("-", "")


def test_an_envelope_has_the_length_of_its_item() -> None:
    head, item, content, end = envelope_of(sentry_event(firing(), settings())).split(b"\n")
    assert json.loads(head)["event_id"] == json.loads(content)["event_id"]
    assert json.loads(item) == {"type": "event", "content_type": "application/json", "length": len(content)}
    assert end == b""


def test_an_event_without_an_error_is_a_message() -> None:
    event = sentry_event(notice_of(make_event("worker.lost")), settings())
    assert event["logentry"]["formatted"].startswith("Worker of pool default lost")
    assert "exception" not in event
    assert "trace" not in event["contexts"]


async def test_each_failure_is_sent_but_no_resolution_and_nothing_about_itself() -> None:
    async with HttpEndpoint() as endpoint:
        sentry = Sentry(settings(dsn=f"http://0a1b@127.0.0.1:{endpoint.port}/path/2"))
        await sentry.open(context(id="sentry"))
        own = make_event("subscriber.dead_lettered", envelope={"subject": "sentry"})
        for event in (failed(), failed(subject="order-9"), make_event("alert.resolved"), own):
            await sentry.receive(event, meta_of(event))
        await sentry.close()
    assert [one.target for one in endpoint.requests] == ["/path/api/2/envelope/"] * 2
    assert "sentry_key=0a1b" in endpoint.requests[0].headers["x-sentry-auth"]
    assert "0a1b" not in endpoint.requests[0].target
    assert Sentry.event_types(settings(types=("task.failed",))) == ("task.failed",)


async def test_a_limit_of_the_rate_is_observed_after_an_accepted_event() -> None:
    async with HttpEndpoint([Reply(200, {"X-Sentry-Rate-Limits": "60:error;transaction:organization"})]) as endpoint:
        sentry, registry = Sentry(settings(dsn=f"http://0a1b@127.0.0.1:{endpoint.port}/2")), Registry()
        await sentry.open(context()._replace(metrics=PluginMetrics(registry, "alerts")))
        await sentry.receive(failed(), meta_of(failed()))
        with pytest.raises(Unavailable) as caught:
            await sentry.receive(failed(subject="order-9"), meta_of(failed()))
        await sentry.close()
    counted = registry.collect().instrument("hub.alert.notifications")
    assert counted is not None
    assert {point.labels[-1]: point.value for point in counted.points} == {"sent": 1, "unavailable": 1}
    assert len(endpoint.requests) == 1
    assert caught.value.retry_after_seconds is not None
    assert 50 < caught.value.retry_after_seconds <= 60


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", 0),
        ("60:transaction:key", 0),
        ("60::organization", 60),
        ("10:error:key, 2700:default;security:organization:reason", 2700),
        ("nonsense, 5:error:key", 5),
        ("-1:error:key", 0),
    ],
)
def test_limits_of_the_rate(header: str, seconds: float) -> None:
    assert limited_seconds({"x-sentry-rate-limits": header}) == seconds


def test_a_dsn() -> None:
    assert Dsn.parse("https://0a1b@o1.ingest.example/2") == ("https://o1.ingest.example/api/2/envelope/", "0a1b")
    assert Dsn.parse("http://0a1b@[::1]:9000/a/b/2").url == "http://[::1]:9000/a/b/api/2/envelope/"


@pytest.mark.parametrize(
    "dsn", ["", "https://o1.example/2", "https://k@o1.example/", "ftp://k@o1.example/2", "https://k@/2", "k@x/2"]
)
def test_an_invalid_dsn_is_rejected_without_repeating_it(dsn: str) -> None:
    with pytest.raises(ValidationError, match="dsn") as caught:
        settings(dsn=dsn)
    (fault,) = caught.value.errors(include_input=False, include_context=False)
    assert not dsn or dsn not in fault["msg"]
