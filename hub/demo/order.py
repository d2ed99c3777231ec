"""The order of the demo: a workflow as plain JSON, published as a `task.created` CloudEvent by a plain Kafka producer.

Any Kafka client can do the same: write a record to `hub.intake` with the task's id as key, the headers of a CloudEvent, and the
submission as value. Here it is a producer of aiokafka, created by `hub.kafka.make_producer`, which only sets acks and
idempotence.
"""

import json
from typing import Any

from ..kafka import INTAKE, Cluster, make_producer

#: The expected end of each step: state, number of attempts.
EXPECTED = {
    "reserve": ("completed", 1),
    "charge": ("completed", 2),
    "pack": ("completed", 1),
    "ship": ("completed", 1),
    "confirm": ("completed", 1),
}


def order_submission(task_id: str, order: int) -> dict[str, Any]:
    """The workflow: a diamond (reserve, then charge and pack, then ship) and a confirmation."""
    return {
        "id": task_id,
        "name": "fulfil-order",
        "tags": {"order": str(order)},
        "tasks": {
            "reserve": {"name": "reserve-stock", "args": {"order": order, "items": ["kettle", "two cups"]}},
            "charge": {
                "name": "charge-card",
                "args": {"amount": "49.90 EUR"},
                "depends_on": ["reserve"],
                "retry": {"max_attempts": 3, "backoff": [0.5]},
            },
            "pack": {"name": "pack-parcel", "depends_on": ["reserve"]},
            "ship": {
                "name": "ship-parcel",
                "args": {"carrier": "Northern Post"},
                "depends_on": ["charge", "pack"],
                "start_after": 1.0,
            },
            "confirm": {"name": "confirm-order", "args": {"customer": "Ada"}, "depends_on": ["ship"]},
        },
    }


async def publish_order(cluster: Cluster, submission: dict[str, Any]) -> None:
    """Send the submission; returns when the broker has stored it."""
    task_id = submission["id"].encode()
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_type", b"task.created"),
        ("ce_source", b"/shop/checkout"),
        ("ce_id", task_id),  # sending it again creates no second task
        ("content-type", b"application/json"),
    ]
    producer = make_producer(cluster)
    await producer.start()
    try:
        await producer.send_and_wait(INTAKE, key=task_id, value=json.dumps(submission).encode(), headers=headers)
    finally:
        await producer.stop()
