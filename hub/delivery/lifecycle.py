"""The state of a subscriber and its reason, for the status, the log, and callers that wait for a state."""

import asyncio
import logging
from collections.abc import Callable

from ..errors import HubError
from .failures import StoppedByPolicy
from .feed import Disconnected
from .status import State


class Lifecycle:
    """The state of one subscriber. `error`: the reason of the state, or the latest error. `on_change` is called after each
    change."""

    def __init__(self, logger: logging.Logger, on_change: Callable[[], None]) -> None:
        self.state: State = "starting"
        self.error: str | None = None
        self._log = logger
        self._on_change = on_change
        self._logged: str | None = None
        self._changed = asyncio.Event()

    @property
    def problem(self) -> str | None:
        """The error of a failed or stopped subscriber; None in all other states."""
        return self.error if self.state in ("failed", "stopped") else None

    async def settled(self) -> None:
        """Wait until it is running, paused, failed or stopped."""
        while self.state not in ("running", "paused", "failed", "stopped"):
            self._changed.clear()
            await self._changed.wait()

    def enter(self, state: State, error: BaseException | None = None) -> None:
        """Enter a state because of `error`. A change is logged; for "failed" see `fail`."""
        if error is not None:
            plain = isinstance(error, Disconnected | StoppedByPolicy | HubError)
            self.error = str(error) if plain else f"{type(error).__name__}: {error}"
        if state != self.state and state != "failed":
            extra = {"action": f"subscriber_{state}"}
            if error is None:
                self._log.info("%s", state, extra=extra)
            else:
                self._log.warning("%s: %s", state, self.error, extra=extra)
        self.state = state
        self._changed.set()
        self._on_change()

    def fail(self, error: Exception, delay: float) -> None:
        """Enter the state "failed"; the next attempt is after `delay` seconds. Logged once per cause, with a traceback unless it
        is a HubError."""
        self.enter("failed", error)
        known, self._logged = self._logged == self.error, self.error
        trace = None if known or isinstance(error, HubError) else error
        self._log.log(
            logging.DEBUG if known else logging.ERROR,
            "failed, retrying in %.0f s: %s", delay, self.error,
            exc_info=trace, extra={"action": "subscriber_failed"},
        )  # fmt: skip

    def run(self) -> None:
        """Enter the state "running" and clear the error."""
        self.error = self._logged = None
        self.enter("running")

    def mirror(self, state: State, error: str | None) -> None:
        """Take over the state that the subscriber's process reported, which has logged it."""
        if (state, error) != (self.state, self.error):
            self.state, self.error = state, error
            self._changed.set()
            self._on_change()

    def join(self, *, topic_exists: bool) -> None:
        """Enter the state of a subscriber whose consumer has not joined its group yet."""
        if topic_exists or self.state == "reconnecting":
            self.enter("reconnecting" if self.state == "reconnecting" else "starting")
        else:
            self.enter("waiting" if self.state in ("starting", "waiting") else "starting")
