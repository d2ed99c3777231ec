"""The reports of attempts: what is counted, which progress is sent, and what follows when an end cannot be sent."""

import asyncio
import time

import pytest

from hub import Permanent, TaskContext, TaskRegistry
from hub.worker.reporting import MESSAGE_MAX, STARTED_LINGER_SECONDS
from schemas import CancelAttempt
from tests.components.running import until

from .desks import KeptReports, LoneDesk, command

tasks = TaskRegistry()


@tasks.task("good")
async def good() -> int:
    return 7


@tasks.task("bad")
async def bad() -> None:
    raise Permanent("no")


@tasks.task("long")
async def long() -> None:
    await asyncio.sleep(600)


@tasks.task("progressing")
async def progressing(ctx: TaskContext) -> None:
    ctx.progress(10, "x" * (MESSAGE_MAX + 1))
    ctx.progress(None, "y")
    await asyncio.sleep(0.05)


async def test_ends_are_counted_by_their_kind() -> None:
    lone = LoneDesk(tasks, slots=3, grace_seconds=0.0)
    for number, name in enumerate(("good", "bad", "long", "good")):
        await lone.desk.take(command(name, token=f"{number}", task=f"t{number}"))
    await until(lambda: lone.desk.stats()["done"] == 2)
    await lone.desk.take(CancelAttempt(task="t2", attempt=1, token="2", reason="enough"))
    await until(lambda: lone.idle)
    assert lone.desk.stats() == {"running": 0, "waiting": 0, "done": 2, "failed": 1, "cancelled": 1, "released": 0}
    for number in range(5):
        await lone.desk.take(command("long", token=f"l{number}", task=f"l{number}"))
    assert (lone.desk.stats()["running"], lone.desk.stats()["waiting"]) == (3, 2)
    await lone.desk.drain()
    assert lone.desk.stats()["released"] == 2
    assert lone.reports.kinds.count("attempt.released") == 2


async def test_progress_is_sent_after_the_start_and_long_messages_are_cut() -> None:
    lone = LoneDesk(tasks)
    await lone.desk.take(command("progressing"))
    await until(lambda: lone.idle)
    assert lone.reports.kinds[:2] == ["attempt.started", "attempt.progressed"]
    sent = [report for kind, report in lone.reports.kept if kind == "attempt.progressed"]
    assert [(report.get("percent"), len(report["message"])) for report in sent] == [(10, MESSAGE_MAX), (None, 1)]


async def test_progress_of_an_attempt_that_is_over_is_not_sent() -> None:
    contexts: list[TaskContext] = []
    registry = TaskRegistry()

    @registry.task("keeps")
    async def keeps(ctx: TaskContext) -> None:
        contexts.append(ctx)

    lone = LoneDesk(registry)
    await lone.desk.take(command("keeps"))
    await until(lambda: lone.idle)
    contexts[0].progress(50, "too late")
    for _ in range(5):
        await asyncio.sleep(0)
    assert lone.reports.kinds == ["attempt.completed"]


async def test_a_body_that_ends_in_the_turn_in_which_it_begins_causes_no_timer() -> None:
    lone = LoneDesk(tasks, slots=3)
    await lone.desk.take(*[command("good", token=f"{number}", task=f"t{number}") for number in range(3)])
    while not lone.idle:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert lone.desk.reporting._linger is None
    await lone.desk.take(command("long", token="l", task="l"))
    await until(lambda: "attempt.started" in lone.reports.kinds)
    assert lone.reports.kinds == ["attempt.completed"] * 3 + ["attempt.started"]
    await lone.desk.drain()


async def test_a_cancel_that_arrives_with_the_command_stops_the_body_before_it_begins() -> None:
    lone = LoneDesk(tasks, slots=1)
    stop = (
        CancelAttempt(task="t0", attempt=1, token="0", reason="enough"),
        CancelAttempt(task="t1", attempt=1, token="1", reason="no"),
    )
    await lone.desk.take(command("long", token="0", task="t0"), command("long", token="1", task="t1"), *stop)
    await until(lambda: lone.idle)
    assert sorted(report["token"] for kind, report in lone.reports.kept if kind == "attempt.cancelled") == ["0", "1"]
    assert lone.reports.kinds == ["attempt.cancelled"] * 2


class Refusing(KeptReports):
    """Reports of which the next `refusals` ends cannot be sent."""

    refusals = 0

    async def post(self, outgoing, on_settled=lambda: None):  # type: ignore[no-untyped-def]
        if dict(outgoing.headers)["ce_type"] != b"attempt.started" and self.refusals:
            self.refusals -= 1
            raise ValueError("cannot be sent")
        await super().post(outgoing, on_settled)


@pytest.mark.parametrize(("refusals", "kinds", "held"), [(1, ["attempt.failed"], []), (2, [], [])])
async def test_an_end_that_cannot_be_sent_is_told_in_short_and_then_not_at_all(
    refusals: int, kinds: list[str], held: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    lone = LoneDesk(tasks, reports=Refusing())
    lone.reports.refusals = refusals  # type: ignore[attr-defined]
    await lone.desk.take(command("good"))
    await until(lambda: lone.idle)
    assert lone.reports.kinds == kinds
    assert [entry.levelname for entry in caplog.records if "outcome" in entry.message] == ["ERROR"] * refusals
    with lone.desk.slots as slots:
        assert slots.standing(0).holding == held, "its lease is given up"


async def test_progress_waits_for_a_report_of_starts_that_is_on_its_way() -> None:
    """The linger is over in the turn of the loop in which the handler reports progress."""
    registry = TaskRegistry()

    @registry.task("after-linger")
    async def after_linger(ctx: TaskContext) -> None:
        await asyncio.sleep(0)  # after this the linger has begun
        time.sleep(2 * STARTED_LINGER_SECONDS)  # noqa: ASYNC251 - blocks the loop, so that the timer is due with the next call
        ctx.progress(10)
        await until(lambda: "attempt.progressed" in lone.reports.kinds)  # what arrives after the end is not reported

    for _ in range(20):
        lone = LoneDesk(registry)
        await lone.desk.take(command("after-linger"))
        await until(lambda lone=lone: lone.idle)
        assert lone.reports.kinds[:2] == ["attempt.started", "attempt.progressed"]
