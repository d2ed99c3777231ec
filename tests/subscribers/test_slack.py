"""Messages to Slack: their blocks, and Slack's limits."""

import json
from typing import Any

import pytest
from msgspec.structs import replace
from pydantic import ValidationError

from subscribers.notices import Notice, utf16_units
from subscribers.slack import SlackSettings, escaped, slack_message

from .notice_cases import cases, check_golden, firing


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
    settings = SlackSettings.model_validate({"webhook_url": "https://hooks.slack.example/services/T0/B0/token"})
    assert "token" not in repr(settings)
    with pytest.raises(ValidationError, match="webhook_url") as caught:
        SlackSettings.model_validate({"webhook_url": "ftp://hooks.slack.example/token"})
    assert "hooks.slack" not in caught.value.errors(include_input=False)[0]["msg"]
