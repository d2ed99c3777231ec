"""Notices, a state and golden payloads for tests of alert targets.

python -m tests.subscribers.notice_cases        # writes the golden files anew, to be read before they are committed
"""

import json
import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hub.testing import make_event
from schemas import Event
from subscribers import Meta, SubscriberContext
from subscribers.notices import LinkTemplates, Notice, notice_of, resolution_of

GOLDEN = Path(__file__).with_name("golden")
TASK = "019a7f00-1234-7abc-8def-0123456789ab"
TEMPLATES = LinkTemplates("https://hub.example/tasks/{task}", "https://tempo.example/trace/{trace}")
_REPETITION = re.compile(r"(.{1,10}?)\1{39,}", re.DOTALL)


class FakeState:
    """`ctx.state` in a dictionary; JSON as in the real one. `writes`: keys in the order of the writes."""

    def __init__(self) -> None:
        self.stored: dict[str, str] = {}
        self.writes: list[str] = []

    def get(self, key: str) -> Any | None:
        return json.loads(self.stored[key]) if key in self.stored else None

    def keys(self, prefix: str = "") -> list[str]:
        return sorted(key for key in self.stored if key.startswith(prefix))

    async def put(self, key: str, value: Any) -> None:
        self.stored[key] = json.dumps(value)
        assert len(self.stored[key]) <= 64 * 1024, "the limit of a value"
        self.writes.append(key)

    async def delete(self, key: str) -> None:
        self.stored.pop(key, None)
        self.writes.append(key)


def context(state: FakeState | None = None, id: str = "alerts") -> SubscriberContext:
    """The argument of `open`."""
    return SubscriberContext(id, logging.getLogger("tests.alerts"), state or FakeState())


def at(
    time: str, event_type: str, /, *, name: str = "charge", namespace: str = "shop", subject: str = TASK, **data: Any
) -> Event:
    """An event of 2026-01-01 at `time` ("09:30:00")."""
    envelope = {"time": f"2026-01-01T{time}.000Z", "namespace": namespace, "taskname": name}
    if event_type.split(".")[0] in ("task", "workflow", "attempt") and event_type != "attempt.report_rejected":
        envelope["subject"] = subject
    return make_event(event_type, envelope=envelope, **data)


def failed(time: str = "09:30:00", error: str = "CardError", message: str = "declared stolen", **more: Any) -> Event:
    """A failed task."""
    data = {"attempt": 3, "max_attempts": 3, "kind": "exhausted", "queue": "default", **more}
    return at(time, "task.failed", error={"type": error, "message": message}, **data)


def completed(time: str = "09:35:00", **more: Any) -> Event:
    """A completed task of the same name."""
    return at(time, "task.completed", **more)


def meta_of(event: Event, attempt: int = 1) -> Meta:
    """The second argument of a handler."""
    return Meta(event, 0, 7, attempt)


def firing() -> Notice:
    """A failed task; its message has the characters that formats escape."""
    return notice_of(failed(message='declared <stolen> & "lost"'), TEMPLATES)


def resolved() -> Notice:
    """Its resolution."""
    return resolution_of(firing(), completed(subject="019a7f00-ffff-7abc-8def-0123456789ab"), TEMPLATES)


def far_too_long() -> Notice:
    """All texts as long as the schemas permit, or longer."""
    error = {"type": "E" * 255, "message": "&é" * 20_000, "stacktrace": "in f()\n" * 5000}
    event = at(
        "09:30:00",
        "task.failed",
        name="n" * 255,
        namespace="ü" * 127,
        error=error,
        kind="exhausted",
        queue="q" * 255,
        worker="w" * 255,
    )
    return notice_of(event._replace(correlationid="<c>" * 800), TEMPLATES)


def mask(payload: Any) -> Any:
    """The payload with long repetitions as "(x){1021}", so that a golden file shows their length instead of them."""
    if isinstance(payload, str):
        return _REPETITION.sub(lambda match: f"({match[1]}){{{len(match[0]) // len(match[1])}}}", payload)
    if isinstance(payload, dict):
        return {name: mask(value) for name, value in payload.items()}
    return [mask(value) for value in payload] if isinstance(payload, list) else payload


def check_golden(name: str, payload: bytes | Any) -> Any:
    """Compare a payload with the golden file of this name; returns the payload."""
    found = json.loads(payload) if isinstance(payload, bytes) else payload
    path = GOLDEN / f"{name}.json"
    text = json.dumps(mask(found), indent=2, ensure_ascii=False) + "\n"
    if WRITING:
        path.write_text(text)
    assert path.read_text() == text, f"{path.name} differs; see {__name__}"
    return found


def cases(exact: Callable[[], Notice]) -> pytest.MarkDecorator:
    """Parametrizes a test by the four notices of which each target has a golden payload."""
    every = {"firing": firing, "resolved": resolved, "long": far_too_long, "exact": exact}
    return pytest.mark.parametrize(("case", "notice"), [(name, make()) for name, make in every.items()], ids=list(every))


WRITING = False

if __name__ == "__main__":
    import tests.subscribers.notice_cases as imported

    imported.WRITING = True
    sys.exit(pytest.main(["-q", "-n", "0", "-p", "no:cacheprovider", "-k", "golden", str(Path(__file__).parent)]))
