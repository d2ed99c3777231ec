"""When the next attempt is due: a pure function of the policy, how often it went wrong, and the task's id (for jitter)."""

from zlib import crc32

from schemas import Backoff, RetryPolicy

DEFAULT_RETRY = RetryPolicy()

#: A vanished worker is no fault of the task: it runs again at once this often, then with the policy's back-off.
LOST_AT_ONCE = 5


def delay_seconds(policy: RetryPolicy, failures: int, *, task: str, attempt: int) -> float:
    """Seconds before the attempt that follows `failures` (from 1) errors and time-outs.

    Jitter is deterministic: the share is drawn from a checksum of task and attempt, so that a replay gives the same delay,
    and tasks that failed together spread out.
    """
    if isinstance(policy.backoff, Backoff):
        backoff = policy.backoff
        try:
            delay = min(backoff.initial * backoff.multiplier ** (failures - 1), backoff.max)
        except OverflowError:
            delay = backoff.max
    elif policy.backoff:
        delay = policy.backoff[min(failures, len(policy.backoff)) - 1]
    else:
        delay = 0.0
    share = crc32(f"{task}/{attempt}".encode()) / 0xFFFFFFFF
    return max(0.0, delay * (1 - policy.jitter + 2 * policy.jitter * share))
