"""Operations on subscribers: lag, pauses, resets, replays, dead letters, trials; their durable state. See README.md."""

from .groups import (
    KnownSubscriber,
    OffsetMove,
    PartitionLag,
    SubscriberConnected,
    apply_reset,
    describe_subscribers,
    known_ids,
    plan_reset,
)
from .instance import DestinationUnavailable, FailedItems, LoggedRecord, opened
from .letters import Choice, LetterBox, StoredLetter, drop_letters
from .pausing import pause, read_pauses, resume
from .replay import ReplayProgress, ReplayRange, count_matching, replay, replay_to_dead_letters
from .retrying import Retried, once, retry_letters
from .routing import AppliedRule, describe_handler, explain, text_of
from .state import StateInMemory

__all__ = [
    "AppliedRule",
    "Choice",
    "DestinationUnavailable",
    "FailedItems",
    "KnownSubscriber",
    "LetterBox",
    "LoggedRecord",
    "OffsetMove",
    "PartitionLag",
    "ReplayProgress",
    "ReplayRange",
    "Retried",
    "StateInMemory",
    "StoredLetter",
    "SubscriberConnected",
    "apply_reset",
    "count_matching",
    "describe_handler",
    "describe_subscribers",
    "drop_letters",
    "explain",
    "known_ids",
    "once",
    "opened",
    "pause",
    "plan_reset",
    "read_pauses",
    "replay",
    "replay_to_dead_letters",
    "resume",
    "retry_letters",
    "text_of",
]
