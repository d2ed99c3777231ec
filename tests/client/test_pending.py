"""A reply that several callers wait for."""

import asyncio

import pytest

from hub.client.pending import PendingReply
from schemas import TaskReply
from tests.virtual_time import run

REPLY = TaskReply(kind="ended", task="t", partition=0, state="completed")


def pending() -> PendingReply:
    return PendingReply("t", "t", b"token", b"0:token", until_end=True, ask_at=0.0, on_warning=None)


def test_all_callers_get_the_reply_also_one_that_comes_later_and_the_first_outcome_is_final() -> None:
    async def main() -> None:
        reply = pending()
        async with asyncio.TaskGroup() as group:
            waits = [group.create_task(reply.wait(seconds)) for seconds in (None, 5.0)]
            asyncio.get_running_loop().call_later(1, reply.resolve, REPLY)
        assert [wait.result() for wait in waits] == [True, True]
        reply.resolve(ValueError("too late"))
        assert await reply.wait(0)
        assert reply.result() is REPLY

    run(main())


def test_a_caller_that_gives_up_or_is_cancelled_has_no_effect_on_the_others() -> None:
    async def main() -> None:
        reply, loop = pending(), asyncio.get_running_loop()
        patient, cancelled = asyncio.ensure_future(reply.wait()), asyncio.ensure_future(reply.wait(60.0))
        assert not await reply.wait(3.0)
        assert loop.time() == 3.0
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert not reply.is_done
        reply.resolve(REPLY)
        assert await patient

    run(main())


def test_an_error_instead_of_a_reply_is_raised_to_each_caller() -> None:
    reply = pending()
    reply.resolve(LookupError("gone"))
    for _ in range(2):
        with pytest.raises(LookupError, match="gone"):
            reply.result()


def test_the_traceback_of_an_error_does_not_grow_with_each_caller() -> None:
    reply = pending()
    reply.resolve(LookupError("gone"))
    lengths = set()
    for _ in range(3):
        with pytest.raises(LookupError) as raised:
            reply.result()
        lengths.add(len(raised.traceback))
    assert len(lengths) == 1
