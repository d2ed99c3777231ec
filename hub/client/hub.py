"""`Hub`, the client: submit, wait, watch, cancel."""

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Any, Self, TypeVar

import uuid_utils
from msgspec import json

from schemas import (
    ABSENT,
    TERMINAL_STATES,
    Event,
    Submission,
    TaskReply,
    definition_id,
    printable,
)
from schemas.reports import DefinitionDeprecate, TaskAwait, TaskCancel, TaskRequest

from ..core import SOURCE_BYTES, check_cancel, check_ids, escaped_bytes
from ..errors import ConfigurationError, HubError
from ..kafka import INTAKE, SEND_SECONDS, Cluster, HeaderTemplate, KafkaTransport, Outgoing, Transport, partition_of
from .errors import (
    InvalidRequestError,
    NoAnswerError,
    TaskRejectedError,
    TaskUnknownError,
    UnreadableReplyError,
    WaitTimeoutError,
    error_of,
)
from .handle import TaskHandle
from .lookup import Made, find_made
from .pending import PendingReply
from .replies import ReplyReader
from .submissions import checked, identity_of, submission_of
from .tracing import current_traceparent
from .watching import events_of

DEFAULT_BOOTSTRAP = "127.0.0.1:9092"

#: Timeout of a query about a task (seconds).
ANSWER_SECONDS = 15.0

#: Timeout of the query of the task's state for the message of WaitTimeoutError (seconds).
STATE_SECONDS = 1.0

Request = TypeVar("Request", bound=TaskRequest)

