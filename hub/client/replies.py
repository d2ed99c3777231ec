"""Delivers replies to waiting callers: reads one partition of `hub.replies` from its end; each record has the token of
a request.

Replies may be lost, except on a transport in this process. Therefore a waiting client repeats its request every two seconds
(`task.await`), and the engine replies from its state.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from math import inf

from msgspec import json

from schemas import TERMINAL_STATES, MalformedRecord, TaskReply, printable, quoted

from ..errors import HubError, Unreachable
from ..kafka import REPLIES, REPLY_PARTITIONS, SEND_SECONDS, RecordReader, Transport, next_records, turns_for_effects
from ..logs import Logger
from ..service import ServiceTasks
from .errors import RepliesFailedError, UnreadableReplyError
from .pending import PendingReply

log = Logger(__name__)

ASK_AGAIN_SECONDS = 2.0
ASKED_AT_ONCE = 1_000
RECONNECT_SECONDS = 0.2

_decoder = json.Decoder(TaskReply)


def reply_of(value: bytes) -> TaskReply:
    """Decode the value of a record of `hub.replies`. Raises only MalformedRecord."""
    try:
        value.decode()  # The struct's decoder does not validate the result, which is kept as raw JSON.
        reply = _decoder.decode(value)
    except (ValueError, RecursionError) as error:
        raise MalformedRecord(printable(str(error))) from None
    if reply.kind == "ended" and reply.state not in TERMINAL_STATES:
        raise MalformedRecord(f"state: {quoted(str(reply.state))} is not a terminal state")
    return reply


#: Queries the engine about a task: its id, its root, whether the reply is sent at its end, and the address of the reply.
Ask = Callable[[str, str, bool, bytes], Awaitable[None]]


class ReplyReader:
    """Reads the replies for one client; call `start` before the first `expect`. `ask` sends a query to the engine."""

    def __init__(self, transport: Transport, client_id: str, ask: Ask) -> None:
        self._transport = transport
        self._ask = ask
        self._client_id = client_id
        self.partition = random.randrange(REPLY_PARTITIONS)  # distributes clients; any partition works
        self._waiting: dict[bytes, PendingReply] = {}
        self._count = 0
        self._prefix = b"%x" % random.getrandbits(48)
        self._reader: RecordReader | None = None
        self._tasks = ServiceTasks("the client", self._failed)

    async def start(self, *, timeout_seconds: float = SEND_SECONDS) -> None:
        """Start reading at the end of the partition. While no broker responds, as during a restart, this is retried until the
        timeout. Raises Unreachable, TopicMissing."""
        self._loop = asyncio.get_running_loop()
        deadline = self._loop.time() + timeout_seconds
        while self._reader is None:
            try:
                self._reader = await self._open(None)
            except Unreachable as error:
                if self._loop.time() >= deadline:
                    raise
                log.debug("cannot read replies yet", action="replies_interrupted", reason=repr(error))
                await asyncio.sleep(RECONNECT_SECONDS)
        self._tasks.keep(self._read(), "replies")
        if not self._transport.local:
            self._tasks.keep(self._ask_again(), "replies-again")

    def _failed(self, error: BaseException) -> None:
        """Replies can no longer be read: current and later waits raise the error."""
        if error is self._tasks.failure:
            log.error("the client can no longer read replies", action="replies_failed", exc_info=error)
            for pending in self._waiting.values():
                pending.resolve(_failed(error))

    async def _open(self, position: int | None) -> RecordReader:
        reader = self._transport.reader(client_id=self._client_id)
        try:
            await reader.open(REPLIES, self.partition, position or 0)
            if position is None:
                reader.seek(await reader.end_offset())
        except BaseException:
            await reader.close()
            raise
        return reader

    async def _read(self) -> None:
        while True:
            try:
                if self._reader is None:
                    self._reader = await self._open(None)  # Replies missed meanwhile are requested again.
                records = await next_records(self._reader, is_expecting=lambda: self._waiting)
                for record in records:
                    self._take(record.key, record.value)
                await turns_for_effects(len(records))
            except (HubError, TimeoutError, OSError) as error:
                log.debug("replies interrupted", action="replies_interrupted", reason=repr(error))
                await self._drop_reader()
                await asyncio.sleep(RECONNECT_SECONDS)

    def _take(self, token: bytes | None, value: bytes | None) -> None:
        """Process one record of `hub.replies`. The first reply for a token is final, except that a caller with `on_warning` gets
        the engine's warning (`accepted`) before it. Records for unknown tokens are ignored."""
        if token not in self._waiting or value is None:
            return
        pending = self._waiting[token]
        outcome: TaskReply | UnreadableReplyError
        try:
            outcome = reply_of(value)
            if outcome.kind == "accepted" and pending.on_warning is not None:
                pending.on_warning(outcome.warning or "")
                return
        except MalformedRecord as error:
            outcome = UnreadableReplyError(pending.task, str(error))
        del self._waiting[token]
        pending.resolve(outcome)

    async def _drop_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.close()

    def expect(
        self,
        task: str,
        root: str,
        *,
        until_end: bool = True,
        ask_again: bool = True,
        on_warning: Callable[[str], object] | None = None,
    ) -> PendingReply:
        """The reply to a request that is about to be sent. It fails with RepliesFailedError if replies can no longer be read.
        With `ask_again` the engine is queried every ASK_AGAIN_SECONDS while there is no reply. `on_warning` is called with the
        engine's warning when it accepts a submission. Release it with `forget`."""
        self._count += 1
        token = b"%b.%x" % (self._prefix, self._count)
        address = b"%d:%b" % (self.partition, token)
        ask_at = self._loop.time() + ASK_AGAIN_SECONDS if ask_again else inf
        pending = PendingReply(task, root, token, address, until_end=until_end, ask_at=ask_at, on_warning=on_warning)
        self._waiting[token] = pending
        if self._tasks.failure is not None:
            pending.resolve(_failed(self._tasks.failure))
        return pending

    def forget(self, pending: PendingReply) -> None:
        """Stop waiting for this reply."""
        self._waiting.pop(pending.token, None)

    async def _ask_again(self) -> None:
        """Repeat overdue queries; one loop for all waiting callers instead of a timer each."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(ASK_AGAIN_SECONDS / 4)
            now = loop.time()
            late = [pending for pending in self._waiting.values() if pending.ask_at <= now and not pending.is_done]
            for pending in late[:ASKED_AT_ONCE]:
                pending.ask_at = now + ASK_AGAIN_SECONDS
                try:
                    await self._ask(pending.task, pending.root, pending.until_end, pending.address)
                except HubError as error:
                    log.debug("could not resend task.await", action="replies_ask_failed", reason=repr(error))

    async def stop(self) -> None:
        """Stop reading; callers that wait are cancelled."""
        await self._tasks.cancel()
        await self._drop_reader()
        for pending in self._waiting.values():
            pending.resolve(asyncio.CancelledError())
        self._waiting.clear()


def _failed(cause: BaseException) -> RepliesFailedError:
    error = RepliesFailedError(cause)
    error.__cause__ = cause
    return error
