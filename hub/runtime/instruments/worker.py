"""The instruments of a worker."""

from typing import TYPE_CHECKING

from schemas import COMMANDS

from ...metrics import Registry

if TYPE_CHECKING:
    from ...worker import Worker


def observe_worker(registry: Registry, worker: "Worker") -> None:
    """Publish the figures of `worker` at each collection."""
    figures, pool, slots = worker.figures, worker.settings.pool, worker.settings.slots
    used, free = (registry.gauge("hub.worker.slots", pool=pool, state=state) for state in ("used", "free"))
    heartbeats, leases = (
        registry.counter("hub.worker.heartbeats", pool=pool),
        registry.counter("hub.worker.leases.lost", pool=pool),
    )
    commands = {kind: registry.counter("hub.worker.commands", pool=pool, type=kind) for kind in COMMANDS}
    delay = registry.gauge("hub.worker.loop.delay", pool=pool)

    def read() -> None:
        running = worker.stats().get("running", 0)
        used.set(running)
        free.set(max(0, slots - running))
        heartbeats.follow(figures.heartbeats)
        leases.follow(figures.leases_lost)
        delay.set(figures.loop_delay_seconds)
        for kind, total in figures.commands.items():
            commands[kind].follow(total)
        for (namespace, task, outcome), seconds in list(figures.ran_seconds.items()):
            registry.publish("hub.worker.body.duration", seconds, namespace=namespace, task=task, outcome=outcome)

    registry.observe(read)
