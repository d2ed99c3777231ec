"""A reply of the engine that callers wait for."""

import asyncio
from collections.abc import Callable
from functools import partial

from schemas import TaskReply


class PendingReply:
    """The reply to one request, which arrives as a record with the key `token`; the request has `address` in its header
    `replyto`. `until_end`: it is sent at the end of the task, otherwise it is the present state. `ask_at`: when the engine is
    queried again, a time of the event loop. `on_warning` gets the engine's warning about an accepted submission.

    Several callers may wait for it, and give up without an effect on the others. Use it on one event loop."""

    __slots__ = ("_outcome", "_waiters", "address", "ask_at", "on_warning", "root", "task", "token", "until_end")

    def __init__(
        self,
        task: str,
        root: str,
        token: bytes,
        address: bytes,
        *,
        until_end: bool,
        ask_at: float,
        on_warning: Callable[[str], object] | None,
    ) -> None:
        self.task, self.root, self.token, self.address = task, root, token, address
        self.until_end, self.ask_at, self.on_warning = until_end, ask_at, on_warning
        self._outcome: TaskReply | BaseException | None = None
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def is_done(self) -> bool:
        """Whether the reply has arrived, or it is known that it will not."""
        return self._outcome is not None

    def resolve(self, outcome: TaskReply | BaseException) -> None:
        """Give the reply, or the error why there is none, to all callers; the first outcome is final."""
        if self._outcome is None:
            self._outcome = outcome
            for waiter in self._waiters:
                _wake(waiter)

    def result(self) -> TaskReply:
        """The reply; only if it `is_done`. Raises the error."""
        outcome = self._outcome
        assert outcome is not None, "there is no reply yet"
        if isinstance(outcome, BaseException):
            raise outcome.with_traceback(None)  # otherwise each caller would extend it
        return outcome

    async def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait until it `is_done`; False after `timeout_seconds` without a reply."""
        if self._outcome is None:
            loop = asyncio.get_running_loop()
            waiter: asyncio.Future[None] = loop.create_future()
            timer = None if timeout_seconds is None else loop.call_later(timeout_seconds, partial(_wake, waiter))
            self._waiters.append(waiter)
            try:
                await waiter
            finally:
                self._waiters.remove(waiter)
                if timer is not None:
                    timer.cancel()
        return self._outcome is not None


def _wake(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
