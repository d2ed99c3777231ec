"""The process of one isolated subscriber: delivery of this subscriber alone, with reports to the process that manages it."""

import asyncio
import contextlib
import importlib
import os
import signal
from collections.abc import Sequence
from typing import NoReturn

from ..child_process import flush_standard_streams, set_title
from ..errors import ConfigurationError
from ..fork_server import ForkServer
from ..logs import Logger
from ..metrics import Registry
from ..service import set_within
from .config import SubscriberConfig
from .current_events import CurrentEvents
from .isolation import Job, Reporter, is_isolated
from .isolation.reports import METRICS_SECONDS, REPORT_SECONDS
from .service import DeliveryService
from .thread import new_event_loop

SHARED_MODULES = ("uvloop", "concurrent.futures.thread", "hub.decompression")
"""Modules that every process of a subscriber imports sooner or later: imported before the fork, their pages are shared."""
NICE = 5
"""Processes of subscribers yield to the rest of the hub when the CPU is busy."""
log = Logger(__name__)


def fork_server_for(subscribers: Sequence[SubscriberConfig]) -> ForkServer | None:
    """A fork server, if one of these subscribers runs in a process of its own. Call it in the main thread, before there are
    other threads or event loops."""
    if not any(is_isolated(one) for one in subscribers):
        return None
    for module in SHARED_MODULES:
        with contextlib.suppress(ImportError):  # uvloop is not available on every system
            importlib.import_module(module)
    return ForkServer(run_subscriber, "delivery")


def run_subscriber(data: bytes, descriptors: Sequence[int]) -> NoReturn:
    """Run the subscriber of a job until SIGTERM, which drains it; then end the process. `descriptors`: for its reports, and for
    the events that are being handled."""
    code = 1
    try:
        os.nice(NICE)
        job, (reports, current) = Job.of_bytes(data), descriptors
        set_title(("hub", "subscriber", job.config.id))
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            code = runner.run(_deliver(job, Reporter(reports), CurrentEvents(current, job.suspects)))
        flush_standard_streams()
    except BaseException:
        log.exception("a process of a subscriber failed", action="subscriber_process_failed")
    finally:
        os._exit(code)


async def _deliver(job: Job, reporter: Reporter, current: CurrentEvents) -> int:
    stopping, changed = asyncio.Event(), asyncio.Event()
    _listen(stopping, changed)
    registry = Registry()
    service = DeliveryService(
        job.cluster,
        [job.config],
        topic=job.topic,
        drain_seconds=job.drain_seconds,
        dead_letter_configs=job.dead_letter_configs,
        on_change=changed.set,
        registry=registry,
        current=current,
    )
    clock = asyncio.get_running_loop().time
    metrics_at = clock() + METRICS_SECONDS
    try:
        await service.start()
        while not stopping.is_set():
            changed.clear()
            status = service.status()[0]
            reporter.status(status)
            if clock() >= metrics_at:
                reporter.metrics(registry.collect())
                metrics_at = clock() + METRICS_SECONDS
            if status.state == "stopped":
                break
            await set_within(changed, REPORT_SECONDS)
        if stopping.is_set():
            reporter.draining()
    except ConfigurationError as error:
        reporter.invalid(str(error))
    except BrokenPipeError:  # the manager is gone
        return 1
    finally:
        await service.stop()
        with contextlib.suppress(OSError):
            reporter.metrics(registry.collect())
    return 0


def _listen(stopping: asyncio.Event, changed: asyncio.Event) -> None:
    def stop() -> None:  # repeated where the whole process group gets the signal, and then the manager sends it, too
        stopping.set()
        changed.set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
