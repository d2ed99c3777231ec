"""The delay of the next attempt, a pure function of the policy, the number of failures, and the task id (for jitter)."""

from zlib import crc32

from schemas import Backoff, RetryPolicy, TaskOptions

from ..bounds import SECONDS_MAX

#: Losses of a worker after which a task is retried at once, because they are not caused by the task; further ones use the
#: backoff.
LOST_AT_ONCE = 5


#: Limits of a policy: attempts, lost attempts, and listed delays.
ATTEMPTS_MAX = 1_000_000


DELAYS_MAX = 1_000


def problem_of(policy: RetryPolicy) -> str | None:
    """Why a policy is invalid, with the field; None if it is valid."""
    for field, least in (("max_attempts", 1), ("max_lost", 0)):
        if not least <= getattr(policy, field) <= ATTEMPTS_MAX:
            return f"{field}: must be between {least} and {ATTEMPTS_MAX}"
    if not 0 <= policy.jitter <= 1:
        return "jitter: must be between 0 and 1"
    backoff = policy.backoff
    if isinstance(backoff, list) and len(backoff) > DELAYS_MAX:
        return f"backoff: must have at most {DELAYS_MAX} delays"
    delays = backoff if isinstance(backoff, list) else [backoff.initial, backoff.max, backoff.multiplier]
    if not all(0 <= delay <= SECONDS_MAX for delay in delays):
        return f"backoff: all numbers must be between 0 and {SECONDS_MAX:.0f}"
    return None


def problem_of_options(options: TaskOptions) -> str | None:
    """Why the options of a registration are invalid, with the field; None if they are valid."""
    if options.timeout_seconds is not None and not 0 < options.timeout_seconds <= SECONDS_MAX:
        return f"timeout_seconds: must be greater than 0 and at most {SECONDS_MAX:.0f}"
    if options.retry is not None and (problem := problem_of(options.retry)) is not None:
        return f"retry.{problem}"
    return None


def delay_seconds(policy: RetryPolicy, failures: int, *, task: str, attempt: int) -> float:
    """Seconds until the next attempt after `failures` (at least 1) errors and timeouts.

    Jitter is deterministic, derived from a checksum of task id and attempt: a replay gives the same delay, and tasks that
    failed together are spread out.
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
