"""Common parts of all processes: event loop, signals, `ready` line, exit code.

The first SIGTERM or SIGINT starts a drain; a second one ends the process at once. The process prints `ready <role> <json>`
once, to stdout or, under a supervisor, to the pipe from `--ready-fd`; logs go to stderr.
"""

import asyncio
import contextlib
import gc
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from ..child_process import flush_standard_streams
from ..logs import Logger
from ..service import ServiceTasks, run_until
from .errors import OutputFailed
from .health import Health, HealthAddress, HealthAddressTaken, HealthLimits, HealthServer, Pages, ProcessPages

log = Logger(__name__)

if TYPE_CHECKING:
    from ..metrics import MetricsSnapshot, Registry
    from ..metrics.push import MetricsPush, PushSettings

DRAINING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class HealthOptions(NamedTuple):
    """Where a process serves its health pages (None: nowhere), and the limits of its checks."""

    address: HealthAddress | None = None
    limits: HealthLimits = HealthLimits()


class Process:
    """The argument of the main function of a role: tells when to stop, and reports readiness.

    `health`: its state, to which a role adds its checks, with these `limits`. `pages`: what its health server serves.
    `more_metrics`: the metrics of its own child processes, which are published as those of this process. `snapshots`: what it
    pushes; of a supervisor the metrics of all its processes."""

    def __init__(self, role: str, ready_fd: int | None = None, limits: HealthLimits = HealthLimits()) -> None:  # noqa: B008
        self.role = role
        self.limits = limits
        self.health = Health(role)
        self.pages: Pages = ProcessPages(self.health, self.collect)
        self.more_metrics: Callable[[], Iterable[MetricsSnapshot]] = tuple
        self.snapshots: Callable[[], Awaitable[Iterable[MetricsSnapshot]]] = self._own_snapshot
        self.stopping = asyncio.Event()
        self.at_once: list[Callable[[], None]] = []  # called on the second signal
        self._began = time.monotonic()
        self._ready_fd = ready_fd
        self._facts: dict[str, Any] = {}
        self._is_ready = False

    def on_signal(self, number: int) -> None:
        """First signal: drain. Second signal: end at once."""
        if self.stopping.is_set():
            for end in self.at_once:
                end()
            os._exit(128 + number)
        self.health.draining = True
        self.stopping.set()

    @cached_property
    def registry(self) -> "Registry":
        """The metrics of this process, with its role as a label."""
        from ..metrics import Registry
        from ..metrics.process import observe_process

        registry = Registry({"role": self.role})
        observe_process(registry, started=self._began)
        return registry

    def collect(self) -> "MetricsSnapshot":
        """The present values of the metrics."""
        from ..metrics import merged

        return merged(self.registry.collect(), self.more_metrics())

    async def _own_snapshot(self) -> "list[MetricsSnapshot]":
        return [self.collect()]

    def ready(self, **facts: Any) -> None:
        """Report that this process is ready: on stdout, or to the supervisor through its pipe.

        Existing objects (mostly modules) are frozen, so that the garbage collector does not scan them again."""
        gc.freeze()
        line = f"ready {self.role} {json.dumps({'role': self.role, 'pid': os.getpid(), **facts, **self._facts})}"
        self._is_ready = self.health.started = True
        self.health.facts |= {**facts, **self._facts}
        if self._ready_fd is None:
            print_line(line)
        else:
            self._tell_supervisor(line)

    def report(self, **facts: Any) -> None:
        """Report facts that may change: in the `ready` line, and after it to the supervisor, if there is one."""
        self._facts |= facts
        self.health.facts |= facts
        if self._is_ready and self._ready_fd is not None:
            self._tell_supervisor(f"facts {self.role} {json.dumps(facts)}")

    def _tell_supervisor(self, line: str) -> None:
        assert self._ready_fd is not None
        with contextlib.suppress(BrokenPipeError):  # the supervisor is gone, and this process ends with it
            os.write(self._ready_fd, line.encode() + b"\n")

    def end_at_once(self, why: str, code: int = 0) -> NoReturn:
        """End at once without waiting for threads."""
        log.warning("ending at once", action="process_ended_at_once", role=self.role, reason=why)
        flush_standard_streams()
        os._exit(code)

    async def until_stopped(self, work: Coroutine[Any, Any, Any]) -> bool:
        """Wait for `work`. Returns True when it is done, False if a signal arrived first (`work` is cancelled). Raises its
        error."""
        task = await run_until(self.stopping, work)
        if task.cancelled():
            return False
        task.result()
        return True


def print_line(line: str) -> None:
    """Print a line to stdout and flush it. A closed pipe is not an error. Raises OutputFailed."""
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except OSError as error:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for the rest of the process
        if not isinstance(error, BrokenPipeError):
            raise OutputFailed(error) from error


def run_process(
    role: str,
    main: Callable[[Process], Awaitable[None]],
    *,
    uvloop: bool = True,
    ready_fd: int | None = None,
    health: HealthOptions = HealthOptions(),  # noqa: B008
    push: "PushSettings | None" = None,
) -> None:
    """Run `main` in a new event loop with signal handlers and health pages. `push`: where its metrics are pushed. Raises the
    error of `main`."""

    async def supervised() -> None:
        process = Process(role, ready_fd, health.limits)
        loop = asyncio.get_running_loop()
        for number in DRAINING_SIGNALS:
            loop.add_signal_handler(number, process.on_signal, number)
        async with _served_pages(process, health.address), _pushed_metrics(process, push):
            await main(process)

    with asyncio.Runner(loop_factory=_uvloop_factory() if uvloop else None) as runner:
        runner.run(supervised())


@contextlib.asynccontextmanager
async def _served_pages(process: Process, address: HealthAddress | None) -> AsyncIterator[None]:
    """Serve the health pages meanwhile, and report their address. If it is in use, print that to stderr and serve none."""
    if address is None:
        yield
        return
    server = HealthServer(lambda request: process.pages.answer(request))
    try:
        process.report(health=await server.start(address))
    except HealthAddressTaken as taken:
        sys.stderr.write(f"hub: {taken}\n")
    try:
        yield
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def _pushed_metrics(process: Process, settings: "PushSettings | None") -> AsyncIterator[None]:
    """Push the metrics meanwhile: at the interval, when the process begins to drain, and at the end."""
    if settings is None:
        yield
        return
    from ..metrics.push import MetricsPush

    push = MetricsPush(lambda: process.snapshots(), settings)
    tasks = ServiceTasks("the push of metrics")
    await push.start()
    tasks.start(_push_at_drain(process, push), "push at the drain")
    try:
        yield
    finally:
        await tasks.cancel()
        await push.stop()


async def _push_at_drain(process: Process, push: "MetricsPush") -> None:
    await process.stopping.wait()
    await push.push()


def _uvloop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        from uvloop import new_event_loop
    except ImportError:  # not available on this system
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = new_event_loop
    return factory
