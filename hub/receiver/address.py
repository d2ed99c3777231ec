"""The address on which the receiver listens, and the rule when it requires a token."""

import ipaddress
from pathlib import Path
from typing import NamedTuple

from pydantic import SecretStr

from ..errors import ConfigurationError

DEFAULT_LISTEN = "127.0.0.1:9095"
TOKEN_VARIABLE = "HUB_ALERTS_TOKEN"
TOKEN_CHARACTERS_MIN = 16


class ListenAddress(NamedTuple):
    """`port` 0: a free one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only programs of this machine can connect."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_listen(text: str) -> ListenAddress:
    """The address in HOST:PORT, an IPv6 address in brackets. Raises ConfigurationError."""
    host, separator, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    is_address = bool(separator and bare) and (bare != host or ":" not in host)
    if not is_address or not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ConfigurationError(f"--listen: {text!r} must be HOST:PORT, such as {DEFAULT_LISTEN} or [::1]:9095.")
    return ListenAddress(bare, int(port))


def read_token(file: Path | None, variable: str | None) -> SecretStr | None:
    """The token from a file, or else from the variable HUB_ALERTS_TOKEN; None if neither is given. White space around it is
    removed. Raises ConfigurationError, without the token."""
    if file is None and variable is None:
        return None
    where = f"--token-file {file}" if file is not None else f"The variable {TOKEN_VARIABLE}"
    try:
        token = (file.read_text() if file is not None else variable or "").strip()
    except OSError as error:
        raise ConfigurationError(f"{where} cannot be read: {error.strerror or error}.") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{where}: it is not text.") from None
    if len(token) < TOKEN_CHARACTERS_MIN or not all("!" <= character <= "~" for character in token):
        raise ConfigurationError(
            f"{where}: a token must have at least {TOKEN_CHARACTERS_MIN} characters, all of them printable ASCII without spaces."
        )
    return SecretStr(token)


def require_token(address: ListenAddress, token: SecretStr | None) -> None:
    """Raises ConfigurationError for an address other than loopback without a token: any program that can reach it could create
    tasks."""
    if token is None and not address.is_loopback:
        raise ConfigurationError(
            f"--listen {address} is not a loopback address: other machines could create tasks. Require a bearer token with"
            f" --token-file (or the variable {TOKEN_VARIABLE}), or listen on {DEFAULT_LISTEN}."
        )
