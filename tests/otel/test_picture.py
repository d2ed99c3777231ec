"""The picture of a trace in the README is made from a recorded trace, whose spans are those that the hub still exports."""

from collections.abc import Iterable
from typing import Protocol
from xml.etree import ElementTree

from subscribers.otel.spans import spans_of

from .picture import FILE, HUB, picture, read
from .recorded import recorded

BYTES_MAX = 20_000


class Named(Protocol):
    """A span with an id, a parent and a name."""

    @property
    def id(self) -> str: ...
    @property
    def parent(self) -> str | None: ...
    @property
    def name(self) -> str: ...


def shapes(spans: Iterable[Named]) -> set[tuple[str, str]]:
    """The first word of the name of each span, and that of its parent."""
    known = {span.id: span for span in spans}
    found = set()
    for span in known.values():
        parent = known.get(span.parent or "")
        found.add((span.name.split(" ")[0], parent.name.split(" ")[0] if parent else ""))
    return found


def test_the_picture_is_that_of_the_recorded_trace() -> None:
    """After a change of `picture.py`: python -m tests.otel.picture"""
    assert FILE.read_text() == picture(read())
    assert FILE.stat().st_size <= BYTES_MAX
    texts = [element.text for element in ElementTree.parse(FILE).iter("{http://www.w3.org/2000/svg}text")]
    assert {"charge-card", "POST /charges", "the payment provider is busy"} <= set(texts)


def test_the_recorded_spans_are_those_that_the_hub_exports() -> None:
    """If the tree of spans has changed: python -m tests.otel.traced_order, then python -m tests.otel.picture"""
    own = [span for span in read() if span.scope == HUB]
    assert shapes(own) <= shapes(span for event in recorded() for span in spans_of(event))
    assert {span.name.split(" ")[0] for span in own} == {"task", "wait", "queue", "attempt", "run"}


def test_the_recorded_trace_has_a_retry_and_spans_of_handlers_inside_attempts() -> None:
    spans = {span.id: span for span in read()}
    (retry,) = [span for span in spans.values() if span.link]
    assert spans[retry.link].error == "the payment provider is busy"
    parents = {spans[span.parent].name.split(" ")[0] for span in spans.values() if span.scope != HUB}
    assert parents == {"attempt"}
