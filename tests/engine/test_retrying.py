"""How often an owner tries to begin while its broker is away. In virtual time, with a broker that only refuses."""

import asyncio
from typing import NoReturn

import pytest

from hub.engine import PartitionLoop
from hub.engine.loop import RETRY_SECONDS
from hub.errors import ConfigurationError
from hub.kafka import BrokerUnreachable, SessionFailed, SessionFenced
from tests import virtual_time

FIRST, MOST = RETRY_SECONDS


class Away:
    """A broker whose sessions fail, `lasting` seconds after each was asked for."""

    def __init__(self, failure: Exception, lasting: float = 0.0) -> None:
        self.failure, self.lasting = failure, lasting
        self.asked: list[float] = []

    async def session(self, partition: int) -> NoReturn:
        self.asked.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.lasting)
        raise self.failure


async def pauses(broker: Away, seconds: float) -> list[float]:
    """The times between the tries of so many seconds."""
    loop = PartitionLoop(broker, 0, 1)  # type: ignore[arg-type]
    running = asyncio.create_task(loop.run())
    await asyncio.sleep(seconds)
    loop.stop()
    await running
    assert asyncio.get_running_loop().time() <= seconds + broker.lasting + 0.01, "a stop ends a pause"
    return [later - earlier for earlier, later in zip(broker.asked, broker.asked[1:], strict=False)]


@pytest.mark.parametrize(
    "failure", [BrokerUnreachable("x:1", "refused"), SessionFailed("lost"), TimeoutError(), OSError("cut")], ids=repr
)
def test_pauses_grow_up_to_their_limit(failure: Exception) -> None:
    found = virtual_time.run(pauses(Away(failure), 40 * MOST))
    assert len(found) > 15
    assert found == pytest.approx([min(FIRST * 2**number, MOST) for number in range(len(found))])


def test_after_a_try_that_lasted_the_pauses_begin_anew() -> None:
    lasting = virtual_time.run(pauses(Away(SessionFailed("lost"), 11.0), 120))
    assert len(lasting) > 8
    assert lasting == pytest.approx([11 + FIRST] * len(lasting))
    short = virtual_time.run(pauses(Away(SessionFailed("lost"), 9.0), 120))
    assert short[:2] == pytest.approx([9 + FIRST, 9 + 2 * FIRST])


@pytest.mark.parametrize("failure", [ConfigurationError("a setting is wrong"), SessionFenced("another owner")], ids=repr)
def test_what_a_retry_cannot_mend_is_tried_once(failure: Exception) -> None:
    async def main() -> None:
        broker = Away(failure)
        loop = PartitionLoop(broker, 0, 1)  # type: ignore[arg-type]
        if isinstance(failure, SessionFenced):
            await loop.run()
        else:
            with pytest.raises(ConfigurationError):
                await loop.run()
        assert (len(broker.asked), loop.fenced) == (1, isinstance(failure, SessionFenced))

    virtual_time.run(main())
