"""The end of a worker: on request, or because it cannot continue."""

import asyncio

from ..errors import HubError
from ..logs import Logger
from .settings import WorkerFailedError

log = Logger(__name__)


class Ending:
    """Records the first request to end; later failures are part of the shutdown and are ignored."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self._failure: BaseException | None = None

    @property
    def asked_for(self) -> bool:
        """Whether the end was requested."""
        return self._asked.is_set()

    def ask(self) -> None:
        """Request the worker to end."""
        self._asked.set()

    def fail(self, error: BaseException) -> None:
        """End the worker because of `error`."""
        if not self.asked_for:
            unexpected = None if isinstance(error, HubError) else error
            about = {"reason": str(error) or repr(error), "exc_info": unexpected}
            log.error("the worker cannot continue", action="worker_failed", **about)
            self._failure = error
        self.ask()

    async def wait(self) -> None:
        """Wait until the end is requested. Raises WorkerFailedError if the worker cannot continue."""
        await self._asked.wait()
        if self._failure is not None:
            raise WorkerFailedError(str(self._failure) or repr(self._failure)) from self._failure
