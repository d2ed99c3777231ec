"""Alertmanager: alerts to its API version 2, for teams whose routes, silences and inhibitions are there.

    [[subscribers]]
    use = "alertmanager"
    settings = { url = "http://alertmanager:9093", labels = { team = "shop" } }

The labels identify an alert, so they have no ids. An alert is sent with an end in the future (`expires_after`), again every
`resend_after` while events arrive, and with its real end when it is resolved. So it ends by itself if the hub does not return.

The label `hub_origin` says what failed: "task" (also attempts and workflows), "worker", "engine", or "rule". Something that
creates tasks from alerts must ignore those of origin "task": otherwise a task that handles alerts, and fails, creates the next
one.

Source: the OpenAPI specification of Alertmanager's API v2 (postableAlerts).
"""

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, SecretStr, model_validator

from schemas import Event

from .api import Duration, Meta, SubscriberContext, on, parse_duration
from .notices import JSON_CONTENT, AlertRequest, HttpAlertSettings, HttpTarget, Notice, cut_bytes, fit_json, seconds_of
from .sinks import SecretUrl

TEXT_BYTES_MAX, BODY_BYTES_MAX = 8192, 8_000_000
_ORIGINS = {"task": "task", "attempt": "task", "workflow": "task", "alert": "rule"}
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


def _are_labels(labels: dict[str, str]) -> dict[str, str]:
    for name in labels:
        if _LABEL.fullmatch(name) is None or name.startswith(("__", "hub_")) or name in ("alertname", "severity"):
            raise ValueError(f"{name!r} cannot be a label: letters, digits and _ only, not alertname, severity, hub_* or __*")
    return labels


class AlertmanagerSettings(HttpAlertSettings):
    """`url`: the address of Alertmanager, without /api/v2. `username` and `password`, or `token`: credentials. `labels` are added
    to each alert. `resend_after`, `expires_after`: see the module."""

    url: SecretUrl
    username: str = ""
    password: SecretStr | None = None
    token: SecretStr | None = None
    labels: Annotated[dict[str, str], AfterValidator(_are_labels)] = {}
    resend_after: Duration = "1m"
    expires_after: Duration = "4h"

    @model_validator(mode="after")
    def _one_kind_of_credentials(self) -> "AlertmanagerSettings":
        if bool(self.username) != (self.password is not None) or (self.username and self.token is not None):
            raise ValueError("credentials must be username and password, or token, or neither")
        return self

    @property
    def headers(self) -> dict[str, str]:
        """The headers of a request, with the credentials."""
        if self.token is not None:
            return {**JSON_CONTENT, "authorization": f"Bearer {self.token.get_secret_value()}"}
        if self.password is not None:
            pair = f"{self.username}:{self.password.get_secret_value()}"
            return {**JSON_CONTENT, "authorization": f"Basic {b64encode(pair.encode()).decode()}"}
        return dict(JSON_CONTENT)


class Alertmanager(HttpTarget[AlertmanagerSettings]):
    """Sends alerts until they are resolved."""

    name = "alertmanager"

    async def open(self, ctx: SubscriberContext) -> None:
        """As all targets; all alerts that fire are sent again at the first event."""
        await super().open(ctx)
        self._resend_at = 0.0

    @on("*")
    async def receive(self, event: Event, meta: Meta) -> None:
        """Send the alerts that fire, if that is due; and those that begin or end because of this event."""
        self._now = seconds_of(event.time)
        if self._now >= self._resend_at:
            if firing := [one for one in self.alerts.firing() if one.group is not None]:
                await self.post(self._request(firing))
            self._resend_at = self._now + parse_duration(self.settings.resend_after)
        await super().receive(event, meta)

    def request(self, notice: Notice) -> AlertRequest:
        """The alert of a notice."""
        return self._request([notice])

    def _request(self, notices: Sequence[Notice]) -> AlertRequest:
        settings = self.settings
        end = datetime.fromtimestamp(self._now + parse_duration(settings.expires_after), UTC).isoformat()
        alerts = [alertmanager_alert(one, settings.labels, end) for one in notices]
        address = settings.url.get_secret_value().rstrip("/") + "/api/v2/alerts"
        return AlertRequest(address, fit_json(alerts, BODY_BYTES_MAX), settings.headers)


def alertmanager_alert(notice: Notice, labels: Mapping[str, str], expires_at: str) -> dict[str, Any]:
    """One element of the body of a request to /api/v2/alerts."""
    kind = notice.event_type.partition(".")[0]
    own = {f"hub_{'task_name' if name == 'task' else name}": value for name, value in notice.labels.items()}
    name = "".join(part.capitalize() for part in re.split(r"[._]", notice.event_type))
    alert: dict[str, Any] = {
        "labels": {
            **labels,
            "alertname": f"Hub{name}",
            "severity": notice.severity,
            "hub_origin": _ORIGINS.get(kind, kind),
            **own,
        },
        "annotations": {"summary": notice.title, "description": cut_bytes(notice.text, TEXT_BYTES_MAX), **notice.details},
        "startsAt": notice.started_at,
        "endsAt": notice.ended_at or expires_at,
    }
    if notice.links:
        alert["generatorURL"] = notice.links[0].href
    return alert
