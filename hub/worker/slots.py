"""The desk: which attempts run, which wait, which go back, and how much more work the worker asks for.

Pure and deterministic: commands and ends go in with the time in seconds, effects come out as values. It does no IO and has no
clock, no event loop and no lock. The caller executes the effects in order; see `desk.py`.
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

#: With several engine partitions: a command that found no free slot is handed back after this time (seconds).
HOLD_SECONDS = 0.1

NOTHING_REGISTERED = Registration(0, ())


class Slots:
    """The attempts of one worker. An attempt is *waiting* or has a *slot*; it is *over* once its end is known, keeps its slot
    until `ended` or `came_back`, and keeps its lease until `settle`.

    Promises: no more than `slots` have a slot at once; each accepted command is begun once, handed back or cancelled, and a
    repeated one is ignored; what waits is begun in the order of arrival, except for a slot that is reserved.
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
        """What follows from a command."""
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
            case WorkWanted(partition=partition):  # it has work and no credit: it gets what lies idle elsewhere, in one step each
                giver = None if self.draining else self._holdings.move_credit(partition)
                return () if giver is None else (BeatSoon((giver, partition)),)

    def _accept(self, command: ExecuteAttempt, now: float) -> Sequence[Effect]:
        if command.token in self._attempts or command.token in self._recent:
            return ()  # A command that is there twice runs once.
        attempt = self._attempts[command.token] = Attempt(command, now)
        self._holdings.accept(command.partition, command.token)
        if self.draining:
            return (self._release(attempt, "drain"),)
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
        """How many attempts wait for a slot."""
        return len(self._waiting)

    def _may_begin(self, attempt: Attempt, now: float) -> bool:
        return self._fairness.may_begin(attempt.command.partition, self._slots - self.running, now)

    def _begin(self, attempt: Attempt) -> BeginBody:
        self.running += 1
        self._fairness.begin(attempt.command.partition)
        return BeginBody(attempt)

    def over(self, attempt: Attempt) -> None:
        """The end of an attempt is known. It keeps its slot and its lease; may be called again."""
        attempt.over = True
        if self._attempts.pop(attempt.command.token, None) is not None:
            self._holdings.put_down(attempt.command.partition)
            self._recent.add(attempt.command.token)

    def settle(self, attempt: Attempt) -> None:
        """The end of an attempt is stored, or will never be: its lease is no longer held."""
        self._holdings.settle(attempt.command.partition, attempt.command.token)

    def ended(self, attempt: Attempt, now: float) -> Sequence[ImmediateEffect]:
        """An attempt is over and has left its slot."""
        self.over(attempt)
        self.running -= 1
        return self._fill(now)

    def hung(self, attempt: Attempt, now: float) -> Sequence[ImmediateEffect]:
        """An attempt is over, and the function that it left behind keeps the slot until `came_back`."""
        self.over(attempt)
        self._hung += 1
        if self._hung >= self._slots:
            self._give_up_at = now + self._grace_seconds
        return (BeatSoon(self._partitions),)

    def came_back(self, now: float) -> Sequence[ImmediateEffect]:
        """A function that hung has returned: its slot is free."""
        self._hung -= 1
        self._give_up_at = None
        self.running -= 1
        return (*self._fill(now), BeatSoon(self._partitions))

    def _fill(self, now: float) -> list[ImmediateEffect]:
        """Free slots go to what waits, first come, first served; else they are offered to partitions that were refused."""
        if self.draining or self.running >= self._slots or not (self._waiting or self._fairness.any_refused):
            return []
        heard_by = self._fairness.reserve(now)
        effects: list[ImmediateEffect] = []
        while attempt := next((one for one in self._waiting.values() if self._may_begin(one, now)), None):
            del self._waiting[attempt.command.token]
            effects.append(self._begin(attempt))
        free = self._slots - self.running
        if free > 0 and not self._waiting:
            heard_by += self._fairness.offer(free, now)
        if heard_by:
            effects.append(BeatSoon(heard_by))
        return effects

    # Time

    def tick(self, now: float) -> Sequence[Effect]:
        """What follows from the time alone; call it every HOLD_SECONDS / 2.

        Several partitions give credit on their own: together they may hand out more than there are slots. What waits too long
        is handed back, and its partition gets no more here until a slot is free."""
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
        """An attempt found no slot. The partition hears of its lower credit first, or it would send the same at once again."""
        partition = attempt.command.partition
        del self._waiting[attempt.command.token]
        self._fairness.refuse(partition, now)
        self.over(attempt)
        return (ReportStanding(partition, self.standing(partition)), ReportReleased(attempt, "no free slot"))

    def _release(self, attempt: Attempt, reason: str) -> ReportReleased:
        self.over(attempt)
        return ReportReleased(attempt, reason)

    # Leases and the end

    def standing(self, partition: int, *, describe: bool = False) -> Standing:
        """What the report says that is made now for a partition. Where the partition has asked for it, or with `describe`, that
        is also what the worker has registered: once."""
        refused = self._fairness.is_refused(partition)
        credit = 0 if self.draining else self._holdings.credit(partition, hung=self._hung, refused=refused)
        definitions = self.registered.take(partition, always=describe)
        return Standing(credit, self._holdings.held(partition), self.draining, self.registered.revision, definitions)

    def lease_lost(self, partition: int) -> Sequence[StopBody]:
        """The leases of a partition cannot be renewed: stop what runs, and forget what waits, before somebody else runs it."""
        ours = [attempt for attempt in self._attempts.values() if attempt.command.partition == partition]
        for attempt in ours:
            if self._waiting.pop(attempt.command.token, None) is not None:
                self.over(attempt)
                self.settle(attempt)
        return [StopBody(attempt, "the lease was lost") for attempt in ours if not attempt.over]

    def drain(self) -> Sequence[ReportReleased]:
        """Begin nothing more, and hand back what waits."""
        self.draining = True
        waiting, self._waiting = list(self._waiting.values()), {}
        return [self._release(attempt, "drain") for attempt in waiting]

    def stop(self) -> Sequence[StopBody]:
        """Stop what still runs."""
        return [StopBody(attempt, "the worker stops") for attempt in self._attempts.values()]
