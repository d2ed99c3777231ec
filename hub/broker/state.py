"""The state shared by all parts of the core: topics, pending journal block, clock, settings, and the advertised address."""

from .figures import BrokerFigures
from .pending import Pending
from .settings import BrokerSettings
from .storage import Storage
from .timing import Clock, TimerHeap
from .topics import Topics


class BrokerState:
    """The shared state. `record`, `append`, `append_all` and `when_stable` are methods of the pending block, `log` of the
    topics."""

    def __init__(self, storage: Storage, clock: Clock, settings: BrokerSettings, figures: BrokerFigures) -> None:
        self.storage = storage
        self.clock = clock
        self.settings = settings
        self.figures = figures
        self.timers = TimerHeap(clock)
        self.pending = Pending(clock, lambda key: self.topics.log_of(key))
        self.topics = Topics(storage, self.pending, partitions_max=settings.partitions_max)
        self.host, self.port = "127.0.0.1", 0
        self.record = self.pending.record
        self.append = self.pending.append
        self.append_all = self.pending.append_all
        self.when_stable = self.pending.when_stable
        self.log = self.topics.log
