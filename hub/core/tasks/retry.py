"""When the next attempt is due: a pure function of the policy, how often it went wrong, and the task's id (for jitter)."""

from zlib import crc32

from schemas import Backoff, RetryPolicy, TaskOptions

from ..bounds import SECONDS_MAX

#: A vanished worker is not a fault of the task: it runs again at once this often, then with the policy's backoff.
LOST_AT_ONCE = 5


#: Attempts, and attempts whose worker vanished, that a policy may allow; delays that it may list.
ATTEMPTS_MAX = 1_000_000


DELAYS_MAX = 1_000


def problem_of(policy: RetryPolicy) -> str | None:
    """Why a policy cannot be, naming its field; None when it can."""
    for field, least in (("max_attempts", 1), ("max_lost", 0)):
        if not least <= getattr(policy, field) <= ATTEMPTS_MAX:
            return f"{field}: must be between {least} and {ATTEMPTS_MAX}"
    if not 0 <= policy.jitter <= 1:
        return "jitter: must be between 0 and 1"
    backoff = policy.backoff
    if isinstance(backoff, list) and len(backoff) > DELAYS_MAX:
        return f"backoff: must not have more than {DELAYS_MAX} delays"
    delays = backoff if isinstance(backoff, list) else [backoff.initial, backoff.max, backoff.multiplier]
    if not all(0 <= delay <= SECONDS_MAX for delay in delays):
        return f"backoff: numbers must be between 0 and {SECONDS_MAX:.0f}"
    return None


def problem_of_options(options: TaskOptions) -> str | None:
    """Why the options of a registration cannot be, naming the field; None when they can."""
    if options.timeout_seconds is not None and not 0 < options.timeout_seconds <= SECONDS_MAX:
        return f"timeout_seconds: must be above 0 and at most {SECONDS_MAX:.0f}"
    if options.retry is not None and (problem := problem_of(options.retry)) is not None:
        return f"retry.{problem}"
    return None


def delay_seconds(policy: RetryPolicy, failures: int, *, task: str, attempt: int) -> float:
    """Seconds before the attempt that follows `failures` (from 1) errors and timeouts.

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
