"""What a webhook receives, and when it is called again."""

import json
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError
from standardwebhooks.webhooks import Webhook as Receiver
from standardwebhooks.webhooks import WebhookVerificationError

from hub.delivery.config import SubscriberConfig, plan
from hub.errors import ConfigurationError
from hub.metrics import PluginMetrics, Registry
from hub.testing import make_event
from schemas import CATALOGUE, Event
from subscribers import SubscriberContext, Unavailable, Undeliverable
from subscribers.api.metrics import Metrics, NoMetrics
from subscribers.webhook import Webhook, WebhookSettings, body_of, message_id, signature_headers, signing_key

from .http_endpoint import HttpEndpoint, Reply

SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
OLD_SECRET = "whsec_YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE="
HOOK = "https://hooks.example/in/hunter2"

Open = Callable[..., Coroutine[Any, Any, Webhook]]


def failed(**data: Any) -> Event:
    """A failed task."""
    return make_event("task.failed", envelope={"subject": "order-7", "run": 42, "sequence": 3}, **data)


@pytest.fixture
async def opened() -> AsyncIterator[Open]:
    """A function that opens a webhook for an endpoint of this machine."""
    async with AsyncExitStack() as stack:

        async def open_one(endpoint: HttpEndpoint, metrics: Metrics = NoMetrics(), **settings: Any) -> Webhook:  # noqa: B008
            values = {"url": f"{endpoint.url}/in/hunter2", "secrets": [SECRET], "allow": ["127.0.0.1"], **settings}
            webhook = Webhook(WebhookSettings.model_validate(values))
            await webhook.open(SubscriberContext("hooks", logging.getLogger("test.hooks"), metrics=metrics))
            stack.push_async_callback(webhook.close)
            return webhook

        yield open_one


async def test_the_public_library_verifies_what_is_received(opened: Open) -> None:
    event = failed(error={"type": "CardError", "message": "stolen \u2603"})
    async with HttpEndpoint() as endpoint:
        await (await opened(endpoint)).post(event)
    request = endpoint.requests[0]
    received = Receiver(SECRET).verify(request.body, request.headers)
    assert received == event.as_dict()
    assert request.headers["content-type"] == "application/cloudevents+json"
    assert request.target == "/in/hunter2"
    for altered in (request.body + b" ", request.body.replace(b"order-7", b"order-8")):
        with pytest.raises(WebhookVerificationError):
            Receiver(SECRET).verify(altered, request.headers)
    with pytest.raises(WebhookVerificationError):
        Receiver(OLD_SECRET).verify(request.body, request.headers)


async def test_during_a_rotation_both_secrets_verify(opened: Open) -> None:
    async with HttpEndpoint() as endpoint:
        await (await opened(endpoint, secrets=[SECRET, OLD_SECRET])).post(failed())
    request = endpoint.requests[0]
    for secret in (SECRET, OLD_SECRET):
        assert Receiver(secret).verify(request.body, request.headers)["subject"] == "order-7"


@pytest.mark.parametrize("at", [datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 0, 0, 0, 999_999, UTC)])
def test_a_signature_is_byte_for_byte_that_of_the_library(at: datetime) -> None:
    headers = signature_headers("evt_1", b'{"a":"\xe2\x98\x83"}', [signing_key(SECRET)], at)
    assert headers == {
        "webhook-id": "evt_1",
        "webhook-timestamp": "1767225600",
        "webhook-signature": Receiver(SECRET).sign("evt_1", at, '{"a":"\u2603"}'),
    }


def test_an_old_request_does_not_verify() -> None:
    headers = signature_headers("evt_1", b"{}", [signing_key(SECRET)], datetime.now(UTC) - timedelta(minutes=6))
    with pytest.raises(WebhookVerificationError, match="too old"):
        Receiver(SECRET).verify(b"{}", headers)


async def test_alerts_are_counted_as_notifications_and_other_events_are_not(opened: Open) -> None:
    registry, alert = Registry(), make_event("alert.fired", rule="late", severity="critical")
    async with HttpEndpoint() as endpoint:
        webhook = await opened(endpoint, metrics=PluginMetrics(registry, "hooks"))
        for event in (failed(), alert):
            await webhook.post(event)
    counted = registry.collect().instrument("hub.alert.notifications")
    assert counted is not None
    assert [point.labels for point in counted.points] == [("hooks", "webhook", "late", "critical", "firing", "sent")]


