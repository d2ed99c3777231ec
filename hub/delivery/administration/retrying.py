"""Delivers dead letters again.

A retried dead letter is the first delivery of its event, not a replay: `meta.replay` is false, and source and id are the
original ones. Each is attempted once; one that fails again remains a dead letter, without a new record.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import NamedTuple

from subscribers import Redelivery

from ...kafka import Cluster
from ..config import SubscriberPlan
from ..selection import Route, Selection
from ..window import Item
from .instance import DestinationUnavailable, FailedItems, Instance, durable_state, opened
from .letters import Choice, LetterBox, StoredLetter, in_parts

LEAVING_OUT = frozenset({"max_event_age", "sample"})
"""Policies per event type that do not apply to a retry, which an operator requested."""
ONCE = Redelivery(initial=1, max=1, timeout=0)


class Retried(NamedTuple):
    """The result for one dead letter: `error` is None if it was delivered or dropped by its handler."""

    letter: StoredLetter
    error: str | None


def once(plan: SubscriberPlan) -> SubscriberPlan:
    """The plan with one attempt per event, after which its sink gets it, and without the policies that leave events out."""
    changes = {"on_error": "dlq", "retry": ONCE, "sample": 1.0, "max_event_age": None}
    types = tuple(one._replace(given=one.given - LEAVING_OUT) for one in plan.types)
    return plan._replace(delivery=plan.delivery.model_copy(update=changes), types=types)


async def retry_letters(
    cluster: Cluster, plan: SubscriberPlan, choice: Choice, on_result: Callable[[Retried], None]
) -> Counter[bool]:
    """Deliver the chosen dead letters to a fresh instance, in their order, and mark those that succeed. A truncated one, and one
    that the subscriber does not select any more, is not delivered. Ends early if the destination is unavailable. Returns how many
    succeeded (True), and how many did not. Raises what the instance's `open` raises, Unreachable, TopicRefused."""
    plan = once(plan)
    box, sink, numbers = LetterBox(cluster, plan.config.id), FailedItems(), Counter[bool]()
    try:
        async with (
            durable_state(cluster, plan) as state,
            opened(plan, sink, state) as instance,
            aclosing(box.letters(choice)) as letters,
        ):
            async for part in in_parts(letters):
                sink.errors.clear()
                results = await _deliver(plan, instance, sink, part)
                await box.mark([one.letter for one in results if one.error is None], "retried")
                for one in results:
                    numbers[one.error is None] += 1
                    on_result(one)
                if instance.counters.outages:
                    break
        await box.shorten()
    finally:
        await box.close()
    return numbers


async def _deliver(plan: SubscriberPlan, instance: Instance, sink: FailedItems, letters: Sequence[StoredLetter]) -> list[Retried]:
    selection = Selection(plan.plugin, plan.settings, plan.filter)
    fed: list[tuple[StoredLetter, Item | str]] = []
    for letter in letters:
        route = selection.route(letter.original.headers)
        problem = why_not(letter, route)
        try:
            fed.append((letter, problem or await instance.feed(route, letter.original)))
        except DestinationUnavailable:
            break
    with contextlib.suppress(DestinationUnavailable):
        await instance.finish()
    return [Retried(letter, item if isinstance(item, str) else _error(sink, item)) for letter, item in fed]


def why_not(letter: StoredLetter, route: Route) -> str | None:
    """Why a dead letter cannot be retried; None if it can be."""
    if letter.cut_bytes is not None:
        return f"it was truncated from {letter.cut_bytes:,} bytes; `hub subscribers replay` delivers the event from the log"
    return "the types and the filter of the subscriber do not select it" if route is None else None


def _error(sink: FailedItems, item: Item) -> str | None:
    if item not in sink.errors:
        return None if item.done else "the destination is unavailable"
    error = sink.errors[item]
    return f"{type(error).__name__}: {error}"
