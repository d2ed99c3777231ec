"""Records the trace of an order as a collector gets it: `python -m tests.otel.traced_order` writes `traced_order.json`.

A real `hub up` with a worker whose handlers have spans of their own (`orders.py`) fulfils one order of the demo.
"""

import asyncio
import json
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from hub.demo import order_submission, publish_order
from hub.kafka import Cluster
from tests.checklist.whole_hub import Collector
from tests.e2e.processes import HubProcess

from .picture import RECORDING, RecordedSpan

WORKER = "tests.otel.orders:tasks"
ORDER = "order-1042"
DEADLINE_SECONDS = 60.0
ERROR = 2


def spans_in(messages: Iterable[bytes]) -> list[RecordedSpan]:
    """The spans of export requests, each once, by start."""
    found: dict[str, RecordedSpan] = {}
    for message in messages:
        for of_resource in ExportTraceServiceRequest.FromString(message).resource_spans:
            for scoped in of_resource.scope_spans:
                for span in scoped.spans:
                    found[span.span_id.hex()] = _recorded(span, scoped.scope.name)
    begin = min((span.start for span in found.values()), default=0)
    moved = [span._replace(start=(span.start - begin) // 1000, end=(span.end - begin) // 1000) for span in found.values()]
    return sorted(moved, key=lambda span: (span.start, span.end, span.name))


def _recorded(span: Any, scope: str) -> RecordedSpan:
    step = next((one.value.string_value for one in span.attributes if one.key == "hub.step.name"), "")
    return RecordedSpan(
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.name,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        span.links[0].span_id.hex() if span.links else "",
        span.status.message if span.status.code == ERROR else None,
        step,
        scope,
    )


async def record() -> list[RecordedSpan]:
    """Run the order, and return its spans."""
    with tempfile.TemporaryDirectory() as folder, Collector() as collector:
        return spans_in(await messages_of_order(Path(folder), collector))


async def messages_of_order(folder: Path, collector: Collector) -> Sequence[bytes]:
    """Run an order; the export requests of its trace."""
    settings = {"HUB_OTLP_ENDPOINT": collector.url, "HUB_OTLP_COMPRESSION": "none"}
    arguments = ["up", "--data", str(folder / "data"), "--port", "0", "--health-port", "0", "--worker", WORKER]
    arguments += ["--slots", "1"]  # a step waits in the queue while another runs
    up = await HubProcess("up", arguments, folder, settings).start()
    try:
        cluster = Cluster.of(up.about["address"])
        await publish_order(cluster, order_submission(ORDER, 1042))
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not any(span.name == "run fulfil-order" for span in spans_in(_traces(collector))):
                await asyncio.sleep(0.05)
    finally:
        await up.stop()  # the worker exports the rest of its spans
    return _traces(collector)


def _traces(collector: Collector) -> list[bytes]:
    return [body for path, body in list(collector.bodies) if path == "/v1/traces"]


if __name__ == "__main__":
    spans = asyncio.run(record())
    RECORDING.write_text("[\n" + ",\n".join(json.dumps(span._asdict()) for span in spans) + "\n]\n")
    print(f"{len(spans)} spans in {RECORDING.name}")
