"""Messages to Slack: their blocks, and Slack's limits."""

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace
from pydantic import ValidationError

from subscribers import Unavailable, Undeliverable
from subscribers.notices import Notice, utf16_units
from subscribers.slack import Slack, SlackSettings
from subscribers.slack.message import escaped, slack_message
from subscribers.slack.web_api import THREADS_MAX

from .http_endpoint import HttpEndpoint, Reply
from .notice_cases import FakeState, cases, check_golden, completed, context, failed, far_too_long, firing, meta_of, resolved

TOKEN = "xoxb-1234-abcd"


def exactly() -> Notice:
    """Headline and text are as long as Slack permits."""
    return replace(firing(), title="t" * (150 - len("[error] ")), text="x" * 3000)


def within_limits(message: dict[str, Any]) -> None:
    """Slack's limits, as its documentation has them."""
    assert len(message["blocks"]) <= 50
    assert utf16_units(json.dumps(message, ensure_ascii=False)) <= 13_000
    for block in message["blocks"]:
        texts = [block["text"]] if "text" in block else block.get("fields", []) + block.get("elements", [])
        assert 1 <= len(texts) <= 10
        most = 150 if block["type"] == "header" else 2000 if "fields" in block else 3000
        assert all(1 <= utf16_units(one["text"]) <= most for one in texts)


@cases(exactly)
def test_golden_messages(case: str, notice: Notice) -> None:
    message = check_golden(f"slack_{case}", slack_message(notice))
    within_limits(message)
    if case == "exact":
        assert "…" not in json.dumps(message, ensure_ascii=False)
        assert len(message["blocks"][0]["text"]["text"]) == 150
    if case == "long":
        assert message["blocks"][0]["text"]["text"].endswith("…")


def test_an_error_cannot_mention_a_channel_or_forge_a_link() -> None:
    notice = replace(firing(), title="<!channel>", text="<https://evil.example|the bank> & more", labels={"task": "<@U1>"})
    text = slack_message(notice).decode()
    message = json.loads(text)
    assert "<!channel>" not in message["text"]
    sections = [block for block in message["blocks"] if block["type"] == "section"]
    assert sections[0]["text"]["text"] == "&lt;https://evil.example|the bank&gt; &amp; more"
    assert "&lt;@U1&gt;" in sections[1]["fields"][0]["text"]


def test_an_entity_is_not_split_by_a_limit() -> None:
    assert escaped("a<<", 9) == "a&lt;&lt;"
    assert [escaped("a<<<", length) for length in (9, 8, 7, 6, 5)] == ["a&lt;…", "a&lt;…", "a&lt;…", "a&lt;…", "a…"]


def test_a_notice_without_text_and_labels_has_no_empty_blocks() -> None:
    message = json.loads(slack_message(replace(firing(), text="", labels={}, details={}, links=())))
    assert [block["type"] for block in message["blocks"]] == ["header", "context"]


def test_the_webhook_is_secret_and_checked() -> None:
    settings = SlackSettings.model_validate({"webhook_url": "https://hooks.slack.example/services/T0/B0/xyz"})
    assert "xyz" not in repr(settings)
    with pytest.raises(ValidationError, match="webhook_url") as caught:
        SlackSettings.model_validate({"webhook_url": "ftp://hooks.slack.example/token"})
    assert "hooks.slack" not in caught.value.errors(include_input=False)[0]["msg"]


# With the token of a bot


def posted(ts: str = "1700000000.000100") -> Reply:
    return Reply(200, body=json.dumps({"ok": True, "channel": "C012", "ts": ts, "message": {}}).encode())


def refused(error: str, **headers: str) -> Reply:
    return Reply(200, headers, json.dumps({"ok": False, "error": error}).encode())


