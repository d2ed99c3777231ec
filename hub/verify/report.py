"""The result of a check: findings with their location, and counts, as plain values."""

from collections import Counter
from typing import Any, NamedTuple

from msgspec import Struct

from .invariants import INVARIANTS, sentence_of

FINDINGS_PER_INVARIANT_MAX = 100


class Finding(NamedTuple):
    """One violation of an invariant: its id, a sentence, and the location.

    `partition` and `offset` refer to `hub.events` unless the sentence names another topic; `subject`: a task, an entity or a
    subscriber.
    """

    invariant: str
    message: str
    partition: int | None = None
    offset: int | None = None
    subject: str | None = None

    def __str__(self) -> str:
        offset = "" if self.offset is None else f" offset {self.offset}"
        place = "" if self.partition is None else f" [partition {self.partition}{offset}]"
        subject = "" if self.subject is None else f" {self.subject}:"
        return f"{self.invariant}{place}{subject} {self.message}"


class Prefix(NamedTuple):
    """The part of a partition of `hub.events` that was read: start offset, end offset, and a digest of the records (I9)."""

    start: int
    end: int
    digest: str


class Findings:
    """Collects findings: counts all, keeps the first `per_invariant_max` of each invariant."""

    def __init__(self, per_invariant_max: int = FINDINGS_PER_INVARIANT_MAX) -> None:
        self.kept: list[Finding] = []
        self.counts: Counter[str] = Counter()
        self._max = per_invariant_max

    def add(
        self, invariant: str, message: str, *, partition: int | None = None, offset: int | None = None, subject: str | None = None
    ) -> None:
        """Add a finding."""
        self.counts[invariant] += 1
        if self.counts[invariant] <= self._max:
            self.kept.append(Finding(invariant, message, partition, offset, subject))


class VerificationReport(Struct, kw_only=True):
    """The result of a check. `counts` has the number of findings per invariant, `findings` the first hundred of each.

    `checked` and `skipped` are ids of invariants; a skipped one lacked an input (for example, a subscriber journal). `exact`:
    nothing was committed while the topics were read, so all comparisons were strict; otherwise `newer` rows and commands,
    which are newer than the events, were not compared.

    `starts`: log start offsets of partitions whose beginning was removed (retention, DeleteRecords), by topic. Because of
    that, `partial_tasks` tasks were checked only partly, and `partial_records` dispatches, commands and replies could not be
    compared with their counterparts.
    """

    events: int
    tasks: int
    live_tasks: int
    ended_tasks: int
    commands: int
    state_rows: int
    intake_records: int
    replies: int
    partitions: int
    seconds: float
    exact: bool
    newer: int
    findings: list[Finding]
    counts: dict[str, int]
    checked: list[str]
    skipped: list[str]
    prefixes: dict[int, Prefix]
    starts: dict[str, dict[int, int]]
    partial_tasks: int
    partial_records: int

    @property
    def ok(self) -> bool:
        """Whether there are no findings."""
        return not self.counts

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON types."""
        fields: dict[str, Any] = {"ok": self.ok}
        for name in self.__struct_fields__:
            fields[name] = getattr(self, name)
        fields["findings"] = [{**finding._asdict(), "sentence": sentence_of(finding.invariant)} for finding in self.findings]
        fields["sentences"] = {name: row.sentence for name, row in INVARIANTS.items()}
        fields["starts"] = {topic: {str(number): at for number, at in by.items()} for topic, by in self.starts.items()}
        fields["prefixes"] = {str(partition): prefix._asdict() for partition, prefix in self.prefixes.items()}
        return fields

    def render(self, *, findings_max: int = 40) -> str:
        """The report as text, with at most `findings_max` findings."""
        rate = self.events / self.seconds if self.seconds > 0 else 0.0
        partitions = "partition" if self.partitions == 1 else "partitions"
        lines = [
            f"{self.events:,} events of {self.tasks:,} tasks ({self.live_tasks:,} live) on {self.partitions} {partitions}",
            f"{self.commands:,} commands, {self.state_rows:,} state rows, {self.intake_records:,} intake records",
            f"{self.seconds:.2f} s ({rate:,.0f} events/s)",
            *("checked:", *map(_explained, self.checked)),
        ]
        if self.skipped:
            lines += ["not checked (input missing):", *map(_explained, self.skipped)]
        if not self.exact:
            lines.append(f"the hub was busy: {self.newer} rows and commands newer than the last event were not compared")
        if self.starts:
            lines.append(f"removed beginnings (retention or deletion): {', '.join(sorted(self.starts))}")
            lines.append(f"  {self.partial_tasks:,} tasks and {self.partial_records:,} records were checked only partly")
        if self.ok:
            return "\n".join([*lines, "no findings"])
        lines.append(f"{sum(self.counts.values()):,} findings:")
        lines += [f"  {name}: {count:,} {sentence_of(name)}" for name, count in self.counts.items()]
        lines += [str(finding) for finding in self.findings[:findings_max]]
        hidden = sum(self.counts.values()) - min(findings_max, len(self.findings))
        if hidden > 0:
            lines.append(f"… and {hidden:,} more")
        return "\n".join(lines)


def _explained(invariant: str) -> str:
    return f"  {invariant:<4}{sentence_of(invariant)}"
