"""What holds while a batch is decided, beside the state."""

from typing import NamedTuple


class Conditions(NamedTuple):
    """`events_offset`: the batch's events lie at or after this offset of `hub.events`. `retention_seconds`: how long the id of an
    ended task stays known. `waiting_max`: live tasks that a partition may hold. `inboxes`: partitions of each commands topic."""

    events_offset: int
    retention_seconds: float
    waiting_max: int
    inboxes: int