async def test_a_repeated_delivery_has_the_same_id_and_body(opened: Open) -> None:
    async with HttpEndpoint([Reply(503, {"retry-after": "9"})]) as endpoint:
        webhook = await opened(endpoint)
        with pytest.raises(Unavailable) as raised:
            await webhook.post(failed())
        await webhook.post(failed())
    first, second = endpoint.requests
    assert raised.value.retry_after_seconds == 9
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body


def test_an_id_is_of_one_event_and_has_no_dot() -> None:
    events = [
        make_event(kind, envelope={"subject": subject, "run": run, "sequence": sequence})
        for kind in ("task.failed", "task.completed")
        for subject in ("a", "a.b")
        for run in (1, 11)
        for sequence in (1, 11)
    ]
    ids = {message_id(one) for one in events}
    assert len(ids) == len({(one.source, one.id) for one in events}) == 8
    assert not any("." in one for one in ids)
    assert {len(one) for one in ids} == {44}


@pytest.mark.parametrize("event_type", sorted(CATALOGUE))
def test_every_event_is_sent_as_a_structured_cloudevent(event_type: str) -> None:
    event = make_event(event_type)
    sent = json.loads(body_of(event, 1 << 20))
    assert sent == event.as_dict()
    assert sent["specversion"] == "1.0"
    assert {"id", "source", "type", "time", "data", "datacontenttype"} <= sent.keys()


def test_a_large_event_is_sent_without_its_data() -> None:
    event = failed(error={"type": "E", "message": "x" * 5000})
    whole = body_of(event, 1 << 20)
    assert body_of(event, len(whole)) == whole
    thin = json.loads(body_of(event, len(whole) - 1))
    expected = {**event.as_dict(), "dataref": f"{event.source}#0/42/3"}
    del expected["data"]
    assert thin == expected


async def test_the_limit_of_the_settings_is_used(opened: Open) -> None:
    async with HttpEndpoint() as endpoint:
        webhook = await opened(endpoint, body_max_bytes=4000)
        await webhook.post(failed(error={"type": "E", "message": "x" * 5000}))
        await webhook.post(failed(error={"type": "E", "message": "x"}))
    assert ["data" in one.json for one in endpoint.requests] == [False, True]


async def test_headers_of_the_settings_are_sent(opened: Open) -> None:
    async with HttpEndpoint() as endpoint:
        await (await opened(endpoint, headers={"Authorization": "Bearer hunter2"})).post(failed())
    assert endpoint.requests[0].headers["authorization"] == "Bearer hunter2"


