"""Rules for single events of a task, given its state before the event. A rule is a function that returns a sentence, or None.

To add a rule, write the function and decorate it with the id of the invariant, the event types (none: all types) and what must
have been seen of the task (default: its creation). If the beginning of the log was removed, tasks whose creation was not seen
are checked only with rules that need less.
"""

from collections.abc import Callable, Collection
from typing import Literal, NamedTuple

from schemas import CATALOGUE, TERMINAL_TYPES

from .facts import Fact, time_ms
from .fold import Fold, LiveTask
from .tables import ENDS_OF_ATTEMPT, FAILED_BY, STARTS, STATE_AFTER, STATES_BEFORE

Check = Callable[[Fact, LiveTask, Fold], str | None]

Needs = Literal["creation", "dispatch", "state", "event"]
"""What a rule needs to have seen of the task: its creation; a dispatch; an event with its state; any event."""

CLOCK_TOLERANCE_MS = 1
"""Times on the log may be rounded to a millisecond."""


OF_ATTEMPTS = ("task.started", "attempt.started", "attempt.granted", "task.progressed", "task.completed")
"""Events caused by the holder of a lease, in addition to the ends of attempts."""


class Rule(NamedTuple):
    """A check, its invariant, its event types (None: all), and what it needs to have seen."""

    invariant: str
    types: frozenset[str] | None
    check: Check
    needs: Needs = "creation"

    def applies_to(self, task: LiveTask) -> bool:
        """Whether enough of the task was seen to apply the rule."""
        if not task.partial or self.needs == "event":
            return True
        return task.dispatch > 0 if self.needs == "dispatch" else self.needs == "state" and task.shown is not None


RULES: list[Rule] = []


def rule(invariant: str, *types: str, needs: Needs = "creation") -> Callable[[Check], Check]:
    """Register a rule for the id `invariant` and events of `types`."""

    def register(check: Check) -> Check:
        RULES.append(Rule(invariant, frozenset(types) or None, check, needs))
        return check

    return register


def rules_of(event_type: str) -> tuple[Rule, ...]:
    """The rules for `event_type`, in the order of this module."""
    return tuple(rule for rule in RULES if rule.types is None or event_type in rule.types)


@rule("I3", needs="event")
def sequence_goes_on(fact: Fact, task: LiveTask, fold: Fold) -> str | None:
    if fact.sequence != task.sequence + 1:
        return f"sequence {fact.sequence} follows {task.sequence}"
    return None


@rule("I3", needs="event")
def one_partition(fact: Fact, task: LiveTask, fold: Fold) -> str | None:
    if fact.partition != task.partition:
        return f"the task belongs to partition {task.partition}"
    return None


@rule("I22", needs="event")
def one_root(fact: Fact, task: LiveTask, fold: Fold) -> str | None:
    if fact.root != task.root:
        return f"the root changed from {task.root} to {fact.root}"
    return None


@rule("T1", *STATES_BEFORE, needs="state")
def allowed_in_state(fact: Fact, task: LiveTask, fold: Fold) -> str | None:
    if task.state not in STATES_BEFORE[fact.type]:
        return f"{fact.type} in state {task.state or 'created'!r}"
    return None


@rule("T1", *(set(CATALOGUE) - {"task.created"}), needs="state")
def names_both_states(fact: Fact, task: LiveTask, fold: Fold) -> str | None:
    after = STATE_AFTER.get(fact.type)
    if after is not None and fact.to_state != after:
        return f"{fact.type} has to-state {fact.to_state!r}, expected {after!r}"
    before = task.shown or task.state or None
    if (fact.to_state is not None or fact.from_state is not None) and fact.from_state != before:
        return f"{fact.type} has from-state {fact.from_state!r}, expected {before!r}"
    return None


@rule("I35", *STARTS, "task.ready", "task.retry_scheduled", needs="event")
def nothing_starts_after_a_cancel(fact: Fact, task: LiveTask, fold: Fold) -> str | None:
    if task.cancel_requested and fact.type in ("task.dispatched", "task.ready", "task.retry_scheduled"):
        return f"{fact.type} after the task was requested to cancel"
    root = fold.ended.get(task.root) if task.root != task.id and fact.type in STARTS else None
    if root is not None and task.root not in fold.live:
        return f"{fact.type} after its root {task.root} was {root.state}"
    return None


