"""Receives the notifications of Alertmanager, and creates a task for each alert. See README.md.

`hub.receiver.http` and `hub.receiver.service` import aiohttp; the package itself does not.
"""

from .address import DEFAULT_LISTEN, TOKEN_VARIABLE, ListenAddress, parse_listen, read_token
from .intake import AlertIntake, AlertsNotStored, AlertSummary
from .notification import InvalidNotification, Notification, ReceivedAlert, arguments_of, decode_notification
from .planning import AlertOutcome, AlertTasks, PlannedAlert, plan_alerts

__all__ = [
    "DEFAULT_LISTEN",
    "TOKEN_VARIABLE",
    "AlertIntake",
    "AlertOutcome",
    "AlertSummary",
    "AlertTasks",
    "AlertsNotStored",
    "InvalidNotification",
    "ListenAddress",
    "Notification",
    "PlannedAlert",
    "ReceivedAlert",
    "arguments_of",
    "decode_notification",
    "parse_listen",
    "plan_alerts",
    "read_token",
]
