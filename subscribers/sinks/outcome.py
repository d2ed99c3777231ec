"""What the answer of a destination, or the failure to get one, means for the delivery of an event.

| what happened                               | meaning                                                              |
|---------------------------------------------|----------------------------------------------------------------------|
| 2xx                                         | accepted                                                             |
| no connection, no answer in time            | `Unavailable`                                                        |
| 408, 425, 429, 5xx                          | `Unavailable`; `Retry-After` says when to try again                  |
| 3xx                                         | `Undeliverable`: a redirect could lead anywhere, and is not followed |
| other statuses, an address that is refused  | `Undeliverable`                                                      |

Sources: RFC 9110, sections 10.2.3 (Retry-After) and 15; RFC 6585 (429); RFC 8470 (425).

Rules: values only, no IO. Texts name the host and the status, never the path, the query, or a header.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import NamedTuple

from ..api import Unavailable, Undeliverable

RETRY_AFTER_MAX_SECONDS = 3600.0
"""The longest wait that a destination can ask for by `Retry-After`; a longer one is cut to this."""

_TEMPORARY = frozenset({408, 425, 429})
_SECONDS = re.compile(r"[0-9]{1,15}")


class Answer(NamedTuple):
    """A response. `headers`: names in lower case; of several with one name, the last. `body`: cut after 64 KiB, and
    not decompressed."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class NoAnswer(Exception):
    """There was no answer: `str()` says why, without the name of the destination."""


class Refused(Exception):
    """The connection is not permitted: `str()` says why, without the name of the destination."""


def judge(answer: Answer, host: str, now: datetime) -> None:
    """Return if the answer of `host` is 2xx; otherwise raise `Unavailable` or `Undeliverable`. `now` is for `Retry-After`."""
    status = answer.status
    if 200 <= status < 300:
        return
    reason = f"{host} answered {_named(status)}"
    if status in _TEMPORARY or 500 <= status < 600:
        raise Unavailable(reason, retry_after=retry_after_seconds(answer.headers, now), endpoint=host)
    raise Undeliverable(f"{reason}: redirects are not followed" if 300 <= status < 400 else reason)


def retry_after_seconds(headers: Mapping[str, str], now: datetime) -> float | None:
    """The wait that the header `Retry-After` asks for, in seconds from `now`, from 0 to `RETRY_AFTER_MAX_SECONDS`; None if it is
    absent or invalid. It has a number of seconds, or a date."""
    value = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(value):
        return min(float(value), RETRY_AFTER_MAX_SECONDS)
    try:
        date = parsedate_to_datetime(value)
        wait = (date if date.tzinfo else date.replace(tzinfo=UTC)) - now
    except (ValueError, TypeError, IndexError, OverflowError):  # not all of them are documented
        return None
    return min(max(wait.total_seconds(), 0.0), RETRY_AFTER_MAX_SECONDS)


def _named(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
