"""What `submit` gives: a hold on one task."""

from collections.abc import AsyncIterator
from typing import Any, Protocol

from schemas import Event, TaskReply


class Owner(Protocol):
    """What a handle needs of the hub it came from."""

    async def result_of(self, handle: "TaskHandle", *, timeout_seconds: float | None = None) -> Any: ...
    async def outcome_of(self, handle: "TaskHandle", *, timeout_seconds: float | None = None) -> TaskReply: ...
    async def admission_of(self, handle: "TaskHandle") -> TaskReply: ...
    async def get(self, task: str, *, root: str | None = None) -> TaskReply: ...
    async def cancel(self, task: str, *, root: str | None = None, reason: str = "") -> None: ...
    def watch(self, task: str, *, root: str | None = None) -> AsyncIterator[Event]: ...


class TaskHandle:
    """A task that was submitted, by its id. Knows the hub it was submitted to."""

    def __init__(self, hub: Owner, task: str, root: str, *, token: bytes | None = None, future: Any = None) -> None:
        self.id = task
        self.root = root
        self._hub = hub
        #: What may keep the task from running as meant, as the engine said when it accepted the submission: a sentence. None
        #: where it said nothing, or not yet.
        self.warning: str | None = None
        self._token = token
        self._future = future

    def _warn(self, warning: str) -> None:
        self.warning = warning

    def __repr__(self) -> str:
        return f"TaskHandle({self.id!r})"

    async def result(self, *, timeout_seconds: float | None = None) -> Any:
        """The task's result, when it has one. Raises TaskFailedError, TaskCancelledError, TaskExpiredError, TaskSkippedError,
        TaskRejectedError, TaskUnknownError; WaitTimeoutError (a TimeoutError)."""
        return await self._hub.result_of(self, timeout_seconds=timeout_seconds)

    async def outcome(self, *, timeout_seconds: float | None = None) -> TaskReply:
        """How it ended, without raising for a bad end. Raises WaitTimeoutError."""
        return await self._hub.outcome_of(self, timeout_seconds=timeout_seconds)

    async def admitted(self) -> TaskReply:
        """Wait until the engine has decided on the submission: the task as it is then. Raises TaskRejectedError where it was
        refused (another task has its id or key, no such workflow, no room), NoAnswerError where no engine answers."""
        return await self._hub.admission_of(self)

    async def state(self) -> TaskReply:
        """The task as it is now. Raises NoAnswerError where no engine answers."""
        return await self._hub.get(self.id, root=self.root)

    async def cancel(self, reason: str = "") -> None:
        """Ask that it ends; returns when the request is stored."""
        await self._hub.cancel(self.id, root=self.root, reason=reason)

    def watch(self) -> AsyncIterator[Event]:
        """Its events from the first on, up to its end (a workflow's include those of its steps)."""
        return self._hub.watch(self.id, root=self.root)
