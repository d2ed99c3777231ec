"""Valid values of `--host` and `--advertised-host`, and the address that clients get."""

import socket

import pytest

from hub.errors import ConfigurationError
from hub.runtime import make_listener

from .conftest import HubUps, run_task


@pytest.mark.parametrize(
    ("host", "advertised", "listened", "address"),
    [
        ("127.0.0.1", None, "127.0.0.1", "127.0.0.1:9092"),
        ("::1", None, "::1", "[::1]:9092"),
        ("[::1]", None, "::1", "[::1]:9092"),
        ("0.0.0.0", "hub.example.org", "0.0.0.0", "hub.example.org:9092"),
        ("::", "2001:db8::7", "::", "[2001:db8::7]:9092"),
        ("127.0.0.1", "[2001:db8::7]", "127.0.0.1", "[2001:db8::7]:9092"),
        ("fe80::1%eth0", None, "fe80::1%eth0", "[fe80::1%eth0]:9092"),
    ],
)
def test_clients_are_given_an_address_that_they_can_connect_to(
    host: str, advertised: str | None, listened: str, address: str
) -> None:
    listener = make_listener(host, advertised)
    assert (listener.host, listener.address(9092)) == (listened, address)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "[::]", "", "*", "0", "::0", "0:0:0:0:0:0:0:0"])
def test_a_wildcard_needs_an_advertised_host_and_is_none(host: str) -> None:
    with pytest.raises(ConfigurationError, match=r"--host .* every address of this machine.*--advertised-host") as refused:
        make_listener(host, None)
    assert socket.gethostname() in str(refused.value)
    with pytest.raises(ConfigurationError, match="--advertised-host .* is not an address that a client can connect to"):
        make_listener("127.0.0.1", host)


@pytest.mark.parametrize("advertised", ["kafka:9092", "PLAINTEXT://kafka", "a b", "10.0.0.1:9092", "[::1]:9092"])
def test_an_advertised_host_is_a_host_alone(advertised: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a host: give a name or an address without a scheme and a port"):
        make_listener("0.0.0.0", advertised)


@pytest.mark.parametrize(
    ("arguments", "address"),
    [
        (("--host", "0.0.0.0", "--advertised-host", "localhost"), "localhost"),
        (("--host", "::1"), "[::1]"),
        (("--host", "::", "--advertised-host", "::1"), "[::1]"),
    ],
)
async def test_a_hub_works_at_the_address_that_it_advertises(hub_up: HubUps, arguments: tuple[str, ...], address: str) -> None:
    up = hub_up("--worker", "app:tasks", "--no-subscribers", *arguments).ready()
    assert up.address.rpartition(":")[0] == address
    assert await run_task(up.address, "add", {"a": 3}) == 5
    assert up.end() == 0
