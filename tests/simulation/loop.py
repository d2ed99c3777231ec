"""A deterministic event loop with virtual time, and processes on it that can be frozen and killed between any two of their steps.

Nothing here waits for a clock, a socket or a thread: where no callback is ready, the time leaps to the next timer. Every callback
belongs to the process in whose context it was made, so that a process can be stopped as SIGSTOP does (its callbacks are kept for
later, the time passes) or killed as SIGKILL does (they are dropped: no `finally` runs).
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from heapq import heappop, heappush
from itertools import count
from typing import Any, TypeVar

from msgspec import Struct

T = TypeVar("T")

_PROCESS: ContextVar["Process | None"] = ContextVar("process", default=None)

#: Callbacks without any progress of the time, after which a schedule is taken for stuck.
CALLBACKS_MAX = 50_000

#: From a call to the moment when a thread has done what it is for, and from there to the one when its caller knows (seconds).
THREAD_SECONDS = 0.02

#: No schedule lasts so long (seconds of virtual time).
SECONDS_MAX = 600.0


class Call(Struct, eq=False):
    """A callback that is to run: what an `asyncio.TimerHandle` is, but made in one step. Where it is cancelled, `callback` is
    None."""

    callback: Callable[..., object] | None
    args: tuple[Any, ...]
    context: Context
    time: float = 0.0

    def cancel(self) -> None:
        """See Handle."""
        self.callback, self.args = None, ()

    def cancelled(self) -> bool:
        """See Handle."""
        return self.callback is None

    def when(self) -> float:
        """See TimerHandle."""
        return self.time


class Process:
    """What belongs together: frozen, continued and killed as one."""

    def __init__(self, loop: "SimulationLoop", name: str) -> None:
        self._loop = loop
        self.name = name
        self.runs = True
        """Whether it is neither frozen nor dead."""
        self.frozen = False
        self.dead = False
        self._held: list[Call] = []
        self._context = copy_context()
        self._context.run(_PROCESS.set, self)

    def start(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Run a coroutine in this process."""
        return self._loop.create_task(work, context=self._context)

    def later(self, seconds: float, callback: Callable[..., object], *args: Any) -> Call:
        """Call something in this process after so many seconds of virtual time."""
        return self._loop.call_later(seconds, callback, *args, context=self._context)

    def soon(self, callback: Callable[..., object], *args: Any) -> None:
        """Call something in this process at its next step."""
        self._loop.call_soon(callback, *args, context=self._context)

    def freeze(self) -> None:
        """Stop it between two steps; what becomes ready waits for `thaw`."""
        self.runs, self.frozen = False, True

    def thaw(self) -> None:
        """Continue with all that became ready meanwhile."""
        self.runs, self.frozen = not self.dead, False
        held, self._held = self._held, []
        self._loop.resume(held)

    def kill(self) -> None:
        """End it between two steps: nothing of it ever runs again."""
        self.runs, self.dead = False, True
        self._held.clear()

    def holds(self, call: Call) -> bool:
        """Whether a callback of this process must not run now."""
        if self.dead:
            return True
        if self.frozen:
            self._held.append(call)
        return self.frozen


