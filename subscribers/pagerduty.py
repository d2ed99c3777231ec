"""PagerDuty: Events API v2. An alert triggers an incident, its resolution resolves it.

    [[subscribers]]
    use = "pagerduty"
    settings = { routing_key = "...", region = "eu" }

Limits: `dedup_key` 255 characters, `summary` 1,024, the event 512 kB. 202 accepts; 429 and 5xx are retried, 400 is not.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, SecretStr

from .notices import AlertRequest, FreeText, HttpAlertSettings, HttpTarget, Notice, cut_bytes, cut_characters, fit_json
from .sinks import SecretUrl

SUMMARY_MAX, DEDUP_KEY_MAX, EVENT_BYTES_MAX = 1024, 255, 500_000
_HOSTS = {"us": "events.pagerduty.com", "eu": "events.eu.pagerduty.com"}
_TEXT_BYTES_MAX = 32_768


def _is_routing_key(key: SecretStr) -> SecretStr:
    value = key.get_secret_value()
    if len(value) != 32 or not (value.isascii() and value.isalnum()):
        raise ValueError("must be the integration key of the service: 32 letters and digits")
    return key


class PagerDutySettings(HttpAlertSettings):
    """`routing_key`: the integration key of a service or a ruleset. `region`: of the account. `url` replaces the address."""

    routing_key: Annotated[SecretStr, AfterValidator(_is_routing_key)]
    region: Literal["us", "eu"] = "us"
    url: SecretUrl | None = None


class PagerDuty(HttpTarget[PagerDutySettings]):
    """Triggers and resolves incidents."""

    name = "pagerduty"

    def request(self, notice: Notice) -> AlertRequest:
        """The event of a notice."""
        url = self.settings.url
        address = f"https://{_HOSTS[self.settings.region]}/v2/enqueue" if url is None else url.get_secret_value()
        return AlertRequest(address, pagerduty_event(notice, self.settings.routing_key.get_secret_value()))


def pagerduty_event(notice: Notice, routing_key: str) -> bytes:
    """The body of a request to /v2/enqueue."""
    event: dict[str, Any] = {
        "routing_key": routing_key,
        "event_action": "resolve" if notice.status == "resolved" else "trigger",
        "dedup_key": cut_bytes(notice.key, DEDUP_KEY_MAX),
        "payload": {
            "summary": cut_characters(notice.title, SUMMARY_MAX),
            "source": notice.event.source,
            "severity": notice.severity,
            "timestamp": notice.ended_at or notice.started_at,
            "component": notice.labels.get("task") or notice.labels.get("pool"),
            "group": notice.labels.get("namespace"),
            "class": notice.event_type,
            "custom_details": _details(notice),
        },
        "links": [{"href": link.href, "text": link.text} for link in notice.links],
        "client": "taskhub",
    }
    event["payload"] = {name: value for name, value in event["payload"].items() if value}
    return fit_json(event, EVENT_BYTES_MAX)


def _details(notice: Notice) -> dict[str, str]:
    found = {"text": FreeText(cut_bytes(notice.text, _TEXT_BYTES_MAX)), **notice.labels, **notice.details}
    if notice.error is not None and notice.error.stacktrace:
        found["stacktrace"] = FreeText(cut_bytes(notice.error.stacktrace, _TEXT_BYTES_MAX))
    return found
