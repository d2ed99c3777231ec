"""The demo: an order's fulfilment as an example of tasks (`app.py`) and of publishing a workflow (`order.py`)."""

from .order import EXPECTED, order_submission, publish_order

REGISTRY = "hub.demo.app:tasks"
"""What a worker of the demo runs."""

__all__ = ["EXPECTED", "REGISTRY", "order_submission", "publish_order"]
