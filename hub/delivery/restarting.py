"""Runs the code of a subscriber again and again after failures, with backoff."""

import asyncio
from collections.abc import Awaitable, Callable

from ..errors import ConfigurationError
from .failures import StoppedByPolicy
from .lifecycle import Lifecycle

BACKOFF_INITIAL_SECONDS = 1.0
BACKOFF_MAX_SECONDS = 60.0
STEADY_SECONDS = 60.0
"""After running for this time, the backoff begins at its initial value again."""


class Restarting:
    """`checked`: done when the configuration is known to be valid; its exception is the ConfigurationError otherwise.
    `restarts`: how often the code was started again."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self.checked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.restarts = 0
        self._lifecycle = lifecycle

    def is_valid(self) -> None:
        """The configuration is valid."""
        if not self.checked.done():
            self.checked.set_result(None)

    async def run(self, live: Callable[[], Awaitable[None]], raised: tuple[type[Exception], ...] = ()) -> None:
        """Call `live` again whenever it returns or raises, until cancelled or stopped by its policy. Raises the exceptions of the
        types `raised`; an invalid configuration is reported by `checked`."""
        loop, delay = asyncio.get_running_loop(), BACKOFF_INITIAL_SECONDS
        try:
            while True:
                began = loop.time()
                if not await self._once(live, raised, delay):
                    return
                self.is_valid()
                delay = BACKOFF_INITIAL_SECONDS if loop.time() - began > STEADY_SECONDS else delay
                await asyncio.sleep(delay)
                delay = min(BACKOFF_MAX_SECONDS, delay * 2)
                self.restarts += 1
        finally:
            if self._lifecycle.state != "stopped":
                self._lifecycle.enter("stopped")
            if not self.checked.done():
                self.checked.cancel()

    async def _once(self, live: Callable[[], Awaitable[None]], raised: tuple[type[Exception], ...], delay: float) -> bool:
        """Whether it is to be run again."""
        try:
            await live()
        except raised:
            raise
        except StoppedByPolicy as error:
            self._lifecycle.enter("stopped", error)
            return False
        except ConfigurationError as error:
            if not self.checked.done():
                self.checked.set_exception(error)
                return False
            self._lifecycle.fail(error, delay)
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            self._lifecycle.fail(RuntimeError("it was cancelled by the subscriber's own code"), delay)
        except Exception as error:
            self._lifecycle.fail(error, delay)
        return True


def is_cancelled() -> bool:
    """Whether the current task was requested to end; otherwise a CancelledError comes from something that it awaited."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
