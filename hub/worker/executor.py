"""Calls a handler and returns an Outcome, whatever the handler raises."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, Future
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple

from msgspec import json

from schemas import ExecuteAttempt, TaskError
from schemas.tasks import RESULT_BYTES_MAX

from .context import Permanent, RetryLater, TaskContext
from .outcome import Cancelled, Failed, Outcome, Succeeded, error_of, fingerprint_of, text_of
from .registry import InvalidArgumentsError, TaskDefinition
from .tracing import AttemptScope

#: Maximum delay of a retry that a handler can request (seconds); longer ones are reduced to it.
RETRY_SECONDS_MAX = 366 * 86_400

_encoder = json.Encoder(enc_hook=lambda value: _plain(value))


def _plain(value: Any) -> Any:
    """Converts types that msgspec does not know to JSON types: pydantic models."""
    dump = getattr(value, "model_dump", None)
    if dump is None:
        raise NotImplementedError(
            f"a result of type {type(value).__qualname__} cannot be written as JSON: return JSON types or a pydantic model"
        )
    return dump(mode="json")


class _Raised(NamedTuple):
    """An exception raised by a plain function, passed on as a value: a future cannot hold StopIteration."""

    error: BaseException


async def execute_attempt(
    definition: TaskDefinition,
    context: TaskContext,
    args: bytes,
    *,
    threads: Executor,
    timeout_seconds: float | None,
    on_thread: Callable[["Future[Any]"], None] | None = None,
    task: "asyncio.Task[Any] | None" = None,
) -> Outcome:
    """Call the handler, async functions on the event loop, plain ones in a thread. Raises only if the caller itself is cancelled.

    `args`: a JSON object. A timeout cancels an async handler. A plain function continues in its thread, with `ctx.cancelled`
    set, but its attempt has ended. `on_thread` is called with the future of the function in its thread. `task`: the current
    task, if the caller knows it."""
    task = task or asyncio.current_task()
    assert task is not None, "a coroutine is run by a task"
    clock = task.get_loop().time
    began = clock()
    limit = None if timeout_seconds is None else asyncio.timeout(timeout_seconds)
    try:
        call: Awaitable[Any]
        arguments = definition.bind(args, context)
        if definition.is_async:
            call = definition.function(**arguments)
        else:
            function = threads.submit(_guarded, context.command, partial(definition.function, **arguments))
            if on_thread is not None:
                on_thread(function)
            call = asyncio.wrap_future(function)
        with AttemptScope(context.command):
            if limit is None:
                value = await call
            else:
                async with limit:
                    value = await call
    except InvalidArgumentsError as error:
        return Failed(_error("InvalidArguments", text_of(error)), clock() - began)
    except asyncio.CancelledError as error:
        ran = clock() - began
        if context.cancelled:
            return Cancelled(ran)
        if task.cancelling():
            raise
        return Failed(error_of(error), ran)  # Raised by the handler: something that it awaited was cancelled.
    except BaseException as error:  # A handler may raise anything; none of it may end the worker.
        if isinstance(error, GeneratorExit) and not _runs(task):
            raise  # The event loop is being discarded.
        return _failed(error, clock() - began, context, timeout_seconds if limit is not None and limit.expired() else None)
    if isinstance(value, _Raised):
        return _failed(value.error, clock() - began, context, None)
    return _succeeded(value, clock() - began)


def _runs(task: "asyncio.Task[Any]") -> bool:
    """Whether this is a step of the task and not the closing of its coroutine."""
    try:
        return asyncio.current_task() is task
    except RuntimeError:  # The loop has ended.
        return False


def _guarded(command: ExecuteAttempt, call: Callable[[], Any]) -> Any:
    try:
        with AttemptScope(command):
            return call()
    except BaseException as error:
        return _Raised(error)


def _failed(raised: BaseException, ran_seconds: float, context: TaskContext, timeout_seconds: float | None) -> Failed:
    match raised:
        case RetryLater():
            return Failed(error_of(raised), ran_seconds, retry_after=_seconds_of(raised.after))
        case Permanent():
            return Failed(error_of(raised, retryable=False), ran_seconds)
        case TimeoutError() if timeout_seconds is not None:
            context.cancel()
            error = _error("AttemptTimedOut", f"the attempt took longer than {timeout_seconds:g} s", retryable=True)
            return Failed(error, ran_seconds, timed_out=True)
    return Failed(error_of(raised), ran_seconds)


def _seconds_of(after: Any) -> float | None:
    """The delay that a handler requested, in seconds; None (the policy's backoff) if it is not a time."""
    if isinstance(after, timedelta):
        after = after.total_seconds()
    if not isinstance(after, int | float) or after != after:
        return None
    return float(min(max(after, 0), RETRY_SECONDS_MAX))


def _succeeded(value: Any, ran_seconds: float) -> Outcome:
    try:
        result = _encoder.encode(value)
    except BaseException as error:  # Encoding calls the value's own code.
        return Failed(_error("ResultNotJson", f"the result cannot be written as JSON: {text_of(error)}"), ran_seconds)
    if len(result) > RESULT_BYTES_MAX:
        message = f"the result has {len(result)} bytes, more than {RESULT_BYTES_MAX}: return a reference instead"
        return Failed(_error("ResultTooLarge", message), ran_seconds)
    return Succeeded(result, ran_seconds)


def _error(kind: str, message: str, *, retryable: bool = False) -> TaskError:
    return TaskError(type=kind, message=message, retryable=retryable, fingerprint=fingerprint_of(kind, message))
