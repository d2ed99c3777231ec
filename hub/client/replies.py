"""Answers for waiting callers: one partition of `hub.replies`, read from its end, and a future per token.

A reply is a hint: a waiting client repeats its request every two seconds (`task.await`), and the engine replies from its
state. Only on a transport in this process no reply is lost.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from math import inf

from msgspec import json

from schemas import TERMINAL_STATES, MalformedRecord, TaskReply, printable, quoted

from ..errors import HubError, Unreachable
from ..kafka import REPLIES, REPLY_PARTITIONS, SEND_SECONDS, RecordReader, StoredRecord, Transport
from ..logs import Logger
from ..service import ServiceTasks
from .errors import RepliesFailedError, UnreadableReplyError

log = Logger(__name__)

ASK_AGAIN_SECONDS = 2.0
ASKED_AT_ONCE = 1_000
RECONNECT_SECONDS = 0.2
READ_RECORDS = 2_000
READ_MS = 1_000
CHECK_SECONDS = 5.0
"""A reader that has received nothing for this time while somebody waits is checked: after the loss of a broker it may hang."""

_decoder = json.Decoder(TaskReply)


def reply_of(value: bytes) -> TaskReply:
    """The reply in the value of a record of `hub.replies`. Raises MalformedRecord, and nothing else."""
    try:
        value.decode()  # The result stays as it is: its decoder does not look into it.
        reply = _decoder.decode(value)
    except (ValueError, RecursionError) as error:
        raise MalformedRecord(printable(str(error))) from None
    if reply.kind == "ended" and reply.state not in TERMINAL_STATES:
        raise MalformedRecord(f"state: {quoted(str(reply.state))} is not the end of a task")
    return reply


#: How to ask for a task: its id, its root, whether the answer may wait for its end, and the address of the answer.
Ask = Callable[[str, str, bool, bytes], Awaitable[None]]


class Waiting:
    """Somebody who waits: for what (`until_end`: for its end, not only its state), and when to ask again."""

    __slots__ = ("address", "ask_at", "future", "on_warning", "root", "task", "until_end")

    def __init__(
        self,
        task: str,
        root: str,
        until_end: bool,
        address: bytes,
        future: "asyncio.Future[TaskReply]",
        ask_at: float,
        on_warning: Callable[[str], object] | None,
    ) -> None:
        self.task, self.root, self.until_end, self.address = task, root, until_end, address
        self.future, self.ask_at, self.on_warning = future, ask_at, on_warning


class ReplyReader:
    """See the module. Owned by one client; `start` before the first token is given out. `ask` asks the engine again."""

    def __init__(self, transport: Transport, client_id: str, ask: Ask) -> None:
        self._transport = transport
        self._ask = ask
        self._client_id = client_id
        self.partition = random.randrange(REPLY_PARTITIONS)  # spreads clients; nothing depends on it
        self._waiting: dict[bytes, Waiting] = {}
        self._count = 0
        self._prefix = f"{random.getrandbits(48):x}"
        self._reader: RecordReader | None = None
        self._tasks = ServiceTasks("the client", self._failed)

    async def start(self, *, timeout_seconds: float = SEND_SECONDS) -> None:
        """Find the end of the partition and begin to read there. While no broker responds, as during a restart, this is repeated
        until the timeout. Raises Unreachable, TopicMissing."""
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
            for waiting in self._waiting.values():
                self._refuse(waiting.future, error)

    @staticmethod
    def _refuse(future: "asyncio.Future[TaskReply]", cause: BaseException) -> None:
        if not future.done():
            error = RepliesFailedError(cause)
            error.__cause__ = cause
            future.set_exception(error)
            future.exception()  # waiting callers get it; it is also logged

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
                    self._reader = await self._open(None)  # What came meanwhile is asked for again.
                for record in await self._next(self._reader):
                    self._take(record.key, record.value)
            except (HubError, TimeoutError, OSError) as error:
                log.debug("replies interrupted", action="replies_interrupted", reason=repr(error))
                await self._drop_reader()
                await asyncio.sleep(RECONNECT_SECONDS)

    async def _next(self, reader: RecordReader) -> list[StoredRecord]:
        """The next records, or none within CHECK_SECONDS. Raises HubError (also if the reader hangs), TimeoutError, OSError."""
        loop = asyncio.get_running_loop()
        check_at = loop.time() + CHECK_SECONDS
        while loop.time() < check_at:
            records = await reader.read(READ_RECORDS, READ_MS)
            if records:
                return records
        if self._waiting:
            await reader.ensure_moving()
        return []

    def _take(self, token: bytes | None, value: bytes | None) -> None:
        """One record of `hub.replies`. The first reply to a token counts, where somebody waits for an end beside what was said
        when the submission was accepted; records that nobody here waits for are ignored."""
        if token not in self._waiting or value is None:
            return
        waiting = self._waiting[token]
        try:
            reply = reply_of(value)
            if reply.kind == "accepted" and waiting.on_warning is not None:
                waiting.on_warning(reply.warning or "")
                return
            del self._waiting[token]
            if not waiting.future.done():
                waiting.future.set_result(reply)
        except MalformedRecord as error:
            del self._waiting[token]
            if waiting.future.done():
                return
            waiting.future.set_exception(UnreadableReplyError(waiting.task, str(error)))
            waiting.future.exception()  # waiting callers get it; otherwise asyncio would log a warning

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
    ) -> tuple[bytes, bytes, "asyncio.Future[TaskReply]"]:
        """A new token, the header `replyto` for it, and the future of its reply, whose error is RepliesFailedError where replies
        cannot be read any more. The engine is asked again for the task when none has come for a while. `on_warning` is given what
        the engine says when it accepts a submission. Give the token back with `forget`."""
        self._count += 1
        token = f"{self._prefix}.{self._count:x}".encode()
        loop = self._loop
        future: asyncio.Future[TaskReply] = loop.create_future()
        address = b"%d:%s" % (self.partition, token)
        ask_at = loop.time() + ASK_AGAIN_SECONDS if ask_again else inf
        self._waiting[token] = Waiting(task, root, until_end, address, future, ask_at, on_warning)
        if self._tasks.failure is not None:
            self._refuse(future, self._tasks.failure)
        return token, address, future

    def forget(self, token: bytes) -> None:
        """Stop waiting for this token."""
        self._waiting.pop(token, None)

    async def _ask_again(self) -> None:
        """One sweep for everybody who waits, instead of a timer each."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(ASK_AGAIN_SECONDS / 4)
            now = loop.time()
            late = [waiting for waiting in self._waiting.values() if waiting.ask_at <= now and not waiting.future.done()]
            for waiting in late[:ASKED_AT_ONCE]:
                waiting.ask_at = now + ASK_AGAIN_SECONDS
                try:
                    await self._ask(waiting.task, waiting.root, waiting.until_end, waiting.address)
                except HubError as error:
                    log.debug("could not resend task.await", action="replies_ask_failed", reason=repr(error))

    async def stop(self) -> None:
        """End; who still waits is cancelled."""
        await self._tasks.cancel()
        await self._drop_reader()
        for waiting in self._waiting.values():
            waiting.future.cancel()
        self._waiting.clear()
