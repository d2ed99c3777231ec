"""Where the receiver may listen, and when it requires a token."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from hub.errors import ConfigurationError
from hub.receiver import DEFAULT_LISTEN, ListenAddress, parse_listen, read_token
from hub.receiver.address import require_token
from tests.receiver.alerts import TOKEN


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (DEFAULT_LISTEN, ListenAddress("127.0.0.1", 9095)),
        ("[::1]:0", ListenAddress("::1", 0)),
        ("localhost:65535", ListenAddress("localhost", 65535)),
    ],
)
def test_an_address_is_host_and_port(text: str, address: ListenAddress) -> None:
    assert parse_listen(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text", ["9095", ":9095", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "::1:9095", "a:-1", "a:\u0665", ""]
)
def test_another_address_is_an_error(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^--listen: .* must be HOST:PORT"):
        parse_listen(text)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_a_loopback_address_needs_no_token(host: str) -> None:
    require_token(ListenAddress(host, 0), None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "hub.example.com", "localhost.example.com"])
def test_any_other_address_requires_one(host: str) -> None:
    with pytest.raises(ConfigurationError, match="not a loopback address.*--token-file.*HUB_ALERTS_TOKEN") as raised:
        require_token(ListenAddress(host, 0), None)
    assert raised.value.exit_code == 2
    require_token(ListenAddress(host, 0), SecretStr(TOKEN))


def test_the_token_of_the_file_is_used_before_that_of_the_variable(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    for token in (read_token(file, "another-token-of-it"), read_token(None, TOKEN)):
        assert token is not None
        assert token.get_secret_value() == TOKEN
    assert read_token(None, None) is None


@pytest.mark.parametrize("token", ["", "short", "has a space in the middle", "t\u00f6ken-of-the-receiver"])
def test_a_token_that_is_no_secret_or_no_header_is_an_error_without_it(token: str, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(token)
    for where, value in ((file, None), (None, token)):
        with pytest.raises(ConfigurationError, match="must have at least 16 characters") as raised:
            read_token(where, value)
        assert not token or token not in str(raised.value)


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="token cannot be read: No such file or directory"):
        read_token(tmp_path / "token", TOKEN)
    (tmp_path / "binary").write_bytes(b"\xff" * 32)
    with pytest.raises(ConfigurationError, match="binary: it is not text"):
        read_token(tmp_path / "binary", None)
