"""The result of `submit`: a handle for one task."""

from collections.abc import AsyncIterator
from typing import Any, Protocol

from schemas import Event, TaskReply

from .pending import PendingReply


class Owner(Protocol):
    """The methods of a hub that its handles use."""

    async def result_of(self, handle: "TaskHandle", *, timeout_seconds: float | None = None) -> Any: ...
    async def outcome_of(self, handle: "TaskHandle", *, timeout_seconds: float | None = None) -> TaskReply: ...
    async def admission_of(self, handle: "TaskHandle") -> TaskReply: ...
    async def get(self, task: str, *, root: str | None = None) -> TaskReply: ...
    async def cancel(self, task: str, *, root: str | None = None, reason: str = "") -> None: ...
    def watch(self, task: str, *, root: str | None = None) -> AsyncIterator[Event]: ...


class TaskHandle:
    """A submitted task. `id`: the task's id; `root`: that of its workflow, or its own."""

    def __init__(self, hub: Owner, task: str, root: str) -> None:
        self.id = task
        self.root = root
        self._hub = hub
        #: The engine's warning about the accepted submission, for example that no worker has registered the task. None: there is
        #: no warning, or the engine has not responded yet.
        self.warning: str | None = None
        self._pending: PendingReply | None = None

    def _warn(self, warning: str) -> None:
        self.warning = warning

    def __repr__(self) -> str:
        return f"TaskHandle({self.id!r})"

    async def result(self, *, timeout_seconds: float | None = None) -> Any:
        """Wait for the end of the task and return its result, decoded from JSON. Raises TaskFailedError, TaskCancelledError,
        TaskExpiredError, TaskSkippedError, TaskRejectedError, TaskUnknownError; WaitTimeoutError (a TimeoutError)."""
        return await self._hub.result_of(self, timeout_seconds=timeout_seconds)

    async def outcome(self, *, timeout_seconds: float | None = None) -> TaskReply:
        """Wait for the end of the task and return the reply, whatever its state. Raises WaitTimeoutError."""
        return await self._hub.outcome_of(self, timeout_seconds=timeout_seconds)

    async def admitted(self) -> TaskReply:
        """Wait until the engine has decided on the submission, and return the task's state. Raises TaskRejectedError (another
        task has the id or the key, unknown workflow, a limit is reached), NoAnswerError if no engine responds."""
        return await self._hub.admission_of(self)

    async def state(self) -> TaskReply:
        """The present state of the task. Raises NoAnswerError if no engine responds."""
        return await self._hub.get(self.id, root=self.root)

    async def cancel(self, reason: str = "") -> None:
        """Request the cancellation of the task; returns when the request is stored."""
        await self._hub.cancel(self.id, root=self.root, reason=reason)

    def watch(self) -> AsyncIterator[Event]:
        """The events of the task, from the first one until its end; for a workflow including those of its steps."""
        return self._hub.watch(self.id, root=self.root)
