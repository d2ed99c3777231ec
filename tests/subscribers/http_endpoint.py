"""The scripted endpoint of `hub.testing`, also with TLS.

With `tls=True` it presents the certificate of `endpoint.pem` for the names "hooks.example" and "localhost": set SSL_CERT_FILE to
`CERTIFICATE` before the first request.
"""

import ssl
from collections.abc import Iterable
from pathlib import Path

from hub.testing import HttpEndpoint as Endpoint
from hub.testing import HttpReply as Reply
from hub.testing import Received

__all__ = ["CERTIFICATE", "HttpEndpoint", "Received", "Reply"]

CERTIFICATE = Path(__file__).with_name("endpoint.pem")


class HttpEndpoint(Endpoint):
    """Answers requests by `script`, and all later ones by `default`."""

    def __init__(self, script: Iterable[Reply] = (), *, default: Reply | None = None, tls: bool = False) -> None:
        super().__init__(script, default=default, tls=_context() if tls else None)


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context
