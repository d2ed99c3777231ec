"""The group coordinator, without sockets and with a manual clock."""

from collections.abc import Callable
from typing import Any

import pytest

from hub.broker import Broker, BrokerSettings, MemoryStorage
from hub.broker.group_state import JoinRequest
from hub.broker.groups import PENDING_MEMBER_SECONDS
from hub.broker.timing import Deferred
from hub.protocol import ErrorCode


class ManualClock:
    """Time that stands still until `advance`."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds

    def now_ms(self) -> int:
        return int(self.seconds * 1000)


class House:
    """A core and its clock."""

    def __init__(self, **settings: Any) -> None:
        self.clock = ManualClock()
        self.broker = Broker(MemoryStorage(), clock=self.clock, settings=BrokerSettings(**settings))
        self.groups = self.broker.groups

    def advance(self, seconds: float) -> None:
        """Let time pass, timer by timer."""
        end = self.clock.seconds + seconds
        while (deadline := self.broker.timers.next_deadline) is not None and deadline <= end:
            self.clock.seconds = max(self.clock.seconds, deadline)
            self.broker.timers.run_due()
        self.clock.seconds = end

    def join(self, member_id: str = "", instance_id: str | None = None, **options: Any) -> Any:
        """Send a join: a refusal, or the answer that is still to come."""
        values = {
            "group_id": "g",
            "member_id": member_id,
            "instance_id": instance_id,
            "client_id": "c",
            "client_host": "h",
            "session_timeout_ms": 10_000,
            "rebalance_timeout_ms": 30_000,
            "protocol_type": "consumer",
            "protocols": [("range", b"meta")],
            "must_know_id": False,
        }
        return self.groups.join(JoinRequest(**{**values, **options}))

    def stable(self, count: int) -> list[str]:
        """A stable group of this many members; the first leads."""
        answers = [self.join() for _ in range(count)]
        self.advance(0.1)
        members = [answer.value["member_id"] for answer in answers]
        self.sync_all(members)
        return members

    def sync_all(self, members: list[str]) -> None:
        group = self.groups.groups["g"]
        assignments = {member: member.encode() for member in members}
        waiting = [self.groups.sync("g", group.generation, member, None, {}) for member in members if member != group.leader]
        answer = self.groups.sync("g", group.generation, group.leader, None, assignments)
        assert value(answer)["assignment"] == group.leader.encode()
        assert all(value(late)["error_code"] == ErrorCode.NONE for late in waiting)

    @property
    def generation(self) -> int:
        return self.groups.groups["g"].generation

    @property
    def phase(self) -> str:
        return self.groups.groups["g"].phase.value


def value(answer: Any) -> Any:
    """The answer, which must be there."""
    if isinstance(answer, Deferred):
        assert answer.done
        return answer.value
    return answer


@pytest.fixture
def house() -> House:
    return House()


def test_members_that_come_together_are_one_generation(house: House) -> None:
    answers = [house.join() for _ in range(3)]
    assert not any(answer.done for answer in answers)
    house.advance(0.1)
    assert [answer.value["generation_id"] for answer in answers] == [1, 1, 1]
    leaders = {answer.value["leader"] for answer in answers}
    assert len(leaders) == 1
    assert [len(answer.value["members"]) for answer in answers] == [3, 0, 0]


def test_a_group_that_was_emptied_waits_out_its_initial_delay_too(house: House) -> None:
    for member in house.stable(2):
        house.groups.leave("g", member, None)
    assert house.phase == "Empty"
    before = house.generation
    answers = [house.join() for _ in range(3)]
    assert not any(answer.done for answer in answers)
    house.advance(0.1)
    assert [answer.value["generation_id"] for answer in answers] == [before + 1] * 3


def test_a_new_member_learns_its_id_first_when_it_can(house: House) -> None:
    refused = house.join(must_know_id=True)
    assert refused["error_code"] is ErrorCode.MEMBER_ID_REQUIRED
    joined = house.join(refused["member_id"], must_know_id=True)
    house.advance(0.1)
    assert value(joined)["member_id"] == refused["member_id"]
    assert house.join("never handed out")["error_code"] is ErrorCode.UNKNOWN_MEMBER_ID


def test_a_new_member_that_leaves_instead_of_joining_is_forgotten_at_once(house: House) -> None:
    before = house.broker.timers.next_deadline
    refused = house.join(must_know_id=True)
    assert house.broker.timers.next_deadline != before
    assert house.groups.leave("g", refused["member_id"], None) is ErrorCode.NONE
    assert house.broker.timers.next_deadline == before
    assert house.join(refused["member_id"], must_know_id=True)["error_code"] is ErrorCode.UNKNOWN_MEMBER_ID


def test_a_rebalance_waits_for_those_who_know_only_by_heartbeat(house: House) -> None:
    (first,) = house.stable(1)
    second = house.join()
    assert not second.done
    assert house.groups.heartbeat("g", 1, first, None) is ErrorCode.REBALANCE_IN_PROGRESS
    again = house.join(first)
    assert value(second)["generation_id"] == value(again)["generation_id"] == 2
    assert house.groups.heartbeat("g", 1, first, None) is ErrorCode.ILLEGAL_GENERATION


def test_a_member_that_does_not_rejoin_in_time_is_left_out(house: House) -> None:
    first, second = house.stable(2)
    third = house.join()
    house.join(first)
    for _ in range(4):
        house.advance(8)
        house.groups.heartbeat("g", 1, second, None)
    assert value(third)["generation_id"] == 2
    assert house.groups.heartbeat("g", 1, second, None) is ErrorCode.UNKNOWN_MEMBER_ID


def test_a_silent_member_is_dropped_after_its_session(house: House) -> None:
    first, second = house.stable(2)
    for _ in range(3):
        house.advance(4)
        house.groups.heartbeat("g", 1, first, None)
    assert house.phase == "PreparingRebalance"
    assert house.groups.heartbeat("g", 1, second, None) is ErrorCode.UNKNOWN_MEMBER_ID
    assert value(house.join(first))["generation_id"] == 2


def test_a_follower_that_joins_again_unchanged_keeps_its_generation_and_begins_a_new_session(house: House) -> None:
    members = house.stable(2)
    leader = house.groups.groups["g"].leader
    (follower,) = set(members) - {leader}
    house.advance(8)
    assert value(house.groups.heartbeat("g", 1, leader, None)) is ErrorCode.NONE
    assert value(house.join(follower))["generation_id"] == 1
    house.advance(8)
    assert set(house.groups.groups["g"].members) == {leader, follower}
    house.advance(3)
    assert house.groups.groups["g"].members == {}


def test_a_member_that_leaves_while_it_waits_for_a_generation_is_answered(house: House) -> None:
    house.stable(1)
    waiting = house.join()
    (newcomer,) = [member.member_id for member in house.groups.groups["g"].members.values() if member.joining is waiting]
    house.groups.leave("g", newcomer, None)
    assert value(waiting)["error_code"] == ErrorCode.UNKNOWN_MEMBER_ID


def test_a_static_member_that_comes_back_while_it_waits_ends_its_former_wait(house: House) -> None:
    former = house.join(instance_id="i")
    again = house.join(instance_id="i")
    assert value(former)["error_code"] == ErrorCode.FENCED_INSTANCE_ID
    house.advance(0.1)
    assert value(again)["error_code"] == ErrorCode.NONE


def test_the_last_member_to_leave_empties_the_group(house: House) -> None:
    (only,) = house.stable(1)
    assert house.groups.offsets.delete("g") is ErrorCode.NON_EMPTY_GROUP
    assert house.groups.leave("g", only, None) is ErrorCode.NONE
    assert house.phase == "Empty"
    assert house.groups.offsets.delete("g") is ErrorCode.NONE
    assert house.groups.offsets.delete("g") is ErrorCode.GROUP_ID_NOT_FOUND


def test_a_follower_waits_for_the_leaders_assignment(house: House) -> None:
    answers = [house.join() for _ in range(2)]
    house.advance(0.1)
    leader, follower = (answer.value["member_id"] for answer in answers)
    waiting = house.groups.sync("g", 1, follower, None, {})
    assert isinstance(waiting, Deferred)
    assert not waiting.done
    house.groups.sync("g", 1, leader, None, {follower: b"yours"})
    assert value(waiting)["assignment"] == b"yours"
    assert value(house.groups.sync("g", 1, follower, None, {}))["assignment"] == b"yours"
    assert value(house.groups.sync("g", 9, follower, None, {}))["error_code"] is ErrorCode.ILLEGAL_GENERATION


def test_a_follower_that_waits_is_told_of_the_next_rebalance(house: House) -> None:
    answers = [house.join() for _ in range(2)]
    house.advance(0.1)
    waiting = house.groups.sync("g", 1, answers[1].value["member_id"], None, {})
    house.join()
    assert value(waiting)["error_code"] is ErrorCode.REBALANCE_IN_PROGRESS


def test_members_without_a_common_protocol_are_refused(house: House) -> None:
    without: list[dict[str, Any]] = [{"protocol_type": ""}, {"protocols": []}]
    for nothing in without:
        assert house.join(**nothing)["error_code"] is ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    house.stable(1)
    assert house.join(protocols=[("other", b"")])["error_code"] is ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert house.join(protocol_type="connect")["error_code"] is ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert house.join(protocols=[])["error_code"] is ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert house.join(protocol_type="")["error_code"] is ErrorCode.INCONSISTENT_GROUP_PROTOCOL


def test_the_protocol_that_most_members_prefer_is_chosen(house: House) -> None:
    sticky, ranged = ("sticky", b""), ("range", b"")
    answers = [house.join(protocols=list(preferred)) for preferred in ((ranged, sticky), (sticky, ranged), (sticky, ranged))]
    house.advance(0.1)
    assert [value(answer)["protocol_name"] for answer in answers] == ["sticky"] * 3


def test_a_static_leader_that_does_not_rejoin_keeps_its_place_and_another_leads(house: House) -> None:
    joined = [house.join(instance_id="a"), house.join()]
    house.advance(0.1)
    leader, other = (value(answer)["member_id"] for answer in joined)
    assert value(joined[0])["leader"] == leader
    house.sync_all([leader, other])
    house.join()
    again = house.join(other)
    for _ in range(4):
        house.advance(8)
        house.groups.heartbeat("g", 1, leader, "a")
    assert value(again)["leader"] not in ("", leader)
    assert leader in house.groups.groups["g"].members


def test_a_static_member_comes_back_without_a_rebalance(house: House) -> None:
    joined = house.join(instance_id="a")
    house.advance(0.1)
    old = value(joined)["member_id"]
    house.sync_all([old])
    back = house.join(instance_id="a")
    assert back["generation_id"] == 1
    assert back["member_id"] != old
    assert value(house.groups.sync("g", 1, back["member_id"], "a", {}))["assignment"] == old.encode()
    assert house.groups.heartbeat("g", 1, old, "a") is ErrorCode.FENCED_INSTANCE_ID
    assert house.groups.leave("g", old, "a") is ErrorCode.FENCED_INSTANCE_ID
    assert house.groups.leave("g", "", "a") is ErrorCode.NONE
    assert house.phase == "Empty"


@pytest.mark.parametrize(
    ("generation", "member", "expected"),
    [
        (1, "member", ErrorCode.NONE),
        (2, "member", ErrorCode.ILLEGAL_GENERATION),
        (1, "stranger", ErrorCode.UNKNOWN_MEMBER_ID),
        (-1, "", ErrorCode.UNKNOWN_MEMBER_ID),
    ],
)
def test_only_members_of_this_generation_commit(house: House, generation: int, member: str, expected: ErrorCode) -> None:
    (only,) = house.stable(1)
    sender = only if member == "member" else member
    assert house.groups.offsets.check_commit("g", generation, sender, None) is expected


def test_a_member_that_waits_for_its_assignment_commits_after_it(house: House) -> None:
    joined = house.join()
    house.advance(0.1)
    member = value(joined)["member_id"]
    check = house.groups.offsets.check_commit
    assert house.phase == "CompletingRebalance"
    assert check("g", 1, member, None) is ErrorCode.REBALANCE_IN_PROGRESS
    assert check("g", 2, member, None) is ErrorCode.ILLEGAL_GENERATION
    house.sync_all([member])
    assert check("g", 1, member, None) is ErrorCode.NONE


def test_anybody_commits_for_a_group_without_members(house: House) -> None:
    check: Callable[..., ErrorCode] = house.groups.offsets.check_commit
    assert check("g", -1, "", None) is ErrorCode.NONE
    assert check("g", 3, "x", None) is ErrorCode.ILLEGAL_GENERATION
    assert check("g", 0, "x", None) is ErrorCode.ILLEGAL_GENERATION


def test_transactional_commits_are_checked_only_when_they_name_a_member(house: House) -> None:
    (only,) = house.stable(1)
    check = house.groups.offsets.check_transactional_commit
    assert check("g", -1, "", None) is ErrorCode.NONE
    assert check("g", 1, only, None) is ErrorCode.NONE
    assert check("g", 0, only, None) is ErrorCode.ILLEGAL_GENERATION
    assert check("g", 1, "stranger", None) is ErrorCode.UNKNOWN_MEMBER_ID
    assert check("g", 0, "", None) is ErrorCode.UNKNOWN_MEMBER_ID


# --- limits and times


def test_a_group_has_an_id_and_its_members_a_session_within_bounds(house: House) -> None:
    settings = house.broker.state.settings
    assert house.join(group_id="")["error_code"] is ErrorCode.INVALID_GROUP_ID
    for bound, beyond in ((settings.session_timeout_ms_min, -1), (settings.session_timeout_ms_max, 1)):
        refused = house.join(session_timeout_ms=bound + beyond)
        assert refused["error_code"] is ErrorCode.INVALID_SESSION_TIMEOUT
        assert isinstance(house.join(session_timeout_ms=bound), Deferred)


def test_a_group_has_at_most_so_many_members_also_counting_those_that_only_know_their_id() -> None:
    house = House(group_members_max=3)
    house.join()
    handed_out = house.join(must_know_id=True)["member_id"]
    house.join()
    assert house.join()["error_code"] is ErrorCode.GROUP_MAX_SIZE_REACHED
    assert house.join(must_know_id=True)["error_code"] is ErrorCode.GROUP_MAX_SIZE_REACHED
    assert isinstance(house.join(handed_out, must_know_id=True), Deferred)
    house.advance(0.1)
    assert len(house.groups.groups["g"].members) == 3


def test_a_member_that_only_learned_its_id_holds_a_rebalance_up_for_its_time_and_no_longer(house: House) -> None:
    (first,) = house.stable(1)
    house.join(must_know_id=True)
    again = house.join(first, protocols=[("range", b"new")])
    assert not again.done
    house.advance(PENDING_MEMBER_SECONDS - 0.1)
    assert not again.done
    house.advance(0.2)
    assert value(again)["generation_id"] == 2


def test_a_static_member_does_not_have_to_learn_its_id_first(house: House) -> None:
    assert isinstance(house.join(instance_id="i", must_know_id=True), Deferred)


def test_a_rebalance_lasts_as_long_as_its_slowest_member_may_take(house: House) -> None:
    quick, slow = (house.join(rebalance_timeout_ms=seconds * 1000) for seconds in (20, 40))
    house.advance(0.1)
    members = [value(answer)["member_id"] for answer in (quick, slow)]
    house.sync_all(members)
    third = house.join()
    for waited, is_over in ((39.5, False), (1.0, True)):
        end = house.clock.seconds + waited
        while house.clock.seconds < end:
            house.advance(min(5, end - house.clock.seconds))
            for member in members:
                house.groups.heartbeat("g", 1, member, None)
        assert third.done is is_over


def test_without_a_time_for_rebalances_a_member_has_its_session(house: House) -> None:
    answer = house.join(rebalance_timeout_ms=0, session_timeout_ms=12_000)
    house.advance(0.1)
    (member,) = house.groups.groups["g"].members.values()
    assert value(answer)["member_id"] == member.member_id
    assert (member.rebalance_seconds, member.session_seconds) == (12, 12)


def test_a_heartbeat_begins_the_session_anew_and_so_does_a_sync(house: House) -> None:
    (only,) = house.stable(1)
    for extend in (
        lambda: house.groups.heartbeat("g", 1, only, None),
        lambda: value(house.groups.sync("g", 1, only, None, {}))["error_code"],
    ):
        house.advance(9.9)
        assert extend() is ErrorCode.NONE
    house.advance(9.9)
    assert house.phase == "Stable"
    house.advance(0.2)
    assert house.phase == "Empty"


# --- who rejoins how


def test_a_leader_that_joins_again_begins_a_rebalance(house: House) -> None:
    members = house.stable(2)
    leader = house.groups.groups["g"].leader
    (follower,) = set(members) - {leader}
    again = house.join(leader)
    assert not again.done
    assert house.phase == "PreparingRebalance"
    assert value(house.groups.sync("g", 1, follower, None, {}))["error_code"] is ErrorCode.REBALANCE_IN_PROGRESS
    assert value(house.join(follower))["generation_id"] == value(again)["generation_id"] == 2
    assert value(again)["leader"] == leader


def test_a_follower_with_other_metadata_begins_a_rebalance_and_the_leader_learns_it(house: House) -> None:
    members = house.stable(2)
    leader = house.groups.groups["g"].leader
    (follower,) = set(members) - {leader}
    again = house.join(follower, protocols=[("other", b"no"), ("range", b"new")])
    assert not again.done
    found = {one["member_id"]: one["metadata"] for one in value(house.join(leader))["members"]}
    assert found == {leader: b"meta", follower: b"new"}
    assert value(again)["members"] == []


def test_a_member_that_joins_again_while_it_waits_for_its_assignment_has_the_same_answer(house: House) -> None:
    answers = [house.join() for _ in range(2)]
    house.advance(0.1)
    for answer in answers:
        member = answer.value["member_id"]
        assert value(house.join(member)) == answer.value
    changed = house.join(answers[1].value["member_id"], protocols=[("range", b"new")])
    assert not changed.done
    assert house.phase == "PreparingRebalance"


def test_a_second_join_of_a_member_ends_its_first(house: House) -> None:
    (only,) = house.stable(1)
    house.join()
    third = house.join()
    newcomer = next(one.member_id for one in house.groups.groups["g"].members.values() if one.joining is third)
    again = house.join(newcomer)
    assert value(third)["error_code"] is ErrorCode.UNKNOWN_MEMBER_ID
    assert not again.done
    assert only in house.groups.groups["g"].members


def test_an_assignment_holds_for_its_generation_only(house: House) -> None:
    members = house.stable(2)
    leader = house.groups.groups["g"].leader
    (follower,) = set(members) - {leader}
    for member in (leader, follower):
        house.join(member, protocols=[("range", b"new")])
    assert house.generation == 2
    house.groups.sync("g", 2, leader, None, {})
    assert value(house.groups.sync("g", 2, follower, None, {}))["assignment"] == b""


def test_a_static_member_with_other_metadata_comes_back_with_a_rebalance(house: House) -> None:
    joined = house.join(instance_id="a")
    house.advance(0.1)
    old = value(joined)["member_id"]
    house.sync_all([old])
    back = house.join(instance_id="a", protocols=[("range", b"new")])
    assert value(back)["generation_id"] == 2
    assert value(back)["leader"] == value(back)["member_id"] != old
    assert list(house.groups.groups["g"].members) == [value(back)["member_id"]]


def test_a_static_follower_comes_back_as_a_follower(house: House) -> None:
    joined = [house.join(), house.join(instance_id="a")]
    house.advance(0.1)
    leader, old = (value(answer)["member_id"] for answer in joined)
    house.sync_all([leader, old])
    back = house.join(instance_id="a")
    assert (back["leader"], back["members"], back["generation_id"]) == (leader, [], 1)
    assert house.groups.heartbeat("g", 1, back["member_id"], "a") is ErrorCode.NONE


def test_a_member_that_leaves_begins_a_rebalance_of_the_others(house: House) -> None:
    first, second = house.stable(2)
    assert house.groups.leave("g", second, None) is ErrorCode.NONE
    assert house.groups.heartbeat("g", 1, first, None) is ErrorCode.REBALANCE_IN_PROGRESS
    assert value(house.join(first))["generation_id"] == 2
    assert house.groups.leave("g", second, None) is ErrorCode.UNKNOWN_MEMBER_ID
    assert house.groups.leave("other", first, None) is ErrorCode.UNKNOWN_MEMBER_ID


def joined(*answers: Any) -> list[str]:
    """The member ids of these answers, which are there."""
    return [value(answer)["member_id"] for answer in answers]


def test_the_first_to_join_leads_and_ids_tell_who_they_are(house: House) -> None:
    answers = [house.join(instance_id="i"), house.join(), house.join(client_id="")]
    house.advance(0.1)
    ids = joined(*answers)
    assert [value(answer)["leader"] for answer in answers] == [ids[0]] * 3
    assert [member.partition("-")[0] for member in ids] == ["i", "c", "member"]


def test_a_group_notes_since_when_it_is_empty(house: House) -> None:
    (only,) = house.stable(1)
    group = house.groups.groups["g"]
    assert group.empty_since_ms == -1
    house.advance(5)
    house.groups.leave("g", only, None)
    assert group.empty_since_ms == house.clock.now_ms()
    house.advance(5)
    house.join()
    assert group.empty_since_ms == -1


def test_no_timer_is_left_of_a_group_without_members(house: House) -> None:
    before = house.broker.timers.next_deadline
    for leave in (True, False):
        house.join(must_know_id=True)
        handed_out = house.join(must_know_id=True)["member_id"]
        house.join(handed_out, must_know_id=True, session_timeout_ms=60_000)
        house.join(session_timeout_ms=60_000)
        house.advance(PENDING_MEMBER_SECONDS + 0.1)
        for member in list(house.groups.groups["g"].members):
            house.groups.leave("g", member, None) if leave else house.advance(61)
        assert house.phase == "Empty"
        assert house.broker.timers.next_deadline == before


def test_a_member_that_joins_again_may_change_its_session(house: House) -> None:
    (only,) = house.stable(1)
    again = house.join(only, session_timeout_ms=20_000, protocols=[("range", b"new")])
    house.sync_all(joined(again))
    house.advance(19)
    assert house.phase == "Stable"
    house.advance(2)
    assert house.phase == "Empty"


def test_the_time_of_a_rebalance_that_is_over_does_not_end_the_next_one(house: House) -> None:
    first, second = house.stable(2)
    house.join(first, protocols=[("range", b"new")])
    house.join(second)
    assert (house.generation, house.phase) == (2, "CompletingRebalance")
    house.advance(5)
    waiting = house.join(first, protocols=[("range", b"newer")])

    def wait(seconds: int) -> None:
        for _ in range(seconds):
            house.advance(1)
            house.groups.heartbeat("g", 2, second, None)

    wait(27)  # the former would have ended by now
    assert not waiting.done
    wait(4)
    assert value(waiting)["generation_id"] == 3


def test_a_static_leader_that_came_back_leads_again(house: House) -> None:
    answers = [house.join(instance_id="a"), house.join()]
    house.advance(0.1)
    former, other = joined(*answers)
    house.sync_all([former, other])
    back = house.join(instance_id="a", protocols=[("range", b"new")])
    again = house.join(other)
    (now,) = joined(back)
    assert value(again)["leader"] == value(back)["leader"] == now != former


def test_a_static_member_may_come_back_with_other_protocols_where_it_is_alone(house: House) -> None:
    house.sync_all(joined_after(house, house.join(instance_id="a")))
    back = house.join(instance_id="a", protocols=[("sticky", b"")])
    assert value(back)["protocol_name"] == "sticky"


def joined_after(house: House, *answers: Any) -> list[str]:
    house.advance(0.1)
    return joined(*answers)


def test_an_instance_is_forgotten_with_its_member_and_only_then(house: House) -> None:
    one, two, plain = joined_after(house, house.join(instance_id="a"), house.join(instance_id="b"), house.join())
    group = house.groups.groups["g"]
    house.sync_all([one, two, plain])
    house.groups.leave("g", plain, None)
    assert group.instances == {"a": one, "b": two}
    house.groups.leave("g", "", "a")
    assert group.instances == {"b": two}
    assert group.leader == two
    fresh = house.join(instance_id="a")
    assert isinstance(fresh, Deferred)
    assert not fresh.done, "it is a new member, and not one that came back"


def test_a_static_member_that_came_back_has_a_session_of_its_own(house: House) -> None:
    house.sync_all(joined_after(house, house.join(instance_id="a")))
    house.advance(8)
    (back,) = joined(house.join(instance_id="a"))
    house.advance(8)
    assert list(house.groups.groups["g"].members) == [back]
    house.advance(3)
    assert house.phase == "Empty"


def test_members_that_do_not_rejoin_have_their_sessions_after_a_rebalance_too(house: House) -> None:
    static, other = joined_after(house, house.join(instance_id="a", session_timeout_ms=60_000), house.join())
    house.sync_all([static, other])
    house.join(other, protocols=[("range", b"new")])
    house.advance(31)
    assert (house.generation, sorted(house.groups.groups["g"].members)) == (2, sorted([static, other]))
    for _ in range(8):
        house.advance(7)
        house.groups.heartbeat("g", 2, other, None)
    assert static in house.groups.groups["g"].members
    house.advance(7)
    assert static not in house.groups.groups["g"].members


def test_a_member_that_joined_and_says_no_more_is_dropped_after_its_session(house: House) -> None:
    joined_after(house, house.join())
    house.advance(9.8)
    assert house.phase == "CompletingRebalance"
    house.advance(0.3)
    assert house.phase == "Empty"


def test_a_rebalance_that_nobody_joins_empties_the_group(house: House) -> None:
    static, other = joined_after(house, house.join(instance_id="a", session_timeout_ms=60_000), house.join())
    house.sync_all([static, other])
    house.groups.leave("g", other, None)
    house.advance(31)
    assert (house.phase, house.groups.groups["g"].members) == ("Empty", {})


def test_the_last_one_that_was_waited_for_completes_a_rebalance_by_leaving(house: House) -> None:
    first, second = house.stable(2)
    waiting = house.join(first, protocols=[("range", b"new")])
    assert not waiting.done
    house.groups.leave("g", second, None)
    assert value(waiting)["generation_id"] == 2


def test_a_group_whose_members_all_leave_during_a_rebalance_is_empty_at_once(house: House) -> None:
    first, second = house.stable(2)
    house.groups.leave("g", second, None)
    assert house.phase == "PreparingRebalance"
    house.groups.leave("g", first, None)
    assert house.phase == "Empty"
    (only,) = joined_after(house, house.join())
    house.sync_all([only])
    house.join(must_know_id=True)
    house.join(only, protocols=[("range", b"new")])
    house.groups.leave("g", only, None)
    assert house.phase == "PreparingRebalance", "one that learned its id is still to come"


def test_an_instance_that_two_members_claim_is_the_later_ones(house: House) -> None:
    handed_out = house.join(must_know_id=True)["member_id"]
    first = house.join(instance_id="a")
    second = house.join(handed_out, instance_id="a", must_know_id=True)
    ids = joined_after(house, first, second)
    group = house.groups.groups["g"]
    assert group.instances == {"a": ids[1]}
    assert house.groups.leave("g", ids[0], "a") is ErrorCode.FENCED_INSTANCE_ID
    assert house.groups.leave("g", ids[0], None) is ErrorCode.NONE
    assert group.instances == {"a": ids[1]}
    assert house.groups.leave("g", "", "a") is ErrorCode.NONE
    assert (group.instances, group.members) == ({}, {})