async def test_an_endpoint_that_is_gone_gets_no_further_requests(opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    async with HttpEndpoint([Reply(200), Reply(410)]) as endpoint:
        webhook = await opened(endpoint)
        await webhook.post(failed())
        for _ in range(3):
            with pytest.raises(Undeliverable, match="410 Gone"):
                await webhook.post(failed())
        assert len(endpoint.requests) == 2
        again = await opened(endpoint)
        await again.post(failed())
        assert len(endpoint.requests) == 3, "a subscriber that is started again tries again"
    errors = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert [getattr(one, "action", None) for one in errors] == ["webhook_gone"]
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("status", [302, 400, 401, 404, 422])
async def test_a_rejected_event_is_undeliverable(opened: Open, status: int) -> None:
    async with HttpEndpoint([Reply(status)]) as endpoint:
        webhook = await opened(endpoint)
        with pytest.raises(Undeliverable, match=str(status)):
            await webhook.post(failed())
        await webhook.post(failed())
    assert len(endpoint.requests) == 2


async def test_the_timeout_of_the_settings_is_used(opened: Open) -> None:
    async with HttpEndpoint([Reply(hang=True)]) as endpoint:
        with pytest.raises(Unavailable, match=r"within 0\.2 s"):
            await (await opened(endpoint, timeout="200ms")).post(failed())


async def test_a_name_that_leads_to_the_machine_itself_is_refused_when_it_is_called(opened: Open) -> None:
    async with HttpEndpoint() as endpoint:
        webhook = await opened(endpoint, url=f"https://localhost:{endpoint.port}/", allow=[])
        with pytest.raises(Undeliverable, match=r"^localhost:\d+: connections to this host are refused: loopback address"):
            await webhook.post(failed())
        other = await opened(endpoint, url=f"http://localhost:{endpoint.port}/", allow=["10.0.0.0/8"])
        with pytest.raises(Undeliverable, match="loopback address"):
            await other.post(failed())
        assert endpoint.connections == 0


async def test_a_proxy_of_the_settings_is_used(opened: Open) -> None:
    async with HttpEndpoint([Reply(403)]) as proxy:
        webhook = await opened(proxy, url="https://127.0.0.9/", allow=["127.0.0.9"], proxy=proxy.url)
        with pytest.raises(Unavailable, match="the proxy answered 403"):
            await webhook.post(failed())
    assert proxy.requests[0].target == "127.0.0.9:443"


# --- settings


def settings_of(**values: Any) -> WebhookSettings:
    """Settings with these changes."""
    return WebhookSettings.model_validate({"url": HOOK, "secrets": [SECRET], **values})


@pytest.mark.parametrize(
    ("values", "field", "reason"),
    [
        ({"url": "http://hooks.example/hunter2"}, "url", "must begin with https"),
        ({"url": "http://[fd00::1]/hunter2", "allow": ["10.0.0.0/8"]}, "url", "unique local address"),
        ({"url": "http://8.8.8.8/hunter2", "allow": ["10.0.0.0/8"]}, "url", "connection without TLS"),
        ({"url": "https://10.0.0.1/hunter2"}, "url", "private address"),
        ({"url": "https://user:hunter2@hooks.example/"}, "url", "must not have a user name"),
        ({"url": "https://0x7f.1/hunter2"}, "url", "four decimal numbers"),
        ({"allow": ["10.0.0.0/99"]}, "allow", "10.0.0.0/99"),
        ({"secrets": []}, "secrets", "at least 1 item"),
        ({"secrets": ["hunter2"]}, "secrets", "must be whsec_"),
        ({"secrets": [SECRET, "whsec_aHVudGVyMg=="]}, "secrets", "must be whsec_"),
        ({"secrets": ["whsec_" + "a" * 200]}, "secrets", "must be whsec_"),
        ({"secrets": [SECRET[:-5] + "*" + SECRET[-4:]]}, "secrets", "must be whsec_"),
        ({"types": ["task.exploded"]}, "types", "not an event type"),
        ({"headers": {"Content-Length": "1"}}, "headers", "is set by the subscriber"),
        ({"headers": {"Webhook-Id": "1"}}, "headers", "is set by the subscriber"),
        ({"headers": {"x y": "hunter2"}}, "headers", "name of a header"),
        ({"headers": {"x": "hunter2\r\ny: z"}}, "headers", "value of the header x"),
        ({"timeout": "51s"}, "timeout", "at most 50 s"),
        ({"timeout": 0}, "timeout", "above 0"),
        ({"body_max_bytes": 10}, "body_max_bytes", "1024"),
        ({"proxy": "socks5://a:hunter2@b"}, "proxy", "must have the form"),
        ({"colour": 1}, "colour", "not permitted"),
    ],
)
def test_an_invalid_setting_is_an_error_that_names_the_field_and_no_secret(
    values: dict[str, Any], field: str, reason: str
) -> None:
    with pytest.raises(ValidationError) as raised:
        settings_of(**values)
    (fault,) = raised.value.errors()
    assert fault["loc"][0] == field
    assert reason in fault["msg"]
    assert "hunter2" not in fault["msg"]
    config = SubscriberConfig(id="hooks", use="webhook", settings={"url": HOOK, "secrets": [SECRET], **values})
    with pytest.raises(ConfigurationError) as reported:
        plan(config, Webhook)
    assert f"subscribers[hooks].settings.{field}" in str(reported.value)
    assert "hunter2" not in str(reported.value)


def test_settings_do_not_show_secrets() -> None:
    settings = settings_of(headers={"x": "hunter2"}, proxy="http://a:hunter2@b")
    assert "hunter2" not in f"{settings!r} {settings} {settings.model_dump_json()}"
    assert SECRET not in f"{settings!r} {settings} {settings.model_dump_json()}"


def test_only_the_types_of_the_settings_are_delivered() -> None:
    assert Webhook.event_types(settings_of(types=["task.failed", "workflow.*"])) == ("task.failed", "workflow.*")
    assert Webhook.event_types(settings_of()) == ("*",)


@pytest.mark.parametrize("secret", [SECRET, SECRET.rstrip("="), "whsec_" + "A" * 32, "whsec_" + "A" * 86])
def test_secrets_have_24_to_64_bytes_with_or_without_padding(secret: str) -> None:
    assert 24 <= len(signing_key(secret)) <= 64
    headers = signature_headers("evt_1", b"{}", [signing_key(secret)], datetime.now(UTC))
    assert Receiver(secret).verify(b"{}", headers) == {}
