"""The desk: decides which attempts run, wait or are released, and how many more the worker requests.

Pure and deterministic: takes commands and ends of attempts with the time in seconds, returns effects as values. It does no IO and
has no clock, no event loop and no lock. The caller executes the effects in order, reports after the others; see `desk.py`.
"""

from collections.abc import Sequence

from schemas import CancelAttempt, DefinitionsWanted, EngineAnnounced, ExecuteAttempt, GrantAttempt, WorkWanted

from .announcements import Announcements
from .attempts import Attempt
from .effects import (
    BeatSoon,
    BeginBody,
    Command,
    Effect,
    GiveUp,
    GrantBody,
    ImmediateEffect,
    ReportCancelled,
    ReportReleased,
    ReportStanding,
    Standing,
    StopBody,
)
from .fairness import SlotFairness
from .holdings import Holdings
from .recent import RecentTokens
from .registration import Registered, Registration

#: With several engine partitions, an attempt that got no slot within this time is released (seconds).
HOLD_SECONDS = 0.1

NOTHING_REGISTERED = Registration(0, ())


class Slots:
    """The attempts of one worker. An attempt is *waiting* or has a *slot*. It is *over* once its end is known; it keeps its slot
    until `ended` or `came_back`, and its lease until `settle`.

    Guarantees: at most `slots` attempts have a slot; each accepted command is begun once, released or cancelled, and a repeated
    one is ignored; waiting attempts begin in the order of arrival, except in a reserved slot.
    """

    def __init__(
        self,
        slots: int,
        partitions: int = 0,
        *,
        grace_seconds: float = 0.0,
        registration: Registration = NOTHING_REGISTERED,
    ) -> None:
        self._slots = slots
        self._partitions = range(partitions)
        self._grace_seconds = grace_seconds
        self._holdings = Holdings(slots, partitions)
        self._fairness = SlotFairness()
        self._attempts: dict[str, Attempt] = {}
        self._waiting: dict[str, Attempt] = {}
        self._recent = RecentTokens()
        self._hung = 0
        self._give_up_at: float | None = None
        self.running = 0
        self.draining = False
        self.starts = Announcements()
        self.registered = Registered(registration)

    # Commands

    def take(self, command: Command, now: float) -> Sequence[Effect]:
        """Returns the effects of a command."""
        match command:
            case ExecuteAttempt():
                return self._accept(command, now)
            case CancelAttempt(token=token, reason=reason):
                return self._cancel(token, reason)
            case GrantAttempt(token=token):
                attempt = self._attempts.get(token)
                return () if attempt is None or token in self._waiting else (GrantBody(attempt),)
            case EngineAnnounced(partition=partition) | DefinitionsWanted(partition=partition):
                self.registered.want(partition)
                return (BeatSoon((partition,)),)
            case WorkWanted(partition=partition):  # it has tasks and no credit: each request moves half of another's idle credit
                giver = None if self.draining else self._holdings.move_credit(partition)
                return () if giver is None else (BeatSoon((giver, partition)),)

    def _accept(self, command: ExecuteAttempt, now: float) -> Sequence[Effect]:
        if command.token in self._attempts or command.token in self._recent:
            return ()  # A repeated command: it runs once.
        attempt = self._attempts[command.token] = Attempt(command, now)
        self._holdings.accept(command.partition, command.token)
        if self.draining:
            self.over(attempt)
            return (ReportReleased(attempt, "drain"),)
        if self._may_begin(attempt, now):
            return (self._begin(attempt),)
        self._waiting[command.token] = attempt
        return ()

    def _cancel(self, token: str, reason: str) -> Sequence[Effect]:
        attempt = self._attempts.get(token)
        if attempt is None:
            return ()
        if self._waiting.pop(token, None) is None:
            return (StopBody(attempt, reason),)
        self.over(attempt)
        return (ReportCancelled(attempt),)

    # Slots

    @property
    def waiting(self) -> int:
        """The number of attempts that wait for a slot."""
        return len(self._waiting)

    @property
    def is_contended(self) -> bool:
        """Whether an attempt waits for a slot, or a refused partition for an offer, so that `tick` is urgent. With one engine
        partition it never is."""
        return len(self._partitions) > 1 and (bool(self._waiting) or self._fairness.any_refused)

    def _may_begin(self, attempt: Attempt, now: float) -> bool:
        return self._fairness.may_begin(attempt.command.partition, self._slots - self.running, now)

    def _begin(self, attempt: Attempt) -> BeginBody:
        self.running += 1
        self._fairness.begin(attempt.command.partition)
        return BeginBody(attempt)

    def over(self, attempt: Attempt) -> None:
        """Record that the end of an attempt is known; it keeps its slot and its lease. May be called repeatedly."""
        attempt.over = True
        self.starts.drop(attempt)
        if self._attempts.pop(attempt.command.token, None) is not None:
            self._holdings.put_down(attempt.command.partition)
            self._recent.add(attempt.command.token)

    def settle(self, attempt: Attempt) -> None:
        """Drop the lease of an attempt: its end is stored, or cannot be."""
        self._holdings.settle(attempt.command.partition, attempt.command.token)

    def ended(self, attempt: Attempt, now: float) -> Sequence[ImmediateEffect]:
        """Free the slot of an attempt that has ended."""
        if not attempt.over:
            self.over(attempt)
        self.running -= 1
        return self._fill(now)

    def hung(self, attempt: Attempt, now: float) -> Sequence[ImmediateEffect]:
        """Record that an attempt has ended but its function still runs: it keeps the slot until `came_back`."""
        self.over(attempt)
        self._hung += 1
        if self._hung >= self._slots:
            self._give_up_at = now + self._grace_seconds
        return (BeatSoon(self._partitions),)

    def came_back(self, now: float) -> Sequence[ImmediateEffect]:
        """Free the slot of a hung function that has returned."""
        self._hung -= 1
        self._give_up_at = None
        self.running -= 1
        return (*self._fill(now), BeatSoon(self._partitions))

    def _fill(self, now: float) -> list[ImmediateEffect]:
        """Give free slots to waiting attempts in order of arrival; without any, offer them to refused partitions."""
        if self.draining or self.running >= self._slots or not (self._waiting or self._fairness.any_refused):
            return []
        heard_by = self._fairness.reserve(now)
        effects: list[ImmediateEffect] = []
        while attempt := next((one for one in self._waiting.values() if self._may_begin(one, now)), None):
            del self._waiting[attempt.command.token]
            effects.append(self._begin(attempt))
        heard_by += self._fairness.offer(self._slots - self.running, now)
        if heard_by:
            effects.append(BeatSoon(heard_by))
        return effects

    # Time

    def tick(self, now: float) -> Sequence[Effect]:
        """Returns the effects that are due at `now`; call it every HOLD_SECONDS / 2 while `is_contended`.

        Partitions dispatch independently, so together they may send more attempts than there are slots. An attempt that waits
        too long is released, and its partition sends no more until a slot is free."""
        effects: list[Effect] = []
        if len(self._partitions) > 1:
            for attempt in [one for one in self._waiting.values() if now - one.arrived_at > HOLD_SECONDS]:
                effects += self._refuse(attempt, now)
        effects += self._fill(now)
        if self._give_up_at is not None and now >= self._give_up_at:
            self._give_up_at = None
            effects.append(GiveUp())
        return effects

    def _refuse(self, attempt: Attempt, now: float) -> Sequence[Effect]:
        """Release an attempt that found no slot. The lower credit is reported first, or the partition would send it again."""
        partition = attempt.command.partition
        del self._waiting[attempt.command.token]
        self._fairness.refuse(partition, now)
        self.over(attempt)
        return (ReportStanding(partition, self.standing(partition)), ReportReleased(attempt, "no free slot"))

    # Leases and the end

    def standing(self, partition: int, *, describe: bool = False) -> Standing:
        """The state to report to a partition now. It includes the definitions if the partition has requested them (once per
        request), or with `describe`."""
        refused = self._fairness.is_refused(partition)
        credit = 0 if self.draining else self._holdings.credit(partition, hung=self._hung, refused=refused)
        definitions = self.registered.take(partition, always=describe)
        return Standing(credit, self._holdings.held(partition), self.draining, self.registered.revision, definitions)

    def lease_lost(self, partition: int) -> Sequence[StopBody]:
        """Stop the running and drop the waiting attempts of a partition whose leases cannot be renewed, before another worker
        runs them."""
        ours = [attempt for attempt in self._attempts.values() if attempt.command.partition == partition]
        for attempt in ours:
            if self._waiting.pop(attempt.command.token, None) is not None:
                self.over(attempt)
                self.settle(attempt)
        return [StopBody(attempt, "the lease was lost") for attempt in ours if not attempt.over]

    def drain(self) -> Sequence[ReportReleased]:
        """Begin no more attempts, and release those that wait."""
        self.draining = True
        waiting, self._waiting = list(self._waiting.values()), {}
        for attempt in waiting:
            self.over(attempt)
        return [ReportReleased(attempt, "drain") for attempt in waiting]

    def stop(self) -> Sequence[StopBody]:
        """Stop the attempts that still run."""
        return [StopBody(attempt, "the worker stops") for attempt in self._attempts.values()]
