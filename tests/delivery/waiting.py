"""Waiting for a condition, with a deadline instead of a sleep."""

import asyncio
import time
from collections.abc import Callable


async def until(condition: Callable[[], object], what: str, timeout_seconds: float = 60.0) -> None:
    """Return when `condition()` is true; fail, saying `what` was waited for, when it is not in time."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_seconds:g} s in vain: {what}"
        await asyncio.sleep(0.01)
