"""The notifications of Alertmanager's webhook receiver, version 4, and their decoding. Pure.

Source: the section `webhook_config` of Alertmanager's configuration manual. Unknown fields are ignored, because Alertmanager adds
fields within version 4 (`notification_reason`).
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, MsgspecError, Struct, field, json

from schemas import decoding_problem, printable

#: Length of the hash that Alertmanager sends is 16; a longer text would not fit into an idempotency key (characters).
FINGERPRINT_MAX = 128

Fingerprint = Annotated[str, Meta(min_length=1, max_length=FINGERPRINT_MAX, pattern=r"^[0-9A-Za-z_.:-]+$")]


class InvalidNotification(Exception):
    """The body is not a notification; the message names the field."""


class ReceivedAlert(Struct, kw_only=True, frozen=True):
    """One alert of a notification. `fingerprint`: the hash of its labels. `starts_at`: when it began to fire."""

    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    starts_at: Annotated[datetime, Meta(tz=True)] = field(name="startsAt")
    ends_at: str = field(name="endsAt", default="")
    generator_url: str = field(name="generatorURL", default="")
    fingerprint: Fingerprint

    @property
    def started(self) -> str:
        """When it began to fire, in RFC 3339, UTC, to the microsecond: the same for every notation of that time."""
        return self.starts_at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class Notification(Struct, kw_only=True, frozen=True):
    """The body of a request: the alerts of one group. `truncated_alerts`: how many alerts of the group it does not have, because
    of `max_alerts` in Alertmanager's configuration."""

    version: Literal["4"]
    alerts: list[ReceivedAlert]
    group_key: str = field(name="groupKey", default="")
    truncated_alerts: Annotated[int, Meta(ge=0)] = field(name="truncatedAlerts", default=0)
    receiver: str = ""


_decoder = json.Decoder(Notification)


def decode_notification(body: bytes) -> Notification:
    """Decode the body of a request. Raises InvalidNotification, which names the field."""
    try:
        notification = _decoder.decode(body)
    except MsgspecError as error:
        raise InvalidNotification(printable(decoding_problem(error))) from None
    except (UnicodeDecodeError, RecursionError):
        raise InvalidNotification("it is not JSON in UTF-8") from None
    for number, alert in enumerate(notification.alerts):
        try:
            assert alert.started
        except OverflowError:
            raise InvalidNotification(f"alerts[{number}].startsAt: it is outside of the years 1 to 9999 in UTC") from None
    return notification


def arguments_of(alert: ReceivedAlert, notification: Notification) -> dict[str, Any]:
    """The alert as an argument of a task: the fields of the notification by their names, with `receiver` and `groupKey`."""
    return {
        "status": alert.status,
        "labels": alert.labels,
        "annotations": alert.annotations,
        "startsAt": alert.started,
        "endsAt": alert.ends_at,
        "generatorURL": alert.generator_url,
        "fingerprint": alert.fingerprint,
        "receiver": notification.receiver,
        "groupKey": notification.group_key,
    }
