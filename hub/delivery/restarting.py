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

    async def run(
        self,
        live: Callable[[], Awaitable[None]],
        raised: tuple[type[Exception], ...] = (),
        has_progress: Callable[[], bool] = lambda: False,
    ) -> None:
        """Call `live` again whenever it returns or raises, until cancelled or stopped by its policy. Raises the exceptions of the
        types `raised`; an invalid configuration is reported by `checked`. `has_progress`: whether the run that has just ended
        delivered events; the backoff then begins at its initial value again."""
        loop = asyncio.get_running_loop()
        delay = 0.0
        try:
            while True:
                began = loop.time()
                failure = await self._failure_of(live, raised)
                if isinstance(failure, StoppedByPolicy) or self._is_refused:
                    return
                is_new = not delay or loop.time() - began > STEADY_SECONDS or has_progress()
                delay = BACKOFF_INITIAL_SECONDS if is_new else min(BACKOFF_MAX_SECONDS, 2 * delay)
                if failure is not None:
                    self._lifecycle.fail(failure, delay)
                self.is_valid()
                await asyncio.sleep(delay)
                self.restarts += 1
        finally:
            if self._lifecycle.state != "stopped":
                self._lifecycle.enter("stopped")
            if not self.checked.done():
                self.checked.cancel()

    @property
    def _is_refused(self) -> bool:
        return self.checked.done() and not self.checked.cancelled() and self.checked.exception() is not None

    async def _failure_of(self, live: Callable[[], Awaitable[None]], raised: tuple[type[Exception], ...]) -> Exception | None:
        """Run it once. Returns its error; None if it has returned."""
        try:
            await live()
        except raised:
            raise
        except StoppedByPolicy as error:
            self._lifecycle.enter("stopped", error)
            return error
        except ConfigurationError as error:
            if not self.checked.done():
                self.checked.set_exception(error)
            return error
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            return RuntimeError("it was cancelled by the subscriber's own code")
        except Exception as error:
            return error
        return None


def is_cancelled() -> bool:
    """Whether the current task was requested to end; otherwise a CancelledError comes from something that it awaited."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
