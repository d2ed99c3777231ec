"""Events for PagerDuty: triggers and resolutions, and PagerDuty's limits."""

import json

import pytest
from msgspec.structs import replace
from pydantic import ValidationError

from subscribers.notices import Notice
from subscribers.pagerduty import PagerDuty, PagerDutySettings, pagerduty_event

from .notice_cases import cases, check_golden, firing, resolved

KEY = "0123456789abcdef0123456789ABCDEF"


def exactly() -> Notice:
    """Summary and key are as long as PagerDuty permits."""
    return replace(firing(), title="t" * 1024, key="k" * 255)


@cases(exactly)
def test_golden_events(case: str, notice: Notice) -> None:
    content = pagerduty_event(notice, KEY)
    assert len(content) <= 512_000
    event = check_golden(f"pagerduty_{case}", content)
    event = json.loads(content)
    assert event["event_action"] == ("resolve" if case == "resolved" else "trigger")
    assert len(event["dedup_key"]) <= 255
    assert len(event["payload"]["summary"]) <= 1024
    assert event["payload"]["severity"] in ("critical", "error", "warning", "info")
    if case == "exact":
        assert "…" not in content.decode()


def test_trigger_and_resolution_have_the_same_key() -> None:
    both = [json.loads(pagerduty_event(one, KEY)) for one in (firing(), resolved())]
    assert len({(one["routing_key"], one["dedup_key"]) for one in both}) == 1


def test_an_enormous_event_fits() -> None:
    details = {str(number): "x" for number in range(10)}
    notice = replace(firing(), text="\x00" * 400_000, details=details)
    content = pagerduty_event(notice, KEY)
    assert len(content) <= 512_000
    assert json.loads(content)["payload"]["custom_details"]["9"] == "x"


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({}, "https://events.pagerduty.com/v2/enqueue"),
        ({"region": "eu"}, "https://events.eu.pagerduty.com/v2/enqueue"),
        ({"url": "http://127.0.0.1:9/x"}, "http://127.0.0.1:9/x"),
    ],
)
def test_the_region_chooses_the_address(settings: dict[str, str], url: str) -> None:
    target = PagerDuty(PagerDutySettings.model_validate({"routing_key": KEY, **settings}))
    assert target.request(firing()).url == url


def test_the_routing_key_is_secret_and_checked() -> None:
    assert KEY not in repr(PagerDutySettings.model_validate({"routing_key": KEY}))
    with pytest.raises(ValidationError, match="32 letters and digits"):
        PagerDutySettings.model_validate({"routing_key": KEY[:-1]})
