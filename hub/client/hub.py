"""`Hub`: submit, wait, watch, cancel. What users import."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncGenerator, Iterable
from typing import Any, Self

import uuid_utils
from msgspec import MsgspecError, json

from schemas import (
    ABSENT,
    TERMINAL_STATES,
    Event,
    MalformedEvent,
    Submission,
    TaskReply,
    check_id,
    decode_event,
    definition_id,
    printable,
    step_id,
    task_id_of_key,
)

from ..kafka import EVENTS, INTAKE, Cluster, KafkaTransport, Outgoing, Transport, partition_of
from .errors import InvalidSubmissionError, NoAnswerError, TaskRejectedError, TaskUnknownError, UnreadableReplyError, error_of
from .handle import TaskHandle
from .lookup import Made, find_made
from .replies import ReplyReader
from .workflow import Workflow, task_name_and_options

DEFAULT_BOOTSTRAP = "127.0.0.1:9092"

#: How long the engine may take to answer a question about a task (seconds).
ANSWER_SECONDS = 15.0

_BASE = (("ce_specversion", b"1.0"), ("content-type", b"application/json"))
_SUBMISSION_FIELDS = frozenset(Submission.__struct_fields__)


class Hub:
    """A client of one hub, at the address of its Kafka broker. `async with Hub() as hub: ...`"""

    def __init__(
        self,
        bootstrap: str | Cluster | None = None,
        *,
        source: str | None = None,
        linger_ms: int = 0,
        client_id: str | None = None,
        transport: Transport | None = None,
    ) -> None:
        """`bootstrap`: addresses of brokers, or a `Cluster`; the default is the setting HUB_BOOTSTRAP, else the embedded broker's
        address. `source` is the CloudEvents source of what this client sends. `transport` replaces the connection to `bootstrap`.
        Raises Unreachable where an address is none."""
        if transport is None:
            transport = KafkaTransport(Cluster.of(bootstrap or os.environ.get("HUB_BOOTSTRAP") or DEFAULT_BOOTSTRAP))
        self._transport = transport
        self.bootstrap = transport.address
        self._client_id = client_id or f"hub-client-{os.getpid()}"
        self.source = source or f"/client/{socket.gethostname()}/{os.getpid()}"
        self._source_header = ("ce_source", self.source.encode())
        self._sender = transport.sender(client_id=self._client_id, linger_ms=linger_ms)
        self._replies: ReplyReader | None = None
        self._replies_starting = asyncio.Lock()
        self.partitions = 0

    async def start(self) -> None:
        """Connect. Raises Unreachable where no broker answers, TopicMissing where it is not a hub's."""
        self.partitions = await self._transport.describe_partitions()
        await self._sender.start()

    async def stop(self) -> None:
        """Disconnect; everything acknowledged is safe without this client."""
        if self._replies is not None:
            await self._replies.stop()
        await self._sender.stop()

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # Submitting

    async def submit(self, task: Any, args: dict[str, Any] | None = None, *, reply: bool = True, **fields: Any) -> TaskHandle:
        """Submit a task: by name, by a registered function (its options are the defaults), or a Workflow. `fields` are fields of
        a submission: id, idempotency_key, priority, queue, start_after, retry, timeouts, tags, root_id, key, depends_on, ...

        Returns when the submission is stored: from then on it is not lost. Several steps added to a live workflow (`root_id` with
        `tasks`) have no id together: the handle is the workflow's. `reply` false: nobody will wait here for the result.
        Raises InvalidSubmissionError naming the field, BrokerUnreachable.
        """
        return (await self._submit([self._build(task, args, fields)], reply=reply))[0]

    async def submit_many(self, submissions: Iterable[dict[str, Any]], *, reply: bool = True) -> list[TaskHandle]:
        """Submit plain submissions (`{"name": ..., "args": ...}`) side by side; the handles in the same order."""
        return await self._submit([self._check(dict(fields)) for fields in submissions], reply=reply)

    async def run(
        self, task: Any, args: dict[str, Any] | None = None, *, timeout_seconds: float | None = None, **fields: Any
    ) -> Any:
        """Submit and wait: the result. Raises as `submit` and `TaskHandle.result` do."""
        handle = await self.submit(task, args, **fields)
        return await handle.result(timeout_seconds=timeout_seconds)

    def _build(self, task: Any, args: dict[str, Any] | None, fields: dict[str, Any]) -> Submission:
        if isinstance(task, Workflow):
            return self._check({**task.to_json(), **fields, **({"args": args} if args else {})})
        name, defaults = task_name_and_options(task)
        return self._check({"name": name, **defaults, **fields, **({"args": args} if args else {})})

    def _check(self, fields: dict[str, Any]) -> Submission:
        unknown = fields.keys() - _SUBMISSION_FIELDS
        if unknown:
            raise InvalidSubmissionError(f"{min(unknown)}: a submission has no such field")
        try:
            submission = json.decode(json.encode(fields), type=Submission)
        except (MsgspecError, TypeError) as error:
            raise InvalidSubmissionError(f"the submission of {fields.get('name')!r}: {error}") from None
        if submission.id is not None and submission.idempotency_key is not None:
            raise InvalidSubmissionError("id: give either id or idempotency_key, not both")
        for field in ("name", "id", "root_id"):
            value = getattr(submission, field)
            if value is not None and (problem := check_id(value, field)) is not None:
                raise InvalidSubmissionError(problem)
        return submission

    def _identity(self, submission: Submission) -> tuple[str, str]:
        root = submission.root_id
        if root is not None and submission.tasks is not None:
            return root, root  # Several steps have no id together: the handle is the workflow's.
        if submission.idempotency_key is not None:
            task = task_id_of_key(root or submission.namespace, submission.idempotency_key)
        elif root is not None and submission.key is not None and submission.id is None:
            task = step_id(root, submission.key)
        else:
            if submission.id is None:
                submission.id = str(uuid_utils.uuid7())
            task = submission.id
        return task, root or task

    async def _submit(self, submissions: list[Submission], *, reply: bool) -> list[TaskHandle]:
        replies = await self._reader() if reply else None
        trace = _current_traceparent()
        common = [*_BASE, ("ce_type", b"task.created"), self._source_header]
        if trace is not None:
            common.append(("traceparent", trace))
        handles, outgoing = [], []
        for submission in submissions:
            task, root = self._identity(submission)
            several = submission.root_id is not None and submission.tasks is not None
            headers = [*common, ("ce_id", (str(uuid_utils.uuid7()) if several else task).encode())]
            handle = TaskHandle(self, task, root)
            if replies is not None:
                handle._token, address, handle._future = replies.expect(task, root, on_warning=handle._warn)
                headers.append(("replyto", address))
            handles.append(handle)
            outgoing.append(self._outgoing(root, json.encode(submission), headers))
        try:
            await self._sender.send_many(outgoing)
        except BaseException:
            for handle in handles:
                self._forget(handle)
            raise
        return handles

    def _outgoing(self, root: str, value: bytes, headers: list[tuple[str, bytes]]) -> Outgoing:
        return Outgoing(INTAKE, partition_of(root, self.partitions), root.encode(), value, headers)

    async def _request(self, kind: str, root: str, value: dict[str, Any], replyto: bytes | None = None) -> None:
        await self._ask_of(partition_of(root, self.partitions), kind, root, value, replyto)

    async def _ask_of(self, partition: int, kind: str, key: str, value: dict[str, Any], replyto: bytes | None) -> None:
        """Send a request to one engine partition."""
        headers = [*_BASE, ("ce_type", kind.encode()), self._source_header, ("ce_id", str(uuid_utils.uuid7()).encode())]
        if replyto is not None:
            headers.append(("replyto", replyto))
        await self._sender.send(Outgoing(INTAKE, partition, key.encode(), json.encode(value), headers))

    # Waiting

    async def _reader(self) -> ReplyReader:
        if self._replies is None:
            async with self._replies_starting:
                if self._replies is None:
                    replies = ReplyReader(self._transport, self._client_id, self._ask)
                    await replies.start()
                    self._replies = replies
        return self._replies

    async def _ask(self, task: str, root: str, until_end: bool, address: bytes) -> None:
        value: dict[str, Any] = {"id": task, "root": root}
        await self._request("task.await", root, value if until_end else {**value, "wait": False}, address)

    def _forget(self, handle: TaskHandle) -> None:
        if self._replies is not None and handle._token is not None:
            self._replies.forget(handle._token)

    async def outcome_of(self, handle: TaskHandle, *, timeout_seconds: float | None = None) -> TaskReply:
        """See TaskHandle.outcome."""
        replies = await self._reader()
        if handle._future is None:
            handle._token, address, handle._future = replies.expect(handle.id, handle.root)
            await self._ask(handle.id, handle.root, True, address)
        future: asyncio.Future[TaskReply] = handle._future
        if not future.done():
            async with asyncio.timeout(timeout_seconds):
                await asyncio.wait([future])
        try:
            reply = future.result()
        except UnreadableReplyError:
            handle._future = None  # Whoever asks once more, asks the engine.
            raise
        self._forget(handle)
        if reply.result_omitted:
            await self._fill_in(reply, handle)
        return reply

    async def result_of(self, handle: TaskHandle, *, timeout_seconds: float | None = None) -> Any:
        """See TaskHandle.result."""
        reply = await self.outcome_of(handle, timeout_seconds=timeout_seconds)
        error = error_of(reply)
        if error is not None:
            raise error
        try:
            return json.decode(reply.result) if reply.result else None
        except (ValueError, RecursionError) as problem:
            raise UnreadableReplyError(reply.task, f"result: {printable(str(problem))}") from None

    async def _fill_in(self, reply: TaskReply, handle: TaskHandle) -> None:
        """A result too large for the ended index is on the terminal event."""
        async for event in self._events_of(handle.id, handle.root, reply.log_offset):
            if event.subject == handle.id and event.sequence == reply.sequence and event.to_state in TERMINAL_STATES:
                reply.result, reply.result_omitted = getattr(event.data, "result", ABSENT), False

    # Asking

    async def get(self, task: str, *, root: str | None = None, timeout_seconds: float = ANSWER_SECONDS) -> TaskReply:
        """The task as it is now (kind `state`, `ended` or `unknown`). `root` is needed for a step of a workflow.

        Raises NoAnswerError (a TimeoutError)."""
        replies = await self._reader()
        token, address, future = replies.expect(task, root or task, until_end=False)
        try:
            await self._ask(task, root or task, False, address)
            async with asyncio.timeout(timeout_seconds):
                return await future
        except TimeoutError:
            raise NoAnswerError(task, self.bootstrap, timeout_seconds) from None
        finally:
            replies.forget(token)

    async def find(self, event_id: str, *, source: str | None = None) -> list[Made]:
        """What became of the CloudEvents of this id (and source) on `hub.intake`: the tasks that they made, or refusals.

        Reads all of `hub.events` that is kept. The id of a task whose submission gave neither `id` nor `idempotency_key` is known
        without it: `schemas.task_id_of_cloudevent(source, event_id)`. Raises Unreachable."""
        return await find_made(self._transport, self.partitions, event_id, source=source)

    async def cancel(self, task: str, *, root: str | None = None, reason: str = "", by: str | None = None) -> None:
        """Ask that a task or a whole workflow ends; returns when the request is stored."""
        await self._request("task.cancel", root or task, {"id": task, "root": root, "reason": reason, "by": by or self.source})

    async def deprecate(
        self, name: str, version: str, *, namespace: str | None = None, reason: str = "", by: str | None = None
    ) -> None:
        """Deprecate a version of a task: it is no longer the default of its name while there is another. `namespace`: that of the
        definition, None where it is for every namespace. A partition where it is deprecated already stays as it is.

        Raises TaskRejectedError where a partition refuses it, NoAnswerError."""
        value = {"name": name, "version": version, "namespace": namespace, "reason": reason, "by": by or self.source}
        replies = await self._reader()
        expected = [replies.expect("", "", until_end=False, ask_again=False) for _ in range(self.partitions)]
        try:
            for partition, (_, address, _) in enumerate(expected):
                await self._ask_of(partition, "definition.deprecate", definition_id(namespace, name, version), value, address)
            async with asyncio.timeout(ANSWER_SECONDS):
                answers = [await future for _, _, future in expected]
        except TimeoutError:
            raise NoAnswerError(f"definition {definition_id(namespace, name, version)}", self.bootstrap, ANSWER_SECONDS) from None
        finally:
            for token, _, _ in expected:
                replies.forget(token)
        for reply in answers:
            if reply.kind == "rejected" and reply.code != "already_deprecated":
                raise TaskRejectedError(f"Partition {reply.partition} refused it ({reply.code}): {reply.reason}", reply)

    async def watch(self, task: str, *, root: str | None = None) -> AsyncGenerator[Event, None]:
        """The events of a task from its first on, live, up to its end; those of a workflow include its steps'.

        Raises TaskUnknownError where the engine knows nothing of it, NoAnswerError."""
        reply = await self.get(task, root=root)
        if reply.kind == "unknown":
            raise TaskUnknownError(f"Task {task} is unknown or has expired.", reply)
        async for event in self._events_of(task, root or task, reply.log_offset):
            yield event

    async def _events_of(self, task: str, root: str, offset: int) -> AsyncGenerator[Event, None]:
        async with self._transport.reader(client_id=self._client_id) as reader:
            await reader.open(EVENTS, partition_of(root, self.partitions), 0)
            reader.seek(max(offset, await reader.start_offset()))
            while True:
                for record in await reader.read(1000, 1000):
                    try:
                        event = decode_event(record.value, record.headers)
                    except MalformedEvent:
                        continue  # Not ours to judge: `hub verify` reports it.
                    if event.subject != task and event.rootid != task:
                        continue
                    yield event
                    if event.subject == task and event.to_state in TERMINAL_STATES:
                        return


def _current_traceparent() -> bytes | None:
    """The W3C trace context of the current OpenTelemetry span, where the program traces."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return b"00-%032x-%016x-%02x" % (context.trace_id, context.span_id, int(context.trace_flags))
