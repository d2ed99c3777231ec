"""What all alert targets over HTTP do: tell once, resolve, wait while the destination is away, keep silent about the past."""

import subprocess
import sys
from typing import Any

import pytest

from hub.metrics import PluginMetrics, Registry
from hub.testing import make_event
from subscribers import Unavailable, Undeliverable
from subscribers.alertmanager import Alertmanager, AlertmanagerSettings
from subscribers.apprise import Apprise
from subscribers.datadog import Datadog, DatadogSettings
from subscribers.notices import HttpTarget
from subscribers.pagerduty import PagerDuty, PagerDutySettings
from subscribers.sentry import Sentry, SentrySettings
from subscribers.slack import Slack, SlackSettings
from subscribers.smtp import Smtp

from .http_endpoint import HttpEndpoint, Reply
from .notice_cases import FakeState, completed, context, failed, meta_of

Target = HttpTarget[Any]


def slack(url: str) -> Target:
    return Slack(SlackSettings.model_validate({"webhook_url": url}))


def pagerduty(url: str) -> Target:
    return PagerDuty(PagerDutySettings.model_validate({"routing_key": "k" * 32, "url": url}))


def alertmanager(url: str) -> Target:
    return Alertmanager(AlertmanagerSettings.model_validate({"url": url, "resend_after": "1d"}))


def datadog(url: str) -> Target:
    return Datadog(DatadogSettings.model_validate({"api_key": "k", "url": url}))


each = pytest.mark.parametrize("make", [slack, pagerduty, alertmanager, datadog])


async def deliver(target: Target, *events: Any) -> None:
    for event in events:
        await target.receive(event, meta_of(event))


@each
async def test_notifications_are_counted_by_their_outcome(make: Any) -> None:
    registry = Registry()
    async with HttpEndpoint([Reply(503), Reply(202), Reply(422)], default=Reply(200)) as endpoint:
        target = make(endpoint.url)
        await target.open(context()._replace(metrics=PluginMetrics(registry, "alerts")))
        with pytest.raises(Unavailable):
            await deliver(target, failed("09:00:00"))
        await deliver(target, failed("09:00:00"))
        with pytest.raises(Undeliverable):
            await deliver(target, failed("09:01:00", error="Other"))
        await target.close()
    points = registry.collect().instrument("hub.alert.notifications")
    assert points is not None
    counted = {point.labels: point.value for point in points.points}
    common = ("alerts", target.name, "", "error", "firing")
    assert counted == {(*common, outcome): 1 for outcome in ("unavailable", "sent", "rejected")}


@each
async def test_an_alert_is_told_once_and_resolved_once_also_after_a_restart(make: Any) -> None:
    state = FakeState()
    async with HttpEndpoint() as endpoint:
        target = make(endpoint.url)
        await target.open(context(state))
        await deliver(target, failed("09:00:00"), failed("09:01:00"))
        told = len(endpoint.requests)
        await target.close()
        target = make(endpoint.url)
        await target.open(context(state))
        await deliver(target, completed("09:02:00"), completed("09:03:00"))
        await target.close()
    assert told == 1
    assert len(endpoint.requests) == (3 if make is alertmanager else 2), "Alertmanager gets all that fire at the first event, too"
    assert all(one.headers["content-type"] == "application/json" for one in endpoint.requests)
    assert state.stored == {}


@each
async def test_while_the_destination_is_away_the_alert_is_not_told(make: Any) -> None:
    state = FakeState()
    async with HttpEndpoint([Reply(429, {"retry-after": "7"}), Reply(500)]) as endpoint:
        target = make(endpoint.url)
        await target.open(context(state))
        with pytest.raises(Unavailable) as limited:
            await deliver(target, failed("09:00:00"))
        with pytest.raises(Unavailable):
            await deliver(target, failed("09:00:00"))
        assert state.stored == {}
        await deliver(target, failed("09:00:00"))
        await target.close()
    assert limited.value.retry_after_seconds == 7
    assert len({one.body for one in endpoint.requests[:3]}) == 1, "the same key each time"
    assert len(state.stored) == 1


@each
async def test_a_rejected_notice_is_undeliverable_and_its_error_has_no_secret(make: Any) -> None:
    async with HttpEndpoint([Reply(400)]) as endpoint:
        target = make(f"{endpoint.url}/secret-token")
        await target.open(context())
        with pytest.raises(Undeliverable) as caught:
            await deliver(target, failed())
        await target.close()
    assert "400" in str(caught.value)
    assert "secret-token" not in str(caught.value)


@each
async def test_a_subscriber_does_not_tell_about_itself(make: Any) -> None:
    async with HttpEndpoint() as endpoint:
        target = make(endpoint.url)
        await target.open(context(id="pager"))
        await deliver(target, make_event("subscriber.failing", envelope={"subject": "pager"}, error="it fails"))
        assert endpoint.requests == []
        await target.close()


@pytest.mark.parametrize(
    "make",
    [
        lambda url, proxy: Slack(SlackSettings.model_validate({"webhook_url": url, "proxy": proxy})),
        lambda url, proxy: Sentry(SentrySettings.model_validate({"dsn": url.replace("//", "//key@") + "/1", "proxy": proxy})),
    ],
)
async def test_a_proxy_is_used(make: Any) -> None:
    async with HttpEndpoint() as proxy:
        target = make("http://alerts.invalid", proxy.url)
        await target.open(context())
        await deliver(target, failed())
        await target.close()
    assert proxy.requests[0].target == "alerts.invalid:80"


@pytest.mark.parametrize("plugin", [Slack, PagerDuty, Alertmanager, Datadog, Sentry, Smtp, Apprise])
def test_nobody_is_told_of_the_past(plugin: Any) -> None:
    assert plugin.delivery.replay == "skip"
    assert plugin.delivery.max_event_age_seconds == 3600


def test_the_libraries_of_destinations_are_not_loaded_with_the_package() -> None:
    targets = "slack pagerduty alertmanager sentry datadog apprise"
    code = "import sys, subscribers; print('subscribers.notices' in sys.modules); "
    code += f"import {', '.join('subscribers.' + one for one in targets.split())}; "
    code += "print([one for one in ('httpcore2', 'apprise', 'requests', 'smtplib') if one in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n[]\n"
