"""Notices: events in the form that readers and alerting services need, and what targets of alerts share.

Rules: `notice`, `identity`, `links`, `cutting` and `alerting` are pure but for writes of the state; only `target` sends, and
`counting` counts.
"""

from .alerting import DEFAULT_TYPES, AlertPolicy, Alerts, seconds_of, types_to_receive
from .counting import Notifications
from .cutting import EscapedText, FreeText, cut_bytes, cut_characters, fit_json, utf16_units
from .links import LinkTemplate, link_of
from .notice import Link, LinkTemplates, Notice, Severity, labels_of, notice_of, resolution_of
from .target import (
    ALERT_DELIVERY,
    JSON_CONTENT,
    AlertRequest,
    AlertSettings,
    HttpAlertSettings,
    HttpTarget,
    NoticeSettings,
    Notifier,
    sink_of,
)

__all__ = [
    "ALERT_DELIVERY",
    "DEFAULT_TYPES",
    "JSON_CONTENT",
    "AlertPolicy",
    "AlertRequest",
    "AlertSettings",
    "Alerts",
    "EscapedText",
    "FreeText",
    "HttpAlertSettings",
    "HttpTarget",
    "Link",
    "LinkTemplate",
    "LinkTemplates",
    "Notice",
    "NoticeSettings",
    "Notifications",
    "Notifier",
    "Severity",
    "cut_bytes",
    "cut_characters",
    "fit_json",
    "labels_of",
    "link_of",
    "notice_of",
    "resolution_of",
    "seconds_of",
    "sink_of",
    "types_to_receive",
    "utf16_units",
]