@asynccontextmanager
async def bot(
    script: Iterable[Reply] = (), state: FakeState | None = None, **settings: Any
) -> AsyncIterator[tuple[Slack, HttpEndpoint]]:
    """A bot, and a Web API that answers by `script`, then that the message was posted."""
    async with HttpEndpoint(script, default=posted()) as endpoint:
        given = {"token": TOKEN, "channel": "#alerts", "api_url": f"{endpoint.url}/api/", **settings}
        target = Slack(SlackSettings.model_validate(given))
        await target.open(context(state))
        try:
            yield target, endpoint
        finally:
            await target.close()


async def deliver(target: Slack, *events: Any) -> None:
    for event in events:
        await target.receive(event, meta_of(event))


def calls(endpoint: HttpEndpoint) -> list[tuple[str, str, str | None]]:
    """Method, channel, and the message that is replied to or changed."""
    found = [(one.target.rpartition("/")[2], json.loads(one.body)) for one in endpoint.requests]
    return [(method, body["channel"], body.get("thread_ts") or body.get("ts")) for method, body in found]


@pytest.mark.parametrize(
    ("case", "notice", "address"),
    [
        ("first", firing(), {"channel": "#alerts"}),
        ("reply", resolved(), {"channel": "C012", "thread_ts": "1700000000.000100"}),
        ("change", resolved(), {"channel": "C012", "ts": "1700000000.000100"}),
        ("longest", far_too_long(), {"channel": "C012", "thread_ts": "1700000000.000100"}),
    ],
)
def test_golden_messages_of_a_bot(case: str, notice: Notice, address: dict[str, str]) -> None:
    within_limits(check_golden(f"slack_bot_{case}", slack_message(notice, **address)))


async def test_repetitions_and_the_resolution_are_in_the_thread_of_the_first_message_also_after_a_restart() -> None:
    state = FakeState()
    async with bot(state=state, repeat_after="1m") as (target, endpoint):
        await deliver(target, failed("09:00:00"), failed("09:00:30"), failed("09:02:00"))
        assert calls(endpoint) == [
            ("chat.postMessage", "#alerts", None),
            ("chat.postMessage", "C012", "1700000000.000100"),
        ]
        (request, _) = endpoint.requests
        assert request.headers["authorization"] == f"Bearer {TOKEN}"
        assert request.headers["content-type"] == "application/json; charset=utf-8"
    async with bot(state=state) as (target, endpoint):
        await deliver(target, completed("09:03:00"), completed("09:04:00"), failed("09:05:00"))
        assert calls(endpoint) == [
            ("chat.update", "C012", "1700000000.000100"),
            ("chat.postMessage", "C012", "1700000000.000100"),
            ("chat.postMessage", "#alerts", None),
        ]
        assert "[resolved]" in json.loads(endpoint.requests[0].body)["text"]


async def test_alerts_with_other_keys_have_threads_of_their_own() -> None:
    script = [posted("1.1"), posted("2.2")]
    async with bot(script, repeat_after="1m") as (target, endpoint):
        await deliver(target, failed("09:00:00"), failed("09:00:00", error="Other"), failed("09:02:00", error="Other"))
        assert calls(endpoint)[-1] == ("chat.postMessage", "C012", "2.2")


async def test_a_first_message_that_was_deleted_is_replaced_by_a_new_one() -> None:
    script = [posted("1.1"), refused("thread_not_found"), posted("2.2"), refused("message_not_found")]
    async with bot(script, repeat_after="1m") as (target, endpoint):
        await deliver(target, failed("09:00:00"), failed("09:02:00"))
        assert calls(endpoint)[1:] == [("chat.postMessage", "C012", "1.1"), ("chat.postMessage", "#alerts", None)]
        await deliver(target, completed("09:05:00"))
        assert calls(endpoint)[3:] == [("chat.update", "C012", "2.2"), ("chat.postMessage", "#alerts", None)]
        assert target.alerts.firing() == []


async def test_a_resolution_that_failed_half_way_is_not_posted_twice() -> None:
    script = [posted("1.1"), posted("1.1"), Reply(503), posted("1.1")]
    async with bot(script) as (target, endpoint):
        await deliver(target, failed("09:00:00"))
        with pytest.raises(Unavailable):
            await deliver(target, completed("09:05:00"))
        await deliver(target, completed("09:05:00"))
        methods = [method for method, _, _ in calls(endpoint)]
    assert methods == ["chat.postMessage", *["chat.update", "chat.postMessage"] * 2]


