"""The broker's core: handles requests and returns responses, at once or later. It does no I/O: sockets, event loop and clock
are outside.

Its driver (the TCP server, a test, a simulation) calls `handle` for each request, writes the pending block when
`on_flush_needed` is called (`cut` -> `Storage.write` -> `written`), and calls `timers.run_due` when the next deadline is
reached.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from ..protocol import APIS, ApiKey, ErrorCode, Message, decode_request, encode_response
from .admin import AdminApi
from .fetch import FetchApi
from .figures import BrokerFigures
from .group_api import GroupApi
from .groups import GroupCoordinator
from .offsets_api import OffsetsApi
from .pending import PendingBlock
from .produce import ProduceApi
from .segment import LogTail
from .settings import BrokerSettings
from .state import BrokerState
from .storage import CheckpointPlan, Storage
from .timing import Clock, Deferred, SystemClock
from .transaction_api import TransactionApi
from .transactions import TransactionCoordinator

TRANSACTION_VERSION = 2
_PRODUCE, _FETCH = int(ApiKey.PRODUCE), int(ApiKey.FETCH)


ANONYMOUS = "User:ANONYMOUS"
"""Kafka's name of a client that has not authenticated."""


class Client(NamedTuple):
    """The sender of a request: client id, address and the principal of its connection."""

    client_id: str
    host: str
    principal: str = ANONYMOUS


Handler = Callable[[int, Message, Client], "Message | Deferred"]


class Broker:
    """The core: topics, groups, transactions and the handlers of all APIs."""

    def __init__(
        self,
        storage: Storage,
        *,
        clock: Clock | None = None,
        settings: BrokerSettings | None = None,
        figures: BrokerFigures | None = None,
    ) -> None:
        self.storage = storage
        self.state = BrokerState(storage, clock or SystemClock(), settings or BrokerSettings(), figures or BrokerFigures())
        self.state.pending.register("started", lambda now_ms: None)
        self.timers = self.state.timers
        self.groups = GroupCoordinator(self.state)
        self.transactions = TransactionCoordinator(self.state, self.groups.offsets.commit)
        self._produce = ProduceApi(self.state, self.transactions)
        self._fetch = FetchApi(self.state)
        self._handlers: dict[int, Handler] = {
            ApiKey.API_VERSIONS: self._api_versions,
            **AdminApi(self.state).handlers(),
            **OffsetsApi(self.state, self.groups, self.transactions).handlers(),
            **GroupApi(self.state, self.groups).handlers(),
            **TransactionApi(self.state, self.transactions, self.groups).handlers(),
        }

    # --- requests

    def handle(self, key: int, version: int, buffer: bytes, at: int, client: Client) -> bytes | Deferred | None:
        """Handle the request whose body starts at position `at` of `buffer`. Returns the encoded response body, a `Deferred`
        that will hold it, or None if no response is expected.

        The API and version must be served (see `protocol.APIS`). Raises `MalformedMessage`."""
        if key == _PRODUCE:
            return self._produce.handle(version, buffer, at)
        if key == _FETCH:
            return self._fetch.handle(version, buffer, at)
        answer = self._handlers[key](version, decode_request(key, version, buffer, at), client)
        if not isinstance(answer, Deferred):
            return encode_response(key, version, answer)
        encoded = Deferred()
        encoded.on_abandoned = answer.abandon
        answer.then(lambda message: encoded.resolve(encode_response(key, version, message)))
        return encoded

    def _api_versions(self, version: int, message: Message, client: Client) -> Message:
        return api_versions(ErrorCode.NONE)

    # --- blocks and checkpoints

    def cut(self) -> PendingBlock:
        """Take the pending journal block; the next change starts a new one."""
        return self.state.pending.cut()

    def written(self, block: PendingBlock) -> None:
        """Call when the block is on disk: releases the responses that waited for it."""
        self.state.pending.written(block)

    def plan_checkpoint(self, *, clean: bool) -> CheckpointPlan:
        """The state as of the last block cut. Call it only when nothing is pending, and pass the plan to the storage after
        that block is on disk."""
        tails = []
        now_ms = self.state.clock.now_ms()
        for log in self.state.topics.logs():
            batches, bases, timestamps = log.unwritten()
            if batches:
                wanted = log.settings.segment_bytes, log.settings.roll_ms
                tails.append(LogTail(log.key, bases[0], log.end, batches, bases, timestamps, *wanted, now_ms))
        state: dict[str, Any] = {
            "topics": self.state.topics.snapshot(),
            "groups": self.groups.offsets.snapshot(),
            "transactions": self.transactions.snapshot(),
        }
        return CheckpointPlan(state, tails, self.state.topics.starts(), clean)

    def checkpointed(self, plan: CheckpointPlan) -> None:
        """Call when the checkpoint is on disk: from now on its batches are read from segment files."""
        ends = {tail.key: tail.end for tail in plan.tails}
        now_ms = self.state.clock.now_ms()
        for log in self.state.topics.logs():
            if log.key in ends:
                log.written(ends[log.key], now_ms)
            log.file_bytes = self.storage.log_bytes(log.key)

    def expire(self) -> None:
        """Remove producers, transactional ids and offsets of groups whose expiration time has passed."""
        now_ms, settings = self.state.clock.now_ms(), self.state.settings
        for log in self.state.topics.logs():
            log.forget_producers(now_ms - settings.producer_expiration_ms)
        self.transactions.expire(now_ms - settings.transactional_id_expiration_ms)
        self.groups.offsets.expire(now_ms - settings.offsets_retention_ms)

    # --- lifecycle

    def recover(self) -> None:
        """Restore the state from the storage and abort open transactions. Leaves a pending block to be written."""
        recovery = self.storage.recover()
        if recovery.state is not None:
            self.state.topics.restore(recovery.state["topics"])
            self.groups.offsets.restore(recovery.state["groups"])
            self.transactions.restore(recovery.state["transactions"])
        replayed = False
        for payload in recovery.blocks:
            self.state.pending.replay(payload)
            replayed = True
        self.transactions.resolve_after_restart(clean=recovery.clean and not replayed)
        self.groups.offsets.members_are_gone()
        for log in self.state.topics.logs():
            log.file_bytes = self.storage.log_bytes(log.key)
        self.state.record("started", self.state.clock.now_ms())


def api_versions(error: ErrorCode) -> Message:
    """The ApiVersions response: the APIs served, and the finalized feature `transaction.version` 2, which makes clients use
    the transaction protocol of KIP-890."""
    return {
        "error_code": error,
        "api_keys": [
            {"api_key": api.key, "min_version": api.lowest, "max_version": api.highest}
            for api in sorted(APIS.values(), key=lambda api: api.key)
        ],
        "supported_features": [{"name": "transaction.version", "min_version": 0, "max_version": TRANSACTION_VERSION}],
        "finalized_features_epoch": 1,
        "finalized_features": [
            {
                "name": "transaction.version",
                "max_version_level": TRANSACTION_VERSION,
                "min_version_level": TRANSACTION_VERSION,
            }
        ],
    }