@rule("I11", "task.dispatched", "task.started", "attempt.started")
def dependencies_before_dispatch(fact: Fact, task: LiveTask, fold: Fold) -> str | None:
    if task.waits:
        return f"{fact.type} while {_some(task.waits)} had not ended"
    if task.broken:
        return f"{fact.type} although the end of {_some(task.broken)} did not satisfy its dependency"
    return None


@rule("I12", "task.ready")
def ready_when_met(fact: Fact, task: LiveTask, fold: Fold) -> str | None:
    if task.waits:
        return f"ready with {len(task.waits)} unmet dependencies ({_some(task.waits)})"
    if task.broken:
        return f"ready although the end of {_some(task.broken)} did not satisfy its dependency"
    return None


@rule("I12", "task.blocked", "task.dependency_satisfied")
def counts_its_dependencies(fact: Fact, task: LiveTask, fold: Fold) -> str | None:
    if not task.unsure and not task.broken and fact.data.unmet != len(task.waits):
        return f"reports {fact.data.unmet} unmet dependencies, expected {len(task.waits)}"
    return None


@rule("I12", "task.skipped", "task.failed")
def never_runs_for_a_reason(fact: Fact, task: LiveTask, fold: Fold) -> str | None:
    """The first unsatisfied dependency decides whether the dependent task fails or is skipped."""
    if fact.type == "task.failed" and fact.data.kind != "dependency_failed":
        return None
    if not task.broken:
        return None if task.unsure else f"{fact.type} although no dependency was unsatisfied"
    dependency, (on, state) = next(iter(task.broken.items()))
    wanted = "task.failed" if state in FAILED_BY.get(on, ()) else "task.skipped"
    if fact.type != wanted:
        return f"{fact.type} instead of {wanted} after {dependency} was {state}; its condition is {on}"
    return None


@rule("I13", "task.dispatched", needs="dispatch")
def one_lease(fact: Fact, task: LiveTask, fold: Fold) -> str | None:
    lease = task.lease
    if lease is not None:
        return f"dispatched to {fact.data.worker} while {lease.worker} holds attempt {lease.attempt}, dispatch {lease.dispatch}"
    return None


@rule("I14", "task.ready", "task.retry_scheduled", needs="dispatch")
def after_the_attempt(fact: Fact, task: LiveTask, fold: Fold) -> str | None:
    if task.lease is not None:
        return f"{fact.type} while attempt {task.lease.attempt} of {task.lease.worker} has not ended"
    return None


@rule("I14", "task.dispatched", needs="dispatch")
def attempts_are_numbered(fact: Fact, task: LiveTask, fold: Fold) -> str | None:
    attempt = fact.data.attempt
    if task.attempt == 0:
        wanted: tuple[int, ...] = (1,)
    elif task.last_end == "failed":
        wanted = (task.attempt + 1,)
    elif task.last_end == "lost":
        wanted = (task.attempt, task.attempt + 1)
    else:
        wanted = (task.attempt,)
    if attempt not in wanted:
        return f"attempt {attempt} follows attempt {task.attempt} ({task.last_end})"
    if (attempt, fact.data.dispatch) <= (task.attempt, task.dispatch):
        return (
            f"attempt {attempt}, dispatch {fact.data.dispatch} does not follow attempt {task.attempt}, dispatch {task.dispatch}"
        )
    return None


@rule(
    "I16",
    "task.started",
    "attempt.started",
    "attempt.granted",
    "task.progressed",
    "task.completed",
    *ENDS_OF_ATTEMPT,
    needs="dispatch",
)
def only_the_holder(fact: Fact, task: LiveTask, fold: Fold) -> str | None:
    lease, data = task.lease, fact.data
    if lease is None:
        return f"{fact.type} without a lease"
    if data.attempt != lease.attempt:
        return f"{fact.type} of attempt {data.attempt}; the current attempt is {lease.attempt}"
    if getattr(data, "dispatch", 0) and data.dispatch != lease.dispatch:
        return f"{fact.type} of dispatch {data.dispatch}; the current dispatch is {lease.dispatch}"
    worker = getattr(data, "worker", None)
    if worker is not None and worker != lease.worker:
        return f"{fact.type} by {worker}; the lease holder is {lease.worker}"
    token = getattr(data, "token", None)
    if token is not None and token != lease.token:
        return f"{fact.type} with a token that is not the lease's"
    return None


