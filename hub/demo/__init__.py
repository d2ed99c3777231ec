"""The demo, fulfilment of an order: an example of tasks (`app.py`) and of publishing a workflow (`order.py`)."""

from .order import EXPECTED, order_submission, publish_order

REGISTRY = "hub.demo.app:tasks"
"""The registry for a worker of the demo."""

__all__ = ["EXPECTED", "REGISTRY", "order_submission", "publish_order"]
