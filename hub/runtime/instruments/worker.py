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
    consumed = registry.counter(
        "messaging.client.consumed.messages",
        messaging_system="kafka",
        messaging_operation_name="poll",
        messaging_destination_name=f"hub.commands.{pool}",
    )

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
        consumed.follow(sum(figures.commands.values()))
        for (queue, error_type), seconds in list(figures.processed_seconds.items()):
            labels = {"messaging_system": "hub", "messaging_operation_name": "process", "messaging_destination_name": queue}
            registry.publish("messaging.process.duration", seconds, **labels, error_type=error_type)

    registry.observe(read)