@rule(
    "I16",
    "task.started",
    "attempt.started",
    "attempt.granted",
    "task.progressed",
    "task.completed",
    "attempt.failed",
    needs="dispatch",
)
def reports_once(fact: Fact, task: LiveTask, fold: Fold) -> str | None:
    lease, number = task.lease, fact.data.number
    if lease is None or not number or not lease.number or fact.input_offset < 0:
        return None
    if number < lease.number or (number == lease.number and fact.input_offset != lease.number_input):
        return f"{fact.type} from report {number}, accepted after report {lease.number}"
    return None


@rule("I18", "task.dispatched", needs="dispatch")
def policy_is_that_of_the_submission(fact: Fact, task: LiveTask, fold: Fold) -> str | None:
    """What the submission gives holds; what the definition adds to it is fixed at the creation, or at the first dispatch."""
    policy = fact.data.policy
    parts = sorted(task.given) if task.unresolved else ("retry", "timeout_seconds", "delivery")
    for part in parts:
        said, held = getattr(policy, part), getattr(task.policy, part)
        if said != held:
            since = "by the submission" if task.unresolved else "at the first dispatch" if task.dispatch else "at its creation"
            return f"{part} of the policy is {said}, expected {held} from {since}"
    return None


@rule("I18", "task.dispatched", needs="dispatch")
def version_is_fixed_once(fact: Fact, task: LiveTask, fold: Fold) -> str | None:
    if fact.data.version is not None and not task.unresolved:
        return f"names version {fact.data.version}; it was fixed before as {task.version}"
    return None


@rule("I18", *TERMINAL_TYPES, needs="dispatch")
def names_its_attempts(fact: Fact, task: LiveTask, fold: Fold) -> str | None:
    if fact.data.max_attempts != task.policy.max_attempts:
        return f"has max_attempts {fact.data.max_attempts}, expected {task.policy.max_attempts} from its policy"
    return None


@rule("I18", "task.dispatched", needs="dispatch")
def attempts_are_limited(fact: Fact, task: LiveTask, fold: Fold) -> str | None:
    if task.errors and task.errors >= task.policy.max_attempts:
        return f"dispatched after {task.errors} failed attempts; max_attempts is {task.policy.max_attempts}"
    if task.lost > task.policy.retry.max_lost:
        return f"dispatched after {task.lost} lost attempts; max_lost is {task.policy.retry.max_lost}"
    return None


@rule("I18", "task.dispatched", "task.ready", "task.retry_scheduled")
def at_most_once_is_not_repeated(fact: Fact, task: LiveTask, fold: Fold) -> str | None:
    if task.at_most_once and task.last_end in ("failed", "lost") and task.last_end_started:
        return f"{fact.type} after the only attempt of an at-most-once task"
    return None


@rule("I18", "task.retry_scheduled")
def retry_is_allowed_and_later(fact: Fact, task: LiveTask, fold: Fold) -> str | None:
    if task.last_end not in ("failed", "lost"):
        return "retry without a failed attempt"
    if task.errors >= task.policy.max_attempts:
        return f"retry after {task.errors} failed attempts; max_attempts is {task.policy.max_attempts}"
    if task.lost > task.policy.retry.max_lost:
        return f"retry after {task.lost} lost attempts; max_lost is {task.policy.retry.max_lost}"
    if task.last_end_type == "attempt.timed_out" and not task.policy.retry.timeout:
        return "retry after a timeout, although the policy excludes it"
    if time_ms(fact.data.next_retry_at) + CLOCK_TOLERANCE_MS < fact.time_ms + int(fact.data.delay * 1000):
        return f"retry at {fact.data.next_retry_at}, which is less than {fact.data.delay} s from now"
    return None


@rule("I18", "task.ready")
def retry_waits(fact: Fact, task: LiveTask, fold: Fold) -> str | None:
    if fact.time_ms + CLOCK_TOLERANCE_MS < task.due_ms:
        return f"ready {task.due_ms - fact.time_ms} ms before its retry is due"
    if task.last_end == "failed" and task.state != "retrying":
        return "ready after a failed attempt without a scheduled retry"
    return None


