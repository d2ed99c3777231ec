"""A client for tests: sends single requests in versions that ordinary clients do not use.

kio encodes the requests, not the code of the broker.
"""

import asyncio
import importlib
import io
import struct
import time
from collections.abc import Callable, Sequence
from typing import Any

from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from kio.schema.request_header.v1.header import RequestHeader as HeaderV1
from kio.schema.request_header.v2.header import RequestHeader as HeaderV2
from kio.serial import entity_reader, entity_writer
from kio.static.primitive import i32

from hub.broker import BrokerServer
from hub.broker.timing import SystemClock

STARTED_MS = int(time.time() * 1000)
"""Timestamp of batches that do not say another: recent, or retention would remove them."""


def kio_class(api: str, version: int, kind: str, name: str = "") -> Any:
    """A message class of kio: `api` in snake case; `name` for a nested struct."""
    module = importlib.import_module(f"kio.schema.{api}.v{version}.{kind}")
    return getattr(module, name or "".join(part.capitalize() for part in api.split("_")) + kind.capitalize())


class RawClient:
    """One connection. Use as an async context manager."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._sent = 0

    async def __aenter__(self) -> "RawClient":
        self.reader, self.writer = await asyncio.open_connection(*self._address)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.writer.close()

    def send(self, request: Any) -> None:
        """Send a kio request."""
        self._sent += 1
        header = (HeaderV2 if request.__flexible__ else HeaderV1)(
            request_api_key=request.__api_key__,
            request_api_version=request.__version__,
            correlation_id=i32(self._sent),
            client_id="raw",
        )
        buffer = io.BytesIO()
        entity_writer(type(header))(buffer, header)
        entity_writer(type(request))(buffer, request)
        self.send_frame(buffer.getvalue())

    def send_frame(self, frame: bytes) -> None:
        """Send bytes as a frame."""
        self.writer.write(struct.pack(">i", len(frame)) + frame)

    async def receive_frame(self) -> bytes:
        """Next frame."""
        async with asyncio.timeout(60):
            (size,) = struct.unpack(">i", await self.reader.readexactly(4))
            return await self.reader.readexactly(size)

    async def receive(self, response: Any) -> Any:
        """Next answer, read as this kio class."""
        frame = await self.receive_frame()
        skip = 5 if response.__flexible__ and response.__api_key__ != 18 else 4
        answer, size = entity_reader(response)(frame, skip)
        assert skip + size == len(frame)
        return answer

    async def ask(self, api: str, version: int, **values: Any) -> Any:
        """Send a request made of these values and return the answer."""
        self.send(kio_class(api, version, "request")(**values))
        return await self.receive(kio_class(api, version, "response"))


def batch(
    values: Sequence[bytes],
    *,
    producer_id: int = -1,
    epoch: int = -1,
    sequence: int = -1,
    transactional: bool = False,
    timestamp_ms: int = STARTED_MS,
) -> bytes:
    """A record batch built by aiokafka."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=int(transactional),
        producer_id=producer_id,
        producer_epoch=epoch,
        base_sequence=sequence,
        batch_size=1 << 30,
    )
    for index, value in enumerate(values):
        assert builder.append(index, timestamp_ms + index, None, value, []) is not None
    return bytes(builder.build())


def values_of(data: bytes) -> list[bytes]:
    """Values of all records in whole batches; markers are left out."""
    found, at = [], 0
    while at < len(data):
        (length,) = struct.unpack_from(">i", data, at + 8)
        entry = DefaultRecordBatch(data[at : at + 12 + length])
        if not entry.is_control_batch:
            found += [record.value for record in entry]
        at += 12 + length
    return found


class LateClock(SystemClock):
    """The machine's clocks, put forward by a test: what has a timeout of an hour is over when the test says so."""

    def __init__(self) -> None:
        self._later = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self._later

    def now_ms(self) -> int:
        return super().now_ms() + int(self._later * 1000)

    def advance(self, server: BrokerServer, seconds: float) -> None:
        """Let so much time pass at once, and do what is due then. Call on the broker's loop."""
        self._later += seconds
        server.broker.timers.run_due()


async def until(condition: Callable[[], bool], *, seconds: float = 60.0) -> None:
    """Return as soon as the condition holds; TimeoutError when it does not in time."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
