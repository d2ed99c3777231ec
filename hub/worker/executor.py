"""Running a handler: a pipeline from a command to an Outcome. Whatever a handler does, it ends as a value."""

import asyncio
import time
from concurrent.futures import Executor
from functools import partial
from typing import Any

from msgspec import MsgspecError, json

from schemas import TaskError
from schemas.tasks import RESULT_BYTES_MAX

from .context import Context, Permanent, Retry
from .outcome import Cancelled, Failed, Outcome, Succeeded, error_of, fingerprint_of
from .registry import InvalidArguments, TaskDefinition

_encoder = json.Encoder(enc_hook=lambda value: _plain(value))


def _plain(value: Any) -> Any:
    """JSON types for what msgspec does not know: pydantic models."""
    dump = getattr(value, "model_dump", None)
    if dump is None:
        raise NotImplementedError(f"a result of type {type(value).__qualname__} is no JSON")
    return dump(mode="json")


async def run_attempt(
    definition: TaskDefinition, context: Context, args: bytes, *, threads: Executor, timeout_seconds: float | None
) -> Outcome:
    """Call the handler: async ones on the loop, plain ones in a thread. Never raises but for the loop's own end.

    A time-out ends an async handler; a plain one goes on in its thread (it sees `ctx.cancelled`), and its attempt is over."""
    began = time.monotonic()
    try:
        arguments = definition.bind(args, context)
        if timeout_seconds is None:
            value = await _call(definition, arguments, threads)
        else:
            async with asyncio.timeout(timeout_seconds):
                value = await _call(definition, arguments, threads)
        return _succeeded(value, time.monotonic() - began)
    except InvalidArguments as error:
        return Failed(_error("InvalidArguments", str(error)), time.monotonic() - began)
    except Retry as retry:
        return Failed(error_of(retry), time.monotonic() - began, retry_after=retry.after)
    except Permanent as permanent:
        return Failed(error_of(permanent, retryable=False), time.monotonic() - began)
    except asyncio.CancelledError:
        if context.cancelled:
            return Cancelled(time.monotonic() - began)
        raise
    except TimeoutError as error:
        ran = time.monotonic() - began
        if timeout_seconds is not None and ran >= timeout_seconds:
            context.cancel()
            return Failed(_error("AttemptTimedOut", f"longer than {timeout_seconds:g} s", retryable=True), ran, timed_out=True)
        return Failed(error_of(error), ran)
    except Exception as error:  # A handler may raise anything.
        return Failed(error_of(error), time.monotonic() - began)


async def _call(definition: TaskDefinition, arguments: dict[str, Any], threads: Executor) -> Any:
    if definition.is_async:
        return await definition.function(**arguments)
    return await asyncio.get_running_loop().run_in_executor(threads, partial(definition.function, **arguments))


def _succeeded(value: Any, ran_seconds: float) -> Outcome:
    try:
        result = _encoder.encode(value)
    except (MsgspecError, TypeError, NotImplementedError, ValueError, RecursionError) as error:
        return Failed(_error("ResultNotJson", f"the result can't be written as JSON: {error}"), ran_seconds)
    if len(result) > RESULT_BYTES_MAX:
        message = f"the result has {len(result)} bytes, more than {RESULT_BYTES_MAX}: return a reference instead"
        return Failed(_error("ResultTooLarge", message), ran_seconds)
    return Succeeded(result, ran_seconds)


def _error(kind: str, message: str, *, retryable: bool = False) -> TaskError:
    return TaskError(type=kind, message=message, retryable=retryable, fingerprint=fingerprint_of(kind, message))