@rule("I18", "task.failed")
def fails_only_when_its_policy_is_used_up(fact: Fact, task: LiveTask, fold: Fold) -> str | None:
    kind, retry = fact.data.kind, task.policy.retry
    attempts_left = task.errors < task.policy.max_attempts
    if kind == "exhausted" and attempts_left:
        return f"exhausted after {task.errors} failed attempts; max_attempts is {task.policy.max_attempts}"
    if kind == "timed_out" and _ended_by_timeout(task) and retry.timeout and attempts_left:
        return f"failed by timeout after {task.errors} failed attempts; max_attempts is {task.policy.max_attempts}"
    if kind == "lost" and not task.at_most_once and task.lost <= retry.max_lost:
        return f"failed as lost after {task.lost} lost attempts; max_lost is {retry.max_lost}"
    return None


@rule("I20", "task.ready", "task.dispatched", "task.started")
def not_before_its_time(fact: Fact, task: LiveTask, fold: Fold) -> str | None:
    if fact.time_ms + CLOCK_TOLERANCE_MS < task.earliest_ms:
        return f"{fact.type} {task.earliest_ms - fact.time_ms} ms before its start_after"
    return None


@rule("I20", "task.expired")
def not_expired_early(fact: Fact, task: LiveTask, fold: Fold) -> str | None:
    """`timeouts.start` counts from when the task first became ready; a released or superseded attempt does not restart it."""
    limits = [task.not_start_after_ms] if task.not_start_after_ms >= 0 else []
    if task.start_seconds is not None and task.first_ready_ms >= 0:
        limits.append(task.first_ready_ms + int(task.start_seconds * 1000))
    if not limits:
        return "expired without a start timeout or expiry time"
    if fact.time_ms + CLOCK_TOLERANCE_MS < min(limits):
        return f"expired {min(limits) - fact.time_ms} ms early"
    return None


@rule("I20", "task.expired")
def not_expired_after_its_start(fact: Fact, task: LiveTask, fold: Fold) -> str | None:
    return "expired although it had started" if task.started_once else None


@rule("I20", "attempt.timed_out")
def attempt_has_its_time(fact: Fact, task: LiveTask, fold: Fold) -> str | None:
    """Attempt timeouts by the engine only; the worker measures its own with another clock."""
    if fact.due_ms < 0:
        return None
    seconds = task.policy.timeout_seconds
    if seconds is None:
        return "attempt timed out although the policy has no timeout"
    due_ms = task.started_ms + int(seconds * 1000)
    if fact.time_ms + CLOCK_TOLERANCE_MS < due_ms:
        return f"timed out {due_ms - fact.time_ms} ms early"
    return None


@rule("I20", "task.failed")
def task_has_its_time(fact: Fact, task: LiveTask, fold: Fold) -> str | None:
    """A task that is `timed_out` although its last attempt did not time out exceeded its total timeout."""
    if fact.data.kind != "timed_out" or _ended_by_timeout(task):
        return None
    if task.total_seconds is None:
        return "timed out without a timed-out attempt and without a total timeout"
    due_ms = task.created_ms + int(task.total_seconds * 1000)
    if fact.time_ms + CLOCK_TOLERANCE_MS < due_ms:
        return f"timed out {due_ms - fact.time_ms} ms before its total timeout"
    return None


@rule("I8", *TERMINAL_TYPES)
def steps_end_before_their_root(fact: Fact, task: LiveTask, fold: Fold) -> str | None:
    graph = fold.graphs.get(task.id)
    if graph is None:
        return None
    if graph.live:
        return f"{fact.type} while {graph.live} of its steps are live"
    for state in ("completed", "failed", "cancelled", "skipped", "expired"):
        named = getattr(fact.data, state, None)
        if named is not None and (
            named < graph.ended[state] or (state in ("completed", "failed") and named != graph.ended[state])
        ):
            return f"reports {named} {state} steps, expected {graph.ended[state]}"
    return None


def _ended_by_timeout(task: LiveTask) -> bool:
    """Whether the last attempt timed out, which explains the end of the task."""
    return task.state == "running" and task.lease is None and task.last_end_type == "attempt.timed_out"


def _some(ids: Collection[str]) -> str:
    named = ", ".join(list(ids)[:3])
    return named if len(ids) <= 3 else f"{named} and {len(ids) - 3} more"
