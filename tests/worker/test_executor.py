"""A call of a handler always ends with an outcome, whatever the handler does."""

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from msgspec import json
from pydantic import BaseModel

from hub import Permanent, RetryLater, TaskContext
from hub.worker import Cancelled, Failed, Outcome, Succeeded
from hub.worker.executor import execute_attempt
from hub.worker.outcome import MESSAGE_BYTES_MAX, error_of, fingerprint_of, text_of
from hub.worker.registry import TaskDefinition
from schemas import ExecuteAttempt
from schemas.tasks import RESULT_BYTES_MAX


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Threads for plain functions."""
    with ThreadPoolExecutor(2) as pool:
        yield pool


def new_context() -> TaskContext:
    command = ExecuteAttempt(task="t", root="t", partition=0, attempt=1, dispatch=1, token="x", namespace="default", name="n")
    return TaskContext(command, lambda percent, message: None)


async def outcome_of(function: Any, threads: ThreadPoolExecutor, *, context: TaskContext | None = None, **more: Any) -> Outcome:
    definition = TaskDefinition("n", function, {})
    more.setdefault("timeout_seconds", None)
    return await execute_attempt(definition, context or new_context(), json.encode(more.pop("args", {})), threads=threads, **more)


@pytest.mark.parametrize(
    ("given", "sent"),
    [(50, 50.0), (None, None), (0.5, 0.5), (-5e300, 0.0), (1e300, 100.0), (10**400, 100.0), (float("inf"), 100.0)],
)
def test_progress_is_held_to_a_percentage(given: Any, sent: float | None) -> None:
    said: list[tuple[float | None, str]] = []
    TaskContext(new_context()._command, lambda percent, message: said.append((percent, message))).progress(given, "half a \ud83d")
    assert said == [(sent, "half a \\ud83d")]


@pytest.mark.parametrize("given", ["50", True, float("nan"), [50]])
def test_progress_that_is_not_a_number_is_refused_naming_it(given: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="percent"):
        new_context().progress(given)


async def test_what_async_and_plain_functions_return_is_the_result(threads: ThreadPoolExecutor) -> None:
    class Receipt(BaseModel):
        number: int

    async def on_the_loop() -> dict[str, int]:
        return {"a": 1}

    def in_a_thread() -> Receipt:
        assert threading.current_thread() is not threading.main_thread()
        return Receipt(number=7)

    first, second = await outcome_of(on_the_loop, threads), await outcome_of(in_a_thread, threads)
    assert isinstance(first, Succeeded)
    assert isinstance(second, Succeeded)
    assert (first.result, second.result) == (b'{"a":1}', b'{"number":7}')


@pytest.mark.parametrize(
    ("raised", "retryable", "retry_after"),
    [
        (ValueError("no"), True, None),
        (RetryLater("busy", after=3), True, 3),
        (Permanent("never"), False, None),
        (TimeoutError("of something inside"), True, None),
    ],
)
async def test_what_a_handler_raises_says_what_follows(
    threads: ThreadPoolExecutor, raised: Exception, retryable: bool, retry_after: float | None
) -> None:
    async def handler() -> None:
        raise raised

    failed = await outcome_of(handler, threads)
    assert isinstance(failed, Failed)
    assert (failed.error.retryable, failed.retry_after, failed.timed_out) == (retryable, retry_after, False)
    assert failed.error.message == str(raised)
    assert "raise raised" in (failed.error.stacktrace or "")


async def test_a_retry_without_a_reason_has_a_message(threads: ThreadPoolExecutor) -> None:
    async def handler() -> None:
        raise RetryLater(after=3)

    failed = await outcome_of(handler, threads)
    assert isinstance(failed, Failed)
    assert failed.error.message == "the handler requested another attempt"


@pytest.mark.parametrize(
    ("result", "kind"), [(object(), "ResultNotJson"), ({1j: 2}, "ResultNotJson"), ("x" * RESULT_BYTES_MAX, "ResultTooLarge")]
)
async def test_a_result_that_cannot_be_kept_is_a_permanent_error(threads: ThreadPoolExecutor, result: Any, kind: str) -> None:
    failed = await outcome_of(lambda: result, threads)
    assert isinstance(failed, Failed)
    assert (failed.error.type, failed.error.retryable) == (kind, False)


async def test_arguments_that_do_not_fit_are_a_permanent_error(threads: ThreadPoolExecutor) -> None:
    def handler(order: int) -> None: ...

    failed = await outcome_of(handler, threads, args={"order": "x"})
    assert isinstance(failed, Failed)
    assert (failed.error.type, failed.error.retryable) == ("InvalidArguments", False)
    assert "args.order" in failed.error.message
    assert 0 <= failed.ran_seconds < 5


PAUSE = 0.02


async def returns_later() -> None:
    await asyncio.sleep(PAUSE)


async def fails_later() -> None:
    await asyncio.sleep(PAUSE)
    raise ValueError("no")


async def is_cancelled_later() -> None:
    await asyncio.sleep(PAUSE)
    raise asyncio.CancelledError


async def takes_too_long() -> None:
    await asyncio.sleep(60)


def fails_later_in_a_thread() -> None:
    time.sleep(PAUSE)
    raise ValueError("no")


@pytest.mark.parametrize(
    ("handler", "kind"),
    [
        (returns_later, Succeeded),
        (fails_later, Failed),
        (is_cancelled_later, Failed),
        (takes_too_long, Failed),
        (fails_later_in_a_thread, Failed),
    ],
)
async def test_every_outcome_says_how_long_the_handler_ran(
    threads: ThreadPoolExecutor, handler: Any, kind: type[Outcome]
) -> None:
    outcome = await outcome_of(handler, threads, timeout_seconds=PAUSE if handler is takes_too_long else None)
    assert isinstance(outcome, kind)
    assert PAUSE / 2 <= outcome.ran_seconds < 30
    assert getattr(outcome, "timed_out", False) is (handler is takes_too_long)


async def test_a_cancel_says_how_long_the_handler_ran(threads: ThreadPoolExecutor) -> None:
    context = new_context()
    running = asyncio.create_task(outcome_of(takes_too_long, threads, context=context))
    await asyncio.sleep(PAUSE)
    context.cancel()
    running.cancel()
    cancelled = await running
    assert isinstance(cancelled, Cancelled)
    assert PAUSE / 2 <= cancelled.ran_seconds < 30


@pytest.mark.parametrize(("size", "fits"), [(RESULT_BYTES_MAX, True), (RESULT_BYTES_MAX + 1, False)])
async def test_the_largest_result(threads: ThreadPoolExecutor, size: int, fits: bool) -> None:
    async def handler() -> str:
        return "x" * (size - 2)

    assert isinstance(await outcome_of(handler, threads), Succeeded) is fits


async def test_a_handler_that_takes_too_long_is_ended_and_sees_it(threads: ThreadPoolExecutor) -> None:
    context, over = new_context(), threading.Event()

    def in_a_thread() -> None:
        while not context.cancelled:
            over.wait(0.005)
        over.set()

    async def on_the_loop() -> None:
        await asyncio.sleep(60)

    for handler in (in_a_thread, on_the_loop):
        failed = await outcome_of(handler, threads, context=context, timeout_seconds=0.05)
        assert isinstance(failed, Failed)
        assert failed.timed_out
    assert await asyncio.to_thread(over.wait, 60)


async def test_a_cancel_that_was_asked_for_is_an_outcome_and_the_loops_own_end_is_not(threads: ThreadPoolExecutor) -> None:
    for asked in (True, False):
        context, started = new_context(), asyncio.Event()

        async def handler(started: asyncio.Event = started) -> None:
            started.set()
            await asyncio.sleep(60)

        async def without_parameters(handler: Any = handler) -> None:
            await handler()

        definition = TaskDefinition("n", handler, {})
        definition._parameters = {}
        task = asyncio.create_task(execute_attempt(definition, context, b"{}", threads=threads, timeout_seconds=None))
        await started.wait()
        if asked:
            context.cancel()
        task.cancel()
        if asked:
            assert isinstance(await task, Cancelled)
        else:
            with pytest.raises(asyncio.CancelledError):
                await task


@pytest.mark.parametrize(
    ("given", "kept"), [("x" * 4096, "x" * 4096), ("x" * 4097, "x" * 4096 + "…"), ("ä" * 4096, "ä" * 2048 + "…")]
)
def test_a_message_is_cut_beyond_its_limit_in_bytes(given: str, kept: str) -> None:
    assert MESSAGE_BYTES_MAX == 4096
    assert text_of(ValueError(given)) == kept


def test_like_errors_have_one_fingerprint_and_long_ones_are_cut() -> None:
    assert fingerprint_of("E", "order 17 at 0xff") == fingerprint_of("E", "order 4711 at 0x0a")
    assert fingerprint_of("E", "order 17") != fingerprint_of("F", "order 17")
    assert len(error_of(ValueError("ä" * 100_000)).message.encode()) <= MESSAGE_BYTES_MAX + 3
