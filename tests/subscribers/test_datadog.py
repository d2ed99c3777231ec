"""Events and counts for Datadog."""

import asyncio
import json
import socket
from typing import Any

import pytest
from msgspec.structs import replace
from pydantic import ValidationError

from subscribers.datadog import Datadog, DatadogSettings, datadog_count, datadog_event
from subscribers.notices import Notice

from .http_endpoint import HttpEndpoint
from .notice_cases import cases, check_golden, completed, context, failed, firing, meta_of, resolved


def settings(**more: Any) -> DatadogSettings:
    return DatadogSettings.model_validate({"api_key": "secret", **more})


def exactly() -> Notice:
    """Title, text, aggregation key and a tag are as long as Datadog permits."""
    notice = replace(firing(), title="t" * 100, key="k" * 100, labels={"task": "x" * 195}, details={}, links=())
    return replace(notice, text="x" * 3999)


@cases(exactly)
def test_golden_events(case: str, notice: Notice) -> None:
    event = check_golden(f"datadog_{case}", datadog_event(notice, ("env:prod",)))
    assert len(event["title"]) <= 100
    assert len(event["text"]) <= 4000
    assert len(event["aggregation_key"]) <= 100
    assert all(len(tag) <= 200 for tag in event["tags"])
    assert event["alert_type"] == ("success" if case == "resolved" else "error")
    assert ("…" in json.dumps(event, ensure_ascii=False)) == (case == "long")


def test_an_alert_and_its_resolution_are_aggregated_also_with_long_keys() -> None:
    keys = []
    for key in ("k" * 255, "k" * 254 + "z"):
        events = [json.loads(datadog_event(replace(one, key=key))) for one in (firing(), resolved())]
        assert events[0]["aggregation_key"] == events[1]["aggregation_key"]
        keys.append(events[0]["aggregation_key"])
    assert keys[0] != keys[1]


def test_a_count_is_one_datagram_whatever_the_names_are() -> None:
    assert datadog_count(failed(), ("env:prod",)) == (
        b"taskhub.events:1|c|#event:task.failed,namespace:shop,task:charge,queue:default,error_type:CardError,env:prod"
    )
    hostile = datadog_count(failed(name="a|c#b,d\ne"))
    assert b"task:a_c_b_d" in hostile
    assert hostile.count(b"|") == 2
    assert b"\n" not in hostile
    assert len(datadog_count(failed(name="é" * 255, namespace="é" * 255), ("x" * 200,) * 20)) <= 1432


async def test_events_are_counted_by_the_agent_once_and_alerts_are_sent() -> None:
    agent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    agent.bind(("127.0.0.1", 0))
    agent.settimeout(10)
    async with HttpEndpoint() as endpoint:
        target = Datadog(settings(url=f"{endpoint.url}/api/v1/events", statsd=f"127.0.0.1:{agent.getsockname()[1]}"))
        await target.open(context())
        deliveries = [(failed("09:00:00"), 1), (failed("09:01:00"), 2), (failed("09:02:00"), 1), (completed("09:03:00"), 1)]
        for event, attempt in deliveries:
            await target.receive(event, meta_of(event, attempt))
        counts = [await asyncio.to_thread(agent.recv, 2000) for _ in range(2)]
        await target.close()
    agent.setblocking(False)
    with pytest.raises(BlockingIOError):
        agent.recv(2000)
    agent.close()
    assert all(one.startswith(b"taskhub.events:1|c|#event:task.failed,") for one in counts)
    assert [one.json["alert_type"] for one in endpoint.requests] == ["error", "success"]
    assert endpoint.requests[0].headers["dd-api-key"] == "secret"


async def test_an_agent_that_does_not_listen_disturbs_nothing() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with HttpEndpoint() as endpoint:
        target = Datadog(settings(url=endpoint.url, statsd=f"127.0.0.1:{port}"))
        await target.open(context())
        for event in (failed("09:00:00"), failed("09:01:00"), completed("09:02:00")):
            await target.receive(event, meta_of(event))
        await target.close()
    assert len(endpoint.requests) == 2


def test_the_site_chooses_the_address() -> None:
    assert Datadog(settings(site="us5.datadoghq.com")).request(firing()).url == "https://api.us5.datadoghq.com/api/v1/events"
    assert "secret" not in repr(settings())


@pytest.mark.parametrize(
    "wrong", [{"site": "evil/x"}, {"site": "a@b.c"}, {"statsd": "agent"}, {"statsd": "a b:8125"}, {"statsd": ":x"}]
)
def test_invalid_addresses_are_rejected(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        settings(**wrong)