_encoder = json.Encoder()
_BASE = (("ce_specversion", b"1.0"), ("content-type", b"application/json"))


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
        """`bootstrap`: addresses of brokers, or a `Cluster`; the default is the environment variable HUB_BOOTSTRAP, else the
        default address of the embedded broker. `source`: the CloudEvents source of all records that this client sends.
        `linger_ms`: time to wait for further records before a batch is sent (milliseconds). `transport` replaces the connection
        to `bootstrap`. Raises Unreachable if `bootstrap` is not an address, ConfigurationError if `source` is too long."""
        if transport is None:
            transport = KafkaTransport(Cluster.of(bootstrap or os.environ.get("HUB_BOOTSTRAP") or DEFAULT_BOOTSTRAP))
        self._transport = transport
        self.bootstrap = transport.address
        self._client_id = client_id or f"hub-client-{os.getpid()}"
        self.source = source or f"/client/{socket.gethostname()}/{os.getpid()}"
        if escaped_bytes(self.source) > SOURCE_BYTES:
            raise ConfigurationError(f"source: it is longer than {SOURCE_BYTES} bytes; use a shorter one.")
        common = (*_BASE, ("ce_source", self.source.encode()))
        self._submission_headers = HeaderTemplate((*common, ("ce_type", b"task.created")), "ce_id")
        self._request_headers = HeaderTemplate(common, "ce_type")
        self._sender = transport.sender(client_id=self._client_id, linger_ms=linger_ms)
        self._replies: ReplyReader | None = None
        self._replies_starting = asyncio.Lock()
        self.partitions = 0

    async def start(self) -> None:
        """Connect. Raises Unreachable if no broker responds, TopicMissing if the hub's topics do not exist."""
        self.partitions = await self._transport.describe_partitions()
        await self._sender.start()

    async def stop(self) -> None:
        """Disconnect. Submitted tasks continue."""
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
        """Submit a task, by name or by a registered function (whose options are the defaults), or a Workflow. `args`: the
        arguments by name, as JSON types. `fields`: fields of a submission: id, idempotency_key, priority, queue, start_after,
        retry, timeouts, tags, root_id, key, depends_on, ...

        Returns a handle when the submission is stored; from then on it is not lost. For several steps added to a live workflow
        (`root_id` with `tasks`) it is the workflow's handle. With `reply=False` the engine sends no reply when the task ends.
        Raises InvalidSubmissionError, which names the field, before anything is sent; BrokerUnreachable.
        """
        return (await self._submit([submission_of(task, args, fields)], reply=reply))[0]

    async def submit_many(self, submissions: Iterable[dict[str, Any]], *, reply: bool = True) -> list[TaskHandle]:
        """Submit several submissions (`{"name": ..., "args": ...}`) concurrently. Returns their handles in the same order. Raises
        as `submit` does."""
        return await self._submit([checked(dict(fields)) for fields in submissions], reply=reply)

    async def run(
        self, task: Any, args: dict[str, Any] | None = None, *, timeout_seconds: float | None = None, **fields: Any
    ) -> Any:
        """Submit a task, wait for its end, and return its result. Raises as `submit` and `TaskHandle.result` do."""
        (handle,) = await self._submit([submission_of(task, args, fields)])
        return await self.result_of(handle, timeout_seconds=timeout_seconds)

    async def _submit(self, submissions: list[Submission], *, reply: bool = True) -> list[TaskHandle]:
        replies = (self._replies or await self._reader()) if reply else None
        trace = current_traceparent()
        tracing = () if trace is None else (("traceparent", trace),)
        handles, outgoing = [], []
        for submission in submissions:
            task, root = identity_of(submission)
            several = submission.root_id is not None and submission.tasks is not None
            event_id = str(uuid_utils.uuid7()) if several else task
            handle, further = TaskHandle(self, task, root), tracing
            if replies is not None:
                handle._pending = replies.expect(task, root, on_warning=handle._warn)
                further = (*tracing, ("replyto", handle._pending.address))
            handles.append(handle)
            headers = self._submission_headers.fill(event_id.encode(), *further)
            partition = partition_of(root, self.partitions)
            outgoing.append(Outgoing(INTAKE, partition, root.encode(), _encoder.encode(submission), headers))
        try:
            await self._sender.send_many(outgoing)
        except BaseException:
            for handle in handles:
                self._forget(handle)
            raise
        return handles

    async def _request(self, kind: str, request: TaskRequest, replyto: bytes | None = None) -> None:
        root = request.root or request.id
        await self._send_request(partition_of(root, self.partitions), kind, root, request, replyto)

    async def _send_request(
        self, partition: int, kind: str, key: str, request: TaskRequest | DefinitionDeprecate, replyto: bytes | None
    ) -> None:
        """Send a request to one engine partition."""
        event_id = ("ce_id", str(uuid_utils.uuid7()).encode())
        headers = self._request_headers.fill(kind.encode(), event_id, *(() if replyto is None else [("replyto", replyto)]))
        await self._sender.send(Outgoing(INTAKE, partition, key.encode(), json.encode(request), headers))

    # Waiting

    async def _reader(self, timeout_seconds: float | None = None) -> ReplyReader:
        """The reader of replies, created by the first call. Raises Unreachable if no broker responds within the timeout (default
        and maximum: that of sending), TopicMissing."""
        if self._replies is None:
            async with self._replies_starting:
                if self._replies is None:
                    replies = ReplyReader(self._transport, self._client_id, self._ask)
                    seconds = SEND_SECONDS if timeout_seconds is None else min(timeout_seconds, SEND_SECONDS)
                    await replies.start(timeout_seconds=seconds)
                    self._replies = replies
        return self._replies

    async def _ask(self, task: str, root: str, until_end: bool, address: bytes) -> None:
        await self._request("task.await", TaskAwait(id=task, root=root, wait=until_end), address)

    def _forget(self, handle: TaskHandle) -> None:
        if self._replies is not None and handle._pending is not None:
            self._replies.forget(handle._pending)

    async def outcome_of(self, handle: TaskHandle, *, timeout_seconds: float | None = None) -> TaskReply:
        """See TaskHandle.outcome."""
        pending = handle._pending
        if pending is None:
            replies = await self._reader(timeout_seconds)
            pending = handle._pending  # another call may have begun to wait meanwhile
            if pending is None:
                pending = handle._pending = replies.expect(handle.id, handle.root)
                await self._ask(handle.id, handle.root, True, pending.address)
        if not (pending.is_done or await pending.wait(timeout_seconds)):
            raise WaitTimeoutError(handle.id, timeout_seconds or 0.0, await self._state_of(handle))
        try:
            reply = pending.result()
        except UnreadableReplyError:
            handle._pending = None  # another call queries the engine
            raise
        if reply.result_omitted:
            await self._fill_in(reply, handle)
        return reply

    async def _state_of(self, handle: TaskHandle) -> str | None:
        """The state of a task; None if the engine does not respond within STATE_SECONDS."""
        try:
            return (await self.get(handle.id, root=handle.root, timeout_seconds=STATE_SECONDS)).state
        except HubError:
            return None

    async def admission_of(self, handle: TaskHandle, *, timeout_seconds: float = ANSWER_SECONDS) -> TaskReply:
        """See TaskHandle.admitted."""
        if handle._pending is None:
            raise ValueError(f"{handle!r} was submitted with reply=False: a rejection of it is not reported")
        try:
            return await self._answered(handle._pending, handle.id, handle.root, timeout_seconds)
        except TaskRejectedError:
            self._forget(handle)
            raise

    async def _answered(self, first: PendingReply, task: str, root: str | None, timeout_seconds: float) -> TaskReply:
        """Query the task after a stored request. The engine replies in the order of requests: if it rejected the stored one,
        `first`, the reply to it, is done before the query returns. Raises TaskRejectedError, NoAnswerError."""
        reply = await self.get(task, root=root, timeout_seconds=timeout_seconds)
        error = error_of(first.result()) if first.is_done else None
        if isinstance(error, TaskRejectedError):
            raise error
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
        """Read a result that is too large for the index of ended tasks from the terminal event."""
        async for event in self._events_of(handle.id, handle.root, reply.log_offset):
            if event.subject == handle.id and event.sequence == reply.sequence and event.to_state in TERMINAL_STATES:
                reply.result, reply.result_omitted = getattr(event.data, "result", ABSENT), False

    # Queries and requests

    async def get(self, task: str, *, root: str | None = None, timeout_seconds: float = ANSWER_SECONDS) -> TaskReply:
        """The present state of a task (a reply of kind `state`, `ended` or `unknown`). `root` is required for a step of a
        workflow.

        Raises InvalidRequestError, NoAnswerError (a TimeoutError)."""
        _checked(TaskAwait(id=task, root=root))
        replies = await self._reader(timeout_seconds)
        pending = replies.expect(task, root or task, until_end=False)
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._ask(task, root or task, False, pending.address)
                await pending.wait()
        except TimeoutError:
            raise NoAnswerError(task, self.bootstrap, timeout_seconds) from None
        finally:
            replies.forget(pending)
        return pending.result()

    async def find(self, event_id: str, *, source: str | None = None) -> list[Made]:
        """The tasks that CloudEvents with this id (and source) on `hub.intake` created, or their rejections.

        Reads all of `hub.events`. The id of a task whose submission has neither `id` nor `idempotency_key` can be computed
        without reading: `schemas.task_id_of_cloudevent(source, event_id)`. Raises Unreachable."""
        return await find_made(self._transport, self.partitions, event_id, source=source)

    async def cancel(self, task: str, *, root: str | None = None, reason: str = "", by: str | None = None) -> None:
        """Request the cancellation of a task or a whole workflow; returns when the request is stored. Raises
        InvalidRequestError."""
        await self._request("task.cancel", self._cancel(task, root, reason, by))

    async def cancel_confirmed(
        self,
        task: str,
        *,
        root: str | None = None,
        reason: str = "",
        by: str | None = None,
        timeout_seconds: float = ANSWER_SECONDS,
    ) -> TaskReply:
        """Like `cancel`, but wait until the engine has decided on the request, and return the task's state (`cancelled`, or
        `running` until its handler has stopped).

        Raises TaskRejectedError (`code`: unknown_task, already_ended, already_cancelling), InvalidRequestError, NoAnswerError."""
        request = self._cancel(task, root, reason, by)
        replies = await self._reader(timeout_seconds)
        pending = replies.expect(task, root or task)
        try:
            await self._request("task.cancel", request, pending.address)
            return await self._answered(pending, task, root, timeout_seconds)
        finally:
            replies.forget(pending)

    def _cancel(self, task: str, root: str | None, reason: str, by: str | None) -> TaskCancel:
        request = TaskCancel(id=task, root=root, reason=reason, by=by or self.source)
        if (problem := check_cancel(request)) is not None:
            raise InvalidRequestError(problem, task=task)
        return _checked(request)

    async def deprecate(
        self, name: str, version: str, *, namespace: str | None = None, reason: str = "", by: str | None = None
    ) -> None:
        """Deprecate a version of a task: it is no longer the default version, unless all versions of the name are deprecated.
        `namespace`: that of the definition, None for a definition for all namespaces. Has no effect on partitions where the
        version is already deprecated.

        Raises TaskRejectedError if a partition rejects the request, NoAnswerError."""
        request = DefinitionDeprecate(name=name, version=version, namespace=namespace, reason=reason, by=by or self.source)
        replies = await self._reader()
        expected = [replies.expect("", "", until_end=False, ask_again=False) for _ in range(self.partitions)]
        try:
            for partition, pending in enumerate(expected):
                await self._send_request(partition, "definition.deprecate", request.name, request, pending.address)
            async with asyncio.timeout(ANSWER_SECONDS):
                for pending in expected:
                    await pending.wait()
        except TimeoutError:
            raise NoAnswerError(f"definition {definition_id(namespace, name, version)}", self.bootstrap, ANSWER_SECONDS) from None
        finally:
            for pending in expected:
                replies.forget(pending)
        for reply in [pending.result() for pending in expected]:
            if reply.kind == "rejected" and reply.code != "already_deprecated":
                raise TaskRejectedError(f"Partition {reply.partition} rejected it ({reply.code}): {reply.reason}", reply)

    async def watch(self, task: str, *, root: str | None = None) -> AsyncGenerator[Event, None]:
        """The events of a task, live, from the first one until its end; for a workflow including those of its steps.

        While no broker responds, as during a restart, it waits, and continues after the last event. Raises Unreachable if no
        broker responds for a minute, TaskUnknownError if the task is unknown, NoAnswerError."""
        reply = await self.get(task, root=root)
        if isinstance(error := error_of(reply), TaskUnknownError):
            raise error
        async with aclosing(self._events_of(task, root or task, reply.log_offset)) as events:
            async for event in events:
                yield event

    def _events_of(self, task: str, root: str, offset: int) -> AsyncGenerator[Event, None]:
        partition = partition_of(root, self.partitions)
        return events_of(self._transport, partition, offset, task, client_id=self._client_id, outage_seconds=SEND_SECONDS)


def _checked(request: Request) -> Request:
    """Check the ids in a request about a task, and return it. Raises InvalidRequestError."""
    if (problem := check_ids(request)) is not None:
        raise InvalidRequestError(problem, code="malformed", task=request.id)
    return request
