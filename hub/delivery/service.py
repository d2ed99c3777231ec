"""The delivery service: all configured subscribers of one process, each on its own."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from ..errors import ConfigurationError, HubError
from ..kafka import Cluster
from ..service import ServiceTasks
from ..telemetry import masked
from .clients import NO_CONFIGS, Clients
from .config import SubscriberConfig, check_unique
from .dead_letters import DeadLetters
from .status import SubscriberStatus
from .supervisor import SubscriberSupervisor

EVENTS_TOPIC = "hub.events"
CHECK_SECONDS = 10.0
STOP_SECONDS = 15.0
PROBLEM_MAX = 500


class DeliveryFailedError(HubError):
    """Delivery cannot continue; the cause says why. What a subscriber's own code does never leads to it."""


class DeliveryService:
    """Runs subscribers against the brokers of `cluster`; any number of processes may run the same ones and share the work.

    `drain_seconds`: how long a handler that runs may continue when its partition leaves (a rebalance, the end).
    `dead_letter_configs`: topic settings of the dead-letter topics, for new ones and those that exist.
    `on_failing` is called with what `failing` gives whenever that changes.
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
    ) -> None:
        check_unique(list(subscribers))
        self._configs = list(subscribers)
        self._cluster = cluster.named("delivery")
        self._topic, self._drain_seconds = topic, drain_seconds
        self._dead_letter_configs = dead_letter_configs
        self._on_failing = on_failing
        self._reported: dict[str, str] = {}
        self._supervisors: list[SubscriberSupervisor] = []
        self._tasks = ServiceTasks("delivery")
        self._dead_letters: DeadLetters | None = None

    async def start(self) -> None:
        """Check every configuration, then let the subscribers run.

        Raises ConfigurationError (after stopping what had begun) for a plugin that does not exist and for settings that are
        wrong. A plugin whose import or `open` raises, or hangs, is tried again later and does not keep the others.
        """
        clients = Clients(self._cluster, self._dead_letter_configs)
        self._dead_letters = DeadLetters(clients, self._topic)
        for config in self._configs:
            one = SubscriberSupervisor(config, clients, self._dead_letters, self._topic, self._drain_seconds, self._changed)
            self._supervisors.append(one)
            self._tasks.start(one.run(), f"subscriber {config.id}")
        checks = [one.checked for one in self._supervisors]
        if checks:
            await asyncio.wait(checks, timeout=CHECK_SECONDS)
        known = [one for one in checks if one.done() and not one.cancelled()]
        wrong = [str(error) for one in known if (error := one.exception()) is not None]
        if wrong:
            await self.stop()
            raise ConfigurationError("; ".join(wrong))

    async def ready(self, timeout_seconds: float = 30.0) -> None:
        """Until every subscriber runs, has failed or is stopped. Raises TimeoutError."""
        async with asyncio.timeout(timeout_seconds):
            for one in self._supervisors:
                await one.lifecycle.settled()

    async def watch(self) -> None:
        """Does not return; raises DeliveryFailedError where what keeps a subscriber alive has itself failed."""
        try:
            await self._tasks.watch()
        except Exception as error:
            raise DeliveryFailedError(f"Delivery stopped: {type(error).__name__}: {error}") from error

    def failing(self) -> dict[str, str]:
        """Why, by id, of each subscriber that does not run: its import or `open` raised, or its policy stopped it. Without
        secrets, and cut after PROBLEM_MAX characters."""
        return {
            one.config.id: masked(problem)[:PROBLEM_MAX]
            for one in self._supervisors
            if (problem := one.lifecycle.problem) is not None
        }

    def _changed(self) -> None:
        failing = self.failing()
        if failing != self._reported:
            self._reported = failing
            self._on_failing(failing)

    def status(self) -> list[SubscriberStatus]:
        """One entry per subscriber, in the order of the configuration."""
        return [one.status() for one in self._supervisors]

    async def stop(self) -> None:
        """Let running handlers end, commit, leave the groups, close the subscribers."""
        await self._tasks.cancel(again_seconds=4 * self._drain_seconds + STOP_SECONDS)  # a client may swallow the first
        for one in self._supervisors:
            if one.checked.done() and not one.checked.cancelled():
                one.checked.exception()
        if self._dead_letters is not None:
            await self._dead_letters.close()