async def test_events_that_are_no_failures_are_messages_of_their_own() -> None:
    state = FakeState()
    async with bot(state=state, types=["task.completed"]) as (target, endpoint):
        await deliver(target, completed("09:00:00"), completed("09:00:01"))
        assert [thread for _, _, thread in calls(endpoint)] == [None, None]
    assert state.stored == {}


@pytest.mark.parametrize(
    ("reply", "error", "reason", "retry_after"),
    [
        (refused("invalid_auth"), Unavailable, "Slack answered invalid_auth: check the setting token", None),
        (refused("missing_scope"), Unavailable, "check the setting token", None),
        (refused("not_in_channel"), Unavailable, "check the setting channel", None),
        (refused("ratelimited", **{"retry-after": "30"}), Unavailable, "Slack answered ratelimited", 30.0),
        (Reply(429, {"retry-after": "7"}), Unavailable, "429", 7.0),
        (refused("internal_error"), Unavailable, "Slack answered internal_error", None),
        (Reply(200, body=b"<html>"), Unavailable, "not that of its Web API", None),
        (Reply(200, body=b"[]"), Unavailable, "not that of its Web API", None),
        (refused("invalid_blocks"), Undeliverable, "Slack answered invalid_blocks", None),
        (refused("<b>\n"), Undeliverable, "Slack answered an unknown error", None),
    ],
)
async def test_an_answer_says_what_it_means_for_the_alert(
    reply: Reply, error: type[Exception], reason: str, retry_after: float | None
) -> None:
    async with bot([reply]) as (target, _):
        with pytest.raises(error, match=reason) as caught:
            await deliver(target, failed())
        assert getattr(caught.value, "retry_after_seconds", None) == retry_after
        assert TOKEN not in str(caught.value)
        await deliver(target, failed())
        assert len(target.alerts.firing()) == 1, "the alert was not lost"


async def test_an_answer_that_repeats_a_long_message_is_an_acceptance() -> None:
    body = json.dumps({"ok": True, "channel": "C9", "ts": "9.9", "message": "é" * 20_000}, separators=(",", ":"))
    state = FakeState()
    async with bot([Reply(200, body=body.encode())], state) as (target, _):
        await deliver(target, failed())
    (key,) = state.keys("thread/")
    assert state.get(key) == {"channel": "C9", "ts": "9.9", "since": failed().time}


async def test_the_number_of_known_messages_is_bounded() -> None:
    state = FakeState()
    for number in range(THREADS_MAX):
        await state.put(f"thread/{number}", {"channel": "C", "ts": "1.1", "since": f"2025-01-01T00:{number:04}"})
    async with bot(state=state) as (target, _):
        await deliver(target, failed())
    assert len(state.keys("thread/")) == THREADS_MAX
    assert state.get("thread/0") is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "either webhook_url or token is required"),
        ({"webhook_url": "https://hooks.slack.example/s/T0", "token": TOKEN, "channel": "C"}, "either webhook_url or token"),
        ({"token": TOKEN}, "channel: is required with token"),
        ({"webhook_url": "https://hooks.slack.example/s/T0", "channel": "C"}, "channel: is required with token, and only then"),
        ({"token": "secret-thing", "channel": "C"}, "must be a bot token of Slack, which begins with xoxb-"),
        ({"token": TOKEN, "channel": "C", "api_url": "ftp://slack.example"}, "api_url"),
    ],
)
def test_a_bot_needs_a_token_and_a_channel(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        SlackSettings.model_validate(settings)
    assert not [one for one in caught.value.errors(include_input=False, include_url=False) if "secret-thing" in str(one["msg"])]


def test_the_token_is_secret() -> None:
    assert TOKEN not in repr(SlackSettings.model_validate({"token": TOKEN, "channel": "C"}))
