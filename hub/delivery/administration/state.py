"""`ctx.state`: its limits, the values in memory, and the durable one in `hub.subscribers`."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import MsgspecError, json

from ...throttle import LogThrottle
from .control_records import state_prefix
from .control_topic import ControlWriter

KEY_BYTES_MAX = 1024
VALUE_BYTES_MAX = 64 * 1024
KEYS_MAX = 10_000
TOTAL_BYTES_MAX = 16 * 1024 * 1024
"""Bytes of all keys and values of a subscriber: they are in memory, and are read at each start."""
RETRY_SECONDS = 0.5

_log = logging.getLogger(__name__)


class StateValues:
    """The values in memory, as JSON. Reads may come from any thread."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}
        self._bytes = 0

    def get(self, key: str) -> Any | None:
        """See State."""
        value = self._values.get(key)
        return None if value is None else json.decode(value)

    def keys(self, prefix: str = "") -> list[str]:
        """See State."""
        return sorted(key for key in self._values.copy() if key.startswith(prefix))

    def encoded(self, key: str, value: Any) -> bytes:
        """The value as JSON. Raises ValueError for a limit that a `put` would exceed."""
        check_key(key)
        if value is None:
            raise ValueError("state: a value must not be None; use `delete` to remove a key")
        try:
            data = json.encode(value)
        except (TypeError, MsgspecError, RecursionError) as error:
            raise ValueError(f"state: the value of {key!r} cannot be written as JSON: {error}") from None
        if len(data) > VALUE_BYTES_MAX:
            raise ValueError(f"state: the value of {key!r} has {len(data):,} bytes; the limit is {VALUE_BYTES_MAX:,}")
        if key not in self._values and len(self._values) >= KEYS_MAX:
            raise ValueError(f"state: there are {len(self._values):,} keys; the limit is {KEYS_MAX:,}")
        if self._bytes + self._growth(key, data) > TOTAL_BYTES_MAX:
            raise ValueError(f"state: all keys and values would have more than {TOTAL_BYTES_MAX:,} bytes, which is the limit")
        return data

    def set(self, key: str, data: bytes | None) -> None:
        """Set the JSON of a key, or remove it."""
        self._bytes += self._growth(key, data)
        if data is None:
            self._values.pop(key, None)
        else:
            self._values[key] = data

    def _growth(self, key: str, data: bytes | None) -> int:
        """By how many bytes the total grows if `key` gets the value `data`."""
        old = self._values.get(key)
        return _size(key, data) - _size(key, old)


class StateInMemory(StateValues):
    """A state that ends with its process, for tests."""

    async def put(self, key: str, value: Any) -> None:
        """See State."""
        self.set(key, self.encoded(key, value))

    async def delete(self, key: str) -> None:
        """See State."""
        check_key(key)
        self.set(key, None)


class DurableState(StateValues):
    """The state of one subscriber. `apply` is called with the records of the topic, in the service's loop, which must be the
    running one; `put` and `delete` may be called from any loop."""

    def __init__(self, subscriber: str, writer: ControlWriter) -> None:
        super().__init__()
        self.prefix = state_prefix(subscriber)
        self._subscriber = subscriber
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._followed = -1
        self._written: dict[str, int] = {}
        """Offsets of values that were written here and have not been read from the topic yet."""
        self._throttle = LogThrottle()

    def apply(self, key: bytes, value: bytes | None, offset: int) -> None:
        """Take a record of the topic, in order, unless a later one of this key is known: one that was written here."""
        name = key.removeprefix(self.prefix).decode(errors="replace")
        if offset <= self._followed:  # the topic was deleted and created again
            self._written.clear()
        self._followed = offset
        own = self._written.get(name, -1)
        if offset >= own:
            self._written.pop(name, None)
        if offset > own:
            self.set(name, value if value is None or _is_json(value) else None)

    def wrote(self, key: str, data: bytes | None, offset: int) -> None:
        """Take a value that was written here, at this offset, unless a later record was read."""
        if offset > max(self._followed, self._written.get(key, -1)):
            self.set(key, data)
            self._written[key] = offset

    async def put(self, key: str, value: Any) -> None:
        """See State."""
        await self._write(key, self.encoded(key, value))

    async def delete(self, key: str) -> None:
        """See State."""
        check_key(key)
        if self.get(key) is not None:
            await self._write(key, None)

    async def _write(self, key: str, data: bytes | None) -> None:
        writing = asyncio.run_coroutine_threadsafe(self._write_patiently(key, data), self._loop)
        try:
            await asyncio.wrap_future(writing)
        finally:
            writing.cancel()

    async def _write_patiently(self, key: str, data: bytes | None) -> None:
        record = self.prefix + key.encode()
        offset = await _patiently(lambda: self._writer.put(record, data), self._writer.close, self._report)
        self.wrote(key, data, offset)

    def _report(self, error: Exception) -> None:
        if self._throttle.admit("write") is not None:
            _log.warning(
                "could not write the state of %s, retrying: %s: %s",
                self._subscriber,
                type(error).__name__,
                error,
                extra={"action": "state_delayed"},
            )


async def _patiently(
    write: Callable[[], Awaitable[int]], discard: Callable[[], Awaitable[None]], report: Callable[[Exception], None]
) -> int:
    """The result of `write`, called again after errors until cancelled."""
    while True:
        try:
            return await write()
        except Exception as error:
            report(error)
        await discard()
        await asyncio.sleep(RETRY_SECONDS)


def check_key(key: str) -> None:
    """Raise ValueError unless `key` may be the key of a value."""
    try:
        valid = 1 <= len(key.encode()) <= KEY_BYTES_MAX
    except (AttributeError, UnicodeEncodeError):
        valid = False
    if not valid:
        raise ValueError(f"state: a key must be text of 1 to {KEY_BYTES_MAX:,} bytes")


def _size(key: str, data: bytes | None) -> int:
    return 0 if data is None else len(key) + len(data)


def _is_json(value: bytes) -> bool:
    try:
        json.decode(value)
    except (MsgspecError, RecursionError):
        return False
    return True
