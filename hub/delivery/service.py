"""The delivery service: runs all configured subscribers of one process, independently of each other."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from ..errors import ConfigurationError, HubError
from ..fork_server import ForkServer
from ..kafka import Cluster
from ..metrics import MetricsSnapshot, Registry
from ..service import ServiceTasks
from ..telemetry import masked
from .administration.control_topic import ControlFollower
from .clients import NO_CONFIGS, Clients
from .config import SubscriberConfig, check_unique
from .current_events import CurrentEvents
from .dead_letters import DeadLetters
from .isolation import IsolatedSubscriber, Job, is_isolated
from .status import SubscriberStatus
from .supervisor import SharedResources, SubscriberSupervisor

EVENTS_TOPIC = "hub.events"
CHECK_SECONDS = 10.0
STOP_SECONDS = 15.0
PROBLEM_MAX = 500


class DeliveryFailedError(HubError):
    """Delivery cannot continue because of an internal error. The code of subscribers does not cause it."""


class DeliveryService:
    """Runs subscribers on the brokers of `cluster`. Any number of processes may run the same subscribers and share their events.

    `drain_seconds`: how long running handlers may continue when their partition is revoked (a rebalance, the end).
    `dead_letter_configs`: topic settings of the dead-letter topics, for new and existing ones.
    `on_failing` is called with the value of `failing` whenever it changes, `on_change` when the state of a subscriber changes.
    `registry`: where the metrics of subscribers are.
    `fork_server`: runs the subscribers that are isolated; without it all run in threads of this process. `stop` closes it.
    `current`: in the process of an isolated subscriber, where the events that are being handled are written.
    Raises ConfigurationError if two subscribers have the same id.
    """

    def __init__(
        self,
        cluster: Cluster,
        subscribers: Sequence[SubscriberConfig],
        *,
        topic: str = EVENTS_TOPIC,
        drain_seconds: float = 5.0,
        dead_letter_configs: Mapping[str, str] = NO_CONFIGS,
        on_failing: Callable[[dict[str, str]], object] = lambda _: None,
        on_change: Callable[[], object] = lambda: None,
        fork_server: ForkServer | None = None,
        registry: Registry | None = None,
        current: CurrentEvents | None = None,
    ) -> None:
        check_unique(list(subscribers))
        self._configs = list(subscribers)
        self._cluster = cluster
        self._topic, self._drain_seconds = topic, drain_seconds
        self._dead_letter_configs = dead_letter_configs
        self._on_failing, self._on_change = on_failing, on_change
        self._fork_server = fork_server
        self._registry, self._current = registry or Registry(), current
        self._reported: dict[str, str] = {}
        self._supervisors: list[SubscriberSupervisor | IsolatedSubscriber] = []
        self._tasks = ServiceTasks("delivery")
        self._dead_letters: DeadLetters | None = None

    async def start(self) -> None:
        """Check all configurations and start the subscribers.

        Raises ConfigurationError, after stopping all subscribers, if a plugin does not exist or its settings are invalid. A
        plugin whose import or `open` raises or hangs is retried later and does not affect the others.
        """
        clients = Clients(self._cluster.named("delivery"), self._dead_letter_configs)
        self._dead_letters = DeadLetters(clients, self._topic)
        follower = ControlFollower(clients.cluster)
        shared = SharedResources(
            clients, self._dead_letters, follower, self._registry, self._topic, self._drain_seconds, self._current
        )
        for config in self._configs:
            one = self._isolated(config) or SubscriberSupervisor(config, shared, self._changed)
            self._supervisors.append(one)
            self._tasks.start(one.run(), f"subscriber {config.id}")
        if any(isinstance(one, SubscriberSupervisor) for one in self._supervisors):
            self._tasks.start(follower.run(), "pauses and states of subscribers")
        checks = [one.checked for one in self._supervisors]
        if checks:
            await asyncio.wait(checks, timeout=CHECK_SECONDS)
        known = [one for one in checks if one.done() and not one.cancelled()]
        wrong = [str(error) for one in known if (error := one.exception()) is not None]
        if wrong:
            await self.stop()
            raise ConfigurationError("; ".join(wrong))

    def _isolated(self, config: SubscriberConfig) -> IsolatedSubscriber | None:
        if self._fork_server is None or not is_isolated(config):
            return None
        job = Job(self._cluster.named("delivery"), config, self._topic, self._drain_seconds, self._dead_letter_configs)
        return IsolatedSubscriber(job, self._fork_server, self._changed)

    async def ready(self, timeout_seconds: float = 30.0) -> None:
        """Wait until every subscriber is running, failed or stopped. Raises TimeoutError."""
        async with asyncio.timeout(timeout_seconds):
            for one in self._supervisors:
                await one.lifecycle.settled()

    async def watch(self) -> None:
        """Does not return. Raises DeliveryFailedError if the supervisor of a subscriber fails."""
        try:
            await self._tasks.watch()
        except Exception as error:
            raise DeliveryFailedError(f"Delivery stopped: {type(error).__name__}: {error}") from error

    def failing(self) -> dict[str, str]:
        """The errors of failed and stopped subscribers, by id: the import or `open` raised, or the policy stopped it. Secrets are
        masked; truncated to PROBLEM_MAX characters."""
        return {
            one.config.id: masked(problem)[:PROBLEM_MAX]
            for one in self._supervisors
            if (problem := one.lifecycle.problem) is not None
        }

    def _changed(self) -> None:
        self._on_change()
        failing = self.failing()
        if failing != self._reported:
            self._reported = failing
            self._on_failing(failing)

    def status(self) -> list[SubscriberStatus]:
        """One entry per subscriber, in the order of the configuration."""
        return [one.status() for one in self._supervisors]

    def metrics(self) -> list[MetricsSnapshot]:
        """The metrics of subscribers in processes of their own, as last reported; those of the others are in `registry`."""
        return [snapshot for one in self._supervisors if isinstance(one, IsolatedSubscriber) for snapshot in one.metrics()]

    async def stop(self) -> None:
        """Let running handlers end, commit, leave the groups, close the subscribers."""
        await self._tasks.cancel(again_seconds=4 * self._drain_seconds + STOP_SECONDS)  # a client may ignore the first
        for one in self._supervisors:
            if one.checked.done() and not one.checked.cancelled():
                one.checked.exception()
        if self._dead_letters is not None:
            await self._dead_letters.close()
        if self._fork_server is not None:
            self._fork_server.close()
