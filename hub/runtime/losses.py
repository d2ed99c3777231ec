"""Reports to the engine that the process of a worker died, so that its tasks need not wait for the expiry of their leases."""

import asyncio
import os

from msgspec import json

from schemas import reports

from ..errors import HubError
from ..kafka import INTAKE, Cluster, Outgoing, Sender, describe_partitions
from ..logs import Logger

log = Logger(__name__)

TRY_SECONDS = 10.0
PAUSE_SECONDS = 0.2


async def report_lost(cluster: Cluster, incarnation: str, reason: str) -> bool:
    """Send `worker.lost` to every engine partition. Returns False if it was not acknowledged within 10 seconds; then the
    leases expire."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + TRY_SECONDS
    while True:
        try:
            async with asyncio.timeout(max(0.1, deadline - loop.time())):
                await _send(cluster, incarnation, reason)
        except (HubError, OSError, TimeoutError) as error:
            if loop.time() > deadline:
                log.warning(
                    "could not report the lost worker",
                    action="worker_loss_not_reported",
                    incarnation=incarnation,
                    reason=str(error),
                )
                return False
            await asyncio.sleep(PAUSE_SECONDS)
        else:
            log.info("lost worker reported", action="worker_loss_reported", incarnation=incarnation, reason=reason)
            return True


async def _send(cluster: Cluster, incarnation: str, reason: str) -> None:
    value = json.encode(reports.WorkerLost(incarnation=incarnation, reason=reason))
    headers = reports.report_headers("worker.lost", f"/supervisor/{os.getpid()}", f"{incarnation}-lost")
    partitions = await describe_partitions(cluster)
    sender = Sender(cluster.named("supervisor"))
    await sender.start()
    try:
        for partition in range(partitions):
            await sender.send(Outgoing(INTAKE, partition, incarnation.encode(), value, headers), timeout_seconds=TRY_SECONDS)
    finally:
        await sender.stop()