class SimulationLoop(asyncio.BaseEventLoop):
    """See the module. Its time begins at 0."""

    _ready: Any
    _stopping: bool

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._timers: list[tuple[float, int, Call]] = []
        self._order = count()
        self._tasks: list[asyncio.Task[Any]] = []
        self.set_task_factory(self._new_task)

    def _new_task(self, loop: Any, work: Any, **context: Any) -> "asyncio.Task[Any]":
        task = asyncio.Task(work, loop=self, **context)
        self._tasks.append(task)  # or a task of a dead process, which nothing else refers to, would be collected
        return task

    def time(self) -> float:
        """Seconds of virtual time."""
        return self._now

    def call_soon(  # type: ignore[override]  # any callback with any arguments
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Call:
        """See AbstractEventLoop; without the checks of a loop that threads share."""
        call = Call(callback, args, copy_context() if context is None else context)
        self._ready.append(call)
        return call

    call_soon_threadsafe = call_soon  # type: ignore[assignment]  # likewise

    def call_at(  # type: ignore[override]  # any callback with any arguments
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Call:
        """See AbstractEventLoop. Timers of the same time run in the order in which they were made."""
        call = Call(callback, args, copy_context() if context is None else context, when)
        heappush(self._timers, (when, next(self._order), call))
        return call

    def call_later(  # type: ignore[override]  # likewise
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Call:
        """See AbstractEventLoop."""
        when = self._now + delay
        call = Call(callback, args, copy_context() if context is None else context, when)
        heappush(self._timers, (when, next(self._order), call))
        return call

    def run_in_executor(  # type: ignore[override]  # any function with any arguments
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> "asyncio.Future[T]":
        """See AbstractEventLoop. There are no threads: the function runs between two steps of the process that asked, which
        learns of its result some time later."""
        answer: asyncio.Future[T] = self.create_future()
        self.call_later(THREAD_SECONDS, self._work, answer, func, args)
        return answer

    def _work(self, answer: "asyncio.Future[T]", func: Callable[..., T], args: tuple[Any, ...]) -> None:
        try:
            result = func(*args)
        except Exception as error:
            self.call_later(THREAD_SECONDS, _settle, answer, answer.set_exception, error)
        else:
            self.call_later(THREAD_SECONDS, _settle, answer, answer.set_result, result)

    def leap(self, seconds: float) -> None:
        """The machine was suspended: time has passed, and nothing has run."""
        self._now += seconds

    def resume(self, calls: list[Call]) -> None:
        """Callbacks of a process that continues."""
        self._ready.extend(calls)

    def bury(self) -> None:
        """Close the coroutines of all tasks that have not ended, those of dead processes too."""
        for task in self._tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]  # nobody waits for what was killed
                _close(task.get_coro())

    def _run_once(self) -> None:
        """Everything that is ready, also what becomes ready meanwhile; then the time leaps to the next timer."""
        ready = self._ready
        for _ in range(CALLBACKS_MAX):
            if self._stopping:
                return
            if not ready:
                self._leap_to_next()
                return
            call = ready.popleft()
            if call.callback is not None:
                process = call.context.get(_PROCESS)
                if process is None or process.runs or not process.holds(call):
                    try:
                        call.context.run(call.callback, *call.args)
                    except (SystemExit, KeyboardInterrupt):
                        raise
                    except BaseException as error:
                        self.call_exception_handler({"message": f"{call.callback} failed", "exception": error, "handle": call})
        raise RuntimeError(f"{CALLBACKS_MAX} callbacks at the same time, now {call!r}")

    def _leap_to_next(self) -> None:
        timers, ready = self._timers, self._ready
        while timers and timers[0][2].callback is None:
            heappop(timers)
        if not timers:
            raise RuntimeError("every task waits for something that no timer brings")
        now = timers[0][0]
        if now < self._now:
            now = self._now
        elif now > SECONDS_MAX:
            raise RuntimeError(f"not over after {SECONDS_MAX:.0f} seconds")
        self._now = now
        while timers and timers[0][0] <= now:
            ready.append(heappop(timers)[2])

    def _process_events(self, event_list: Any) -> None:
        """There are no sockets."""

    def _write_to_self(self) -> None:
        """There are no other threads."""


def _settle(answer: "asyncio.Future[T]", settle: Callable[[Any], object], value: object) -> None:
    if not answer.done():
        settle(value)


def _close(coroutine: Any) -> None:
    """End a suspended coroutine, even one that awaits something while it is closed."""
    while coroutine.cr_frame is not None:
        try:
            coroutine.close()
        except BaseException:  # What it does at its end concerns nobody any more.
            continue
