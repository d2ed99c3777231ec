"""What destinations over HTTP share: a client that distinguishes outages from rejections, and its permitted addresses.

Rules: imports `schemas` and `subscribers.api` only. The HTTP library is loaded at the first request. Nothing here knows the
format of a destination.
"""

from .addresses import AddressGuard
from .destination import Destination
from .http import NO_STATUSES, Answer, HttpSink
from .outcome import retry_after_seconds
from .settings import AddressRanges, HttpHeaders, SecretProxyUrl, SecretUrl

__all__ = [
    "NO_STATUSES",
    "AddressGuard",
    "AddressRanges",
    "Answer",
    "Destination",
    "HttpHeaders",
    "HttpSink",
    "SecretProxyUrl",
    "SecretUrl",
    "retry_after_seconds",
]
