"""Runs the bodies of attempts: from the command to the outcome, its report, and the release of the slot."""

import asyncio
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any

from schemas import FIRST_VERSION, ExecuteAttempt, TaskError, definition_id, quoted

from ..logs import Logger
from ..service import ServiceTasks, set_within
from .attempts import Attempt
from .context import TaskContext
from .effects import ImmediateEffect
from .executor import execute_attempt
from .figures import WorkerFigures
from .outcome import Cancelled, Failed, Outcome, error_of
from .registry import TaskRegistry
from .reporting import Reporting
from .shared import Locked, LoopCalls
from .slots import Slots

log = Logger(__name__)


class Body:
    """A running attempt, with its task on the event loop and its thread."""

    __slots__ = ("attempt", "context", "granted", "interruptible", "task", "thread")

    def __init__(self, attempt: Attempt, context: TaskContext) -> None:
        self.attempt = attempt
        self.context = context
        self.granted = asyncio.Event() if attempt.command.delivery == "at_most_once" else None
        self.interruptible = False
        self.task: asyncio.Task[None] | None = None
        self.thread: Future[Any] | None = None

    def stop(self, reason: str) -> None:
        """Request the handler to stop: set `ctx.cancelled`, and cancel an async handler. A plain function has to check
        `ctx.cancelled` itself. A body checks it before it begins. The desk never stops a body that has ended, so its outcome is
        still reported."""
        if not self.context.cancelled:
            self.context.cancel()
            if self.task is not None and self.interruptible:
                self.task.cancel(reason)


class Bodies:
    """All running bodies. `carry_out` is called with the effects of a body that leaves its slot. Use from one event loop."""

    def __init__(
        self,
        registry: TaskRegistry,
        desk: Locked[Slots],
        reporting: Reporting,
        tasks: ServiceTasks,
        threads: Executor,
        calls: LoopCalls,
        carry_out: Callable[[Iterable[ImmediateEffect]], None],
        clock: Callable[[], float] = time.monotonic,
        figures: WorkerFigures | None = None,
    ) -> None:
        self._registry = registry
        self._figures = figures or WorkerFigures()
        self._desk = desk
        self._reporting = reporting
        self._tasks = tasks
        self._threads = threads
        self._calls = calls
        self._carry_out = carry_out
        self._clock = clock
        self._bodies: dict[str, Body] = {}
        self._functions: set[Future[Any]] = set()

    def close(self) -> None:
        """End the idle threads, and the others when their functions return."""
        self._threads.shutdown(wait=False)

    @property
    def busy_threads(self) -> int:
        """The number of plain functions in threads, including those whose attempt has ended and those whose outcome is not
        reported yet."""
        return len(self._functions)

    def begin(self, attempt: Attempt) -> None:
        """Start the body of an attempt that has a slot."""
        context = TaskContext(attempt.command, partial(self._reporting.progress, attempt))
        body = self._bodies[attempt.command.token] = Body(attempt, context)
        body.task = self._tasks.start(self._run(body))

    def stop(self, attempt: Attempt, reason: str) -> None:
        """Request the body of an attempt to stop; ignored if the attempt has no body."""
        if (body := self._bodies.get(attempt.command.token)) is not None:
            body.stop(reason)

    def grant(self, attempt: Attempt) -> None:
        """Let a body run that waits for its grant (delivery `at_most_once`)."""
        if (body := self._bodies.get(attempt.command.token)) is not None and body.granted is not None:
            body.granted.set()

    async def _run(self, body: Body) -> None:
        try:
            outcome = await self._outcome_of(body)
        except asyncio.CancelledError:
            outcome = Cancelled(0.0)
        except GeneratorExit:
            raise  # The event loop is being discarded.
        except BaseException as error:
            command = body.attempt.command
            log.exception(
                "unexpected error while running a handler", action="worker_body_failed", task=command.task, name=command.name
            )
            outcome = Failed(error_of(error), 0.0)
        try:
            await self._reporting.conclude(body.attempt, outcome)
        finally:
            del self._bodies[body.attempt.command.token]
            self._leave(body)

    async def _outcome_of(self, body: Body) -> Outcome:
        command, context = body.attempt.command, body.context
        body.interruptible = True
        if context.cancelled:  # The cancel arrived with the command.
            return Cancelled(0.0)
        if body.granted is not None and not await self._is_granted(body, body.granted):
            return Cancelled(0.0)
        definition = self._registry.find(command.namespace, command.name, command.version)
        if definition is None:
            return self._unknown(command)
        if body.granted is None:
            self._reporting.begun(body.attempt, self._clock())
        body.interruptible = definition.is_async
        began = time.perf_counter()
        outcome = await execute_attempt(
            definition,
            context,
            bytes(command.args),
            threads=self._threads,
            timeout_seconds=command.timeout_seconds,
            on_thread=None if definition.is_async else partial(self._in_thread, body),
            task=body.task,
        )
        seconds = time.perf_counter() - began
        self._figures.ran(command.namespace, command.name, command.queue, outcome, seconds)
        return outcome

    async def _is_granted(self, body: Body, granted: asyncio.Event) -> bool:
        command = body.attempt.command
        await self._reporting.start(body.attempt)
        in_time = await set_within(granted, command.start_seconds)
        if not in_time:
            log.warning("no grant received in time; attempt cancelled", action="worker_not_granted", task=command.task)
        return in_time

    def _unknown(self, command: ExecuteAttempt) -> Failed:
        wanted = quoted(definition_id(command.namespace, command.name, command.version or FIRST_VERSION))
        known = ", ".join(one.id for one in self._registry.registration.definitions)
        return Failed(TaskError(type="UnknownTask", message=f"this worker has no handler for {wanted}; it has: {known}"), 0.0)

    def _in_thread(self, body: Body, future: "Future[Any]") -> None:
        body.thread = future
        self._functions.add(future)

    def _leave(self, body: Body) -> None:
        """Free the slot. If the attempt's function still runs in its thread, the slot is freed when the function returns."""
        attempt, function = body.attempt, body.thread
        hangs = function is not None and not function.done()
        with self._desk as desk:
            effects = desk.hung(attempt, self._clock()) if hangs else desk.ended(attempt, self._clock())
        if function is not None and hangs:
            command = attempt.command
            about = {"task": command.task, "name": command.name, "threads": self.busy_threads}
            log.warning("a hung function holds its slot after its attempt has ended", action="worker_function_hangs", **about)
            function.add_done_callback(partial(self._calls.call, self._came_back))
        elif function is not None:
            self._functions.discard(function)
        self._carry_out(effects)

    def _came_back(self, function: "Future[Any]") -> None:
        self._functions.discard(function)
        with self._desk as desk:
            effects = desk.came_back(self._clock())
        self._carry_out(effects)
