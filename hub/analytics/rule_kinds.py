"""The kinds of rules, as declarations that check themselves: threshold, absence, sequence, slo; and their actions.

Durations are numbers of seconds or text such as "5m". A declaration that is invalid raises ValueError, which names the field.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from schemas.events.alert import Severity
from subscribers import parse_duration

from .matching import Match, value_of

Duration = float | str
Share = Annotated[float, Meta(ge=0, le=1)]
NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
ACTIONS_MAX = 5
WINDOW_SECONDS_MAX = 31 * 86_400.0
Measure = Literal["count", "rate", "ratio", "mean", "p50", "p95", "p99", "max"]
DURATIONS = ("mean", "p50", "p95", "p99", "max")
"""Measures of a duration."""


def seconds(value: Duration, field: str, *, least: float = 0.001) -> float:
    """A duration of a rule in seconds. Raises ValueError, which names the field."""
    found = float(_in_field(field, parse_duration, value))
    if not least <= found <= WINDOW_SECONDS_MAX:
        raise ValueError(f"{field}: must be between {least:g} s and {WINDOW_SECONDS_MAX / 86_400:g} days")
    return found


def _window(value: Duration, field: str) -> float:
    return seconds(value, field, least=1.0)


def _in_field(field: str, function: Any, value: Any) -> Any:
    try:
        return function(value)
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from None


class NotifyOnly(Struct, frozen=True, forbid_unknown_fields=True, tag_field="do", tag="notify"):
    """Only the events alert.fired and alert.resolved, which alert targets receive."""


class CancelTasks(Struct, frozen=True, forbid_unknown_fields=True, tag_field="do", tag="cancel"):
    """Cancel the tasks that caused the alert, at most 10."""

    reason: str = ""


class RunTask(Struct, frozen=True, forbid_unknown_fields=True, tag_field="do", tag="run"):
    """Submit a task. Its arguments are `args` and `alert`: rule, key, value, and ids of the causing tasks."""

    task: Annotated[str, Meta(min_length=1, max_length=255)]
    args: dict[str, Any] = {}
    queue: str | None = None
    namespace: str = "default"


Action = NotifyOnly | CancelTasks | RunTask


class BaseRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """What all rules have in common.

    `for_each`: fields of events; each combination of their values is an alert of its own. `group_from`: if the condition holds
    for this number of keys, one alert with the key `*` fires instead (0: never). `throttle`: least time between two firings of
    one key. `inhibited_by`: rules; while one of their alerts fires, with equal values of the fields in `inhibit_equal`, no
    alert of this rule fires. `max_event_age`: an alert fires only if its newest cause is younger: what is read late does not
    alert. `summary`: the text of the alert, with {value}, {threshold}, {key}, {window}, {rule}."""

    name: str
    match: Match = Match()
    for_each: list[str] = []
    severity: Severity = "error"
    summary: Annotated[str, Meta(max_length=500)] = ""
    labels: dict[str, str] = {}
    actions: list[Action] = []
    group_from: Annotated[int, Meta(ge=0)] = 0
    throttle: Duration = 0.0
    inhibited_by: list[str] = []
    inhibit_equal: list[str] = []
    max_event_age: Duration = "15m"
    enabled: bool = True

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError("name: must consist of at most 100 letters, digits, '.', '_' and '-'")
        for field in ("for_each", "inhibit_equal"):
            for name in getattr(self, field):
                _in_field(field, value_of, name)
        if unknown := set(self.inhibit_equal) - set(self.for_each):
            raise ValueError(f"inhibit_equal: {min(unknown)} is not in for_each")
        if len(self.actions) > ACTIONS_MAX:
            raise ValueError(f"actions: at most {ACTIONS_MAX} are allowed")
        _in_field("summary", self.text, _EXAMPLE)
        seconds(self.throttle, "throttle", least=0.0)
        seconds(self.max_event_age, "max_event_age")

    def text(self, values: Mapping[str, Any]) -> str:
        """`summary` with these values. Raises ValueError if it names another one."""
        try:
            return self.summary.format_map(values)
        except (KeyError, IndexError, AttributeError, TypeError) as error:
            raise ValueError(f"{error} is not a value; the values are {', '.join(_EXAMPLE)}") from None


_EXAMPLE = {"value": 1.5, "threshold": 1.0, "key": "charge", "window": 300.0, "rule": "charge-fails"}


class Threshold(BaseRule, frozen=True, tag="threshold"):
    """Fires while a measure of the events in a window is at least `at_least`, or below `below` (one of the two).

    `measure`: count; rate (per second); ratio (share of the events that match `part`, too); mean, p50, p95, p99, max of the
    duration `of` in seconds. `events_min`: fewer events do not fire. `resolve_at`: it then resolves only when the measure is
    below (above) this value, so that an alert near its threshold does not fire repeatedly."""

    window: Duration
    measure: Measure = "count"
    of: Literal["run", "wait", "total"] = "run"
    part: Match | None = None
    at_least: float | None = None
    below: float | None = None
    resolve_at: float | None = None
    events_min: Annotated[int, Meta(ge=0)] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _window(self.window, "window")
        if (self.at_least is None) == (self.below is None):
            raise ValueError("at_least: exactly one of at_least and below is required")
        if (self.measure == "ratio") != (self.part is not None):
            raise ValueError("part: is required for the measure ratio, and not allowed for others")
        if self.resolve_at is not None and (self.resolve_at - self.limit) * (1 if self.at_least is None else -1) < 0:
            raise ValueError("resolve_at: must be on the other side of the threshold")

    @property
    def limit(self) -> float:
        """The threshold."""
        return self.at_least if self.at_least is not None else self.below or 0.0


class Absence(BaseRule, frozen=True, tag="absence"):
    """Fires while no event has matched for `window`.

    With `for_each`: for each key that occurred before (at most four windows ago), and for each of `keys`, from the start on."""

    window: Duration
    keys: list[str] = []

    def __post_init__(self) -> None:
        super().__post_init__()
        _window(self.window, "window")
        if self.keys and not self.for_each:
            raise ValueError("keys: requires for_each")


class Succession(BaseRule, frozen=True, tag="sequence"):
    """Fires while at least `at_least` pairs were found in `window`: an event that matches `match`, and within the time `within`
    one of the same `by` that matches `then`; with `missing` none.

    The key is that of the first event."""

    then: Match
    within: Duration
    window: Duration = "5m"
    by: Literal["subject", "root", "correlation"] = "subject"
    missing: bool = False
    at_least: Annotated[int, Meta(ge=1)] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        _window(self.window, "window")
        _window(self.within, "within")


class BurnRate(Struct, frozen=True, forbid_unknown_fields=True):
    """One pair of windows: the error budget is consumed `factor` times too fast in both of them."""

    long: Duration
    short: Duration
    factor: Annotated[float, Meta(gt=0)]

    def __post_init__(self) -> None:
        if _window(self.long, "long") <= _window(self.short, "short"):
            raise ValueError("short: must be shorter than long")


class ServiceLevel(BaseRule, frozen=True, tag="slo"):
    """Fires while the error budget of an objective is consumed too fast: in both windows of one of `burns`.

    The share of events (`match`) that are also `bad` may be 1 - `objective`. The windows are those of the Site Reliability
    Workbook, chapter 5 (multi-window, multi-burn-rate)."""

    objective: Annotated[float, Meta(gt=0, lt=1)]
    bad: Match
    burns: list[BurnRate] = msgspec.field(default_factory=lambda: [BurnRate("1h", "5m", 14.4), BurnRate("6h", "30m", 6.0)])
    events_min: Annotated[int, Meta(ge=0)] = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.burns:
            raise ValueError("burns: at least one is required")


Rule = Threshold | Absence | Succession | ServiceLevel
