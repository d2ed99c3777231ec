"""When the next attempt is due: a pure function of the policy, how often it went wrong, and the task's id (for jitter)."""

from zlib import crc32

from schemas import Backoff, RetryPolicy

from .limits import SECONDS_MAX

DEFAULT_RETRY = RetryPolicy()

#: A vanished worker is no fault of the task: it runs again at once this often, then with the policy's back-off.
LOST_AT_ONCE = 5


def problem_of(policy: RetryPolicy) -> str | None:
    """Why a policy cannot be, naming its field; None when it can."""
    if not 1 <= policy.max_attempts <= 1_000_000:
        return "max_attempts: must be at least 1"
    if policy.max_lost < 0:
        return "max_lost: must not be negative"
    if not 0 <= policy.jitter <= 1:
        return "jitter: must lie between 0 and 1"
    backoff = policy.backoff
    delays = backoff if isinstance(backoff, list) else [backoff.initial, backoff.max, backoff.multiplier]
    if not all(0 <= delay <= SECONDS_MAX for delay in delays):
        return f"backoff: numbers must lie between 0 and {SECONDS_MAX:.0f}"
    return None


def policy_of(submitted: RetryPolicy | None, registered: RetryPolicy | None) -> RetryPolicy:
    """The policy that holds: the submission's, else the one its handler was registered with, else the default."""
    if submitted is not None:
        return submitted
    return registered if registered is not None and problem_of(registered) is None else DEFAULT_RETRY


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
