"""Alerts by Apprise: the message, the check of addresses, and a missing library."""

import json
import sys
from typing import Any

import pytest

from subscribers import Unavailable, Undeliverable
from subscribers.apprise import Apprise, AppriseError, AppriseSettings, apprise_message, self_hosted, service_of
from subscribers.notices import Notice

from .http_endpoint import HttpEndpoint, Reply
from .notice_cases import FakeState, cases, check_golden, completed, context, failed, firing, meta_of

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # in a dependency of the library


def target(url: str, **more: Any) -> Apprise:
    return Apprise(AppriseSettings.model_validate({"url": url, **more}))


def exactly() -> Notice:
    """The title is as long as this subscriber sends it."""
    from msgspec.structs import replace

    return replace(firing(), title="t" * 250)


@cases(exactly)
def test_golden_messages(case: str, notice: Notice) -> None:
    message = check_golden(f"apprise_{case}", apprise_message(notice))
    assert len(message["title"]) <= 250
    assert len(message["body"].encode()) <= 32_768
    assert message["title"].endswith("…") == (case == "long")


async def test_an_alert_and_its_resolution_are_sent() -> None:
    async with HttpEndpoint() as endpoint:
        one = target(f"json://127.0.0.1:{endpoint.port}/alerts", allow=["127.0.0.0/8"])
        await one.open(context())
        for event in (failed("09:00:00"), failed("09:01:00"), completed("09:02:00")):
            await one.receive(event, meta_of(event))
    sent = [json.loads(request.body) for request in endpoint.requests]
    assert [(message["type"], message["title"]) for message in sent] == [
        ("failure", "Task charge failed: CardError"),
        ("success", "Resolved: Task charge failed: CardError"),
    ]


async def test_a_message_that_is_not_accepted_is_an_error_and_told_again() -> None:
    state = FakeState()
    async with HttpEndpoint([Reply(500)]) as endpoint:
        one = target(f"json://127.0.0.1:{endpoint.port}/secret", allow=["127.0.0.0/8"])
        await one.open(context(state))
        with pytest.raises(AppriseError) as caught:
            await one.receive(failed(), meta_of(failed()))
        assert state.stored == {}
        await one.receive(failed(), meta_of(failed(), 2))
    assert "secret" not in str(caught.value)
    assert len(state.stored) == 1


async def test_redirects_are_not_followed() -> None:
    async with HttpEndpoint() as inner, HttpEndpoint([Reply(307, {"location": inner.url})]) as endpoint:
        one = target(f"json://127.0.0.1:{endpoint.port}/", allow=["127.0.0.0/8"])
        await one.open(context())
        with pytest.raises(AppriseError):
            await one.receive(failed(), meta_of(failed()))
    assert inner.requests == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "169.254.169.254"])
async def test_a_host_in_the_own_network_is_refused(host: str) -> None:
    async with HttpEndpoint() as endpoint:
        one = target(f"json://{host}:{endpoint.port}/")
        await one.open(context())
        with pytest.raises(Undeliverable, match="refused address"):
            await one.receive(failed(), meta_of(failed()))
    assert endpoint.requests == []


async def test_a_host_without_an_address_is_an_outage() -> None:
    one = target("json://nowhere.invalid/")
    await one.open(context())
    with pytest.raises(Unavailable, match="no address"):
        await one.receive(failed(), meta_of(failed()))


def test_a_service_with_its_own_host_is_told_from_one_without() -> None:
    assert self_hosted(service_of("gotify://gotify.example/Axxxxxxxxxxxxxx")[0]) == "gotify.example"
    assert self_hosted(service_of("tgram://123456789:abcdefg_hijklmnop/12315544/")[0]) is None


async def test_an_unknown_url_is_refused_without_repeating_it() -> None:
    with pytest.raises(ValueError, match="knows no service") as caught:
        await target("nosuchservice://secret").open(context())
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(target("json://secret/").settings)


async def test_without_the_library_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(ImportError, match=r"pip install 'taskhub\[apprise\]'"):
        await target("json://shop.example/").open(context())
