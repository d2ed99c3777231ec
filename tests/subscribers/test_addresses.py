"""Which URLs and addresses a sink refuses to connect to."""

from collections.abc import Sequence

import pytest

from subscribers import Unavailable, Undeliverable
from subscribers.sinks import AddressGuard, Destination, HttpSink

from .http_endpoint import HttpEndpoint

NOWHERE = "http://127.0.0.1:1"
"""A proxy that does not exist: if the guard were broken, the tests would still send nothing to the network."""

REFUSED_ADDRESSES = [
    # unspecified, loopback, private, shared
    "0.0.0.0", "0.1.2.3", "127.0.0.1", "127.0.0.53", "127.255.255.254", "10.0.0.1", "10.255.255.255", "172.16.0.1",
    "172.31.255.255", "192.168.0.1", "192.168.255.255", "100.64.0.1", "100.127.255.255", "100.100.100.200",
    # link-local and metadata services
    "169.254.0.1", "169.254.169.254", "169.254.170.2", "192.0.0.192", "168.63.129.16",
    # special purposes
    "192.0.0.1", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.19.255.255", "198.51.100.7", "203.0.113.9",
    "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.254", "255.255.255.255",
    # IPv6
    "::", "::1", "::2", "fe80::1", "febf::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "ff0e::1",
    "2001:db8::1", "3fff::1", "2001:2::1", "2001:10::1", "100::1", "5f00::1", "4000::1", "e000::1",
    # IPv4 inside IPv6: compatible, mapped, translated, NAT64, 6to4, Teredo
    "::127.0.0.1", "::8.8.8.8", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0:127.0.0.1",
    "64:ff9b::127.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b:1::8.8.8.8", "2002:7f00:1::1", "2002:a00:1::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001::1",
]  # fmt: skip

PUBLIC_ADDRESSES = [
    "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.1",
    "169.253.255.255", "172.15.255.255", "172.32.0.0", "192.0.1.1", "192.167.255.255", "192.169.0.0", "198.17.255.255",
    "198.20.0.0", "223.255.255.255", "2606:4700:4700::1111", "2a00:1450:4001::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8",
]  # fmt: skip

REFUSED_URLS = [
    # IPv4 in other notations: decimal, octal, hexadecimal, short, with a dot at the end, out of range
    "http://2130706433/", "http://017700000001/", "http://0x7f000001/", "http://0177.0.0.1/", "http://0x7f.0.0.1/",
    "http://0x7f.1/", "http://127.1/", "http://127.0.1/", "http://127.0.0.1./", "http://0/", "http://1.2.3.256/",
    "http://127.000.000.001/", "http://example.0x7f/", "http://a.1/", "http://0x/",
    # user information, and what another parser takes for the host
    "http://good.example@127.0.0.1/", "http://127.0.0.1#@good.example/", "http://good.example:80@127.0.0.1/",
    "http://127.0.0.1\\@good.example/", "http://good.example\\.127.0.0.1/", "http://[::1]@good.example/", "http://@127.0.0.1/",
    "http://good.example/\\@127.0.0.1/",
    "http://good.example#@127.0.0.1/", "http:///127.0.0.1/", "http:127.0.0.1/", "//127.0.0.1/", "http://",
    # brackets and zones
    "http://[::1/", "http://::1/", "http://[fe80::1%25eth0]/", "http://[fe80::1%eth0]/", "http://[::1]x/", "http://[127.0.0.1]/",
    "http://[v1.x]/", "http://[]/", "http://a[::1]/",
    # letters that are not ASCII, percent signs, control characters, spaces
    "http://\uff11\uff12\uff17.0.0.1/", "http://\u2460\u2461\u2466.0.0.1/", "http://127\u30020\u30020\u30021/", "http://b\u00fccher.example/",
    "http://loc%61lhost/",
    "http://127.0.0.1%2f@good.example/", "http://good.example\r\nX: y/", "http://good.example/\tx", " http://good.example/",
    "http://good.example/ x", "http://good.example/\x00", "http://good\u200b.example/", "http://good.example/\u00e9",
    # ports
    "http://good.example:0/", "http://good.example:65536/", "http://good.example:80:80/", "http://good.example:\u0668\u0660/",
    "http://good.example:-1/", "http://good.example:8x/", "http://good.example:000080/",
    # names
    "http://localhost./", "http://.example/", "http://a..example/", "http://-a.example/", f"http://{'a' * 64}.example/",
    f"http://{'a.' * 130}example/", "http://a,b.example/", "http://a;b/", "http://*.example/",
    # schemes
    "ftp://good.example/", "file:///etc/passwd", "gopher://good.example/", "unix:///run/x.sock", "javascript:alert(1)", "",
]  # fmt: skip


@pytest.mark.parametrize("address", REFUSED_ADDRESSES)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert AddressGuard().refusal(address) is not None


@pytest.mark.parametrize("address", PUBLIC_ADDRESSES)
def test_a_public_address_is_permitted(address: str) -> None:
    assert AddressGuard().refusal(address) is None


@pytest.mark.parametrize("url", REFUSED_URLS)
async def test_a_url_in_an_unusual_form_is_refused_before_any_name_is_resolved(url: str) -> None:
    names = FakeNames(["10.0.0.1"])
    sink = HttpSink(guard=AddressGuard(), resolve=names, proxy=NOWHERE)
    with pytest.raises(Undeliverable, match="the URL is invalid"):
        await sink.post(url, b"")
    assert names.asked == []


@pytest.mark.parametrize("address", REFUSED_ADDRESSES)
async def test_a_name_is_refused_whose_address_is_not_public(address: str) -> None:
    sink = HttpSink(guard=AddressGuard(), resolve=FakeNames([address]), proxy=NOWHERE)
    with pytest.raises(Undeliverable, match=r"good\.example: connections to this host are refused: .* address"):
        await sink.post("http://good.example/secret", b"")


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0.0.0.0"]
)
@pytest.mark.parametrize("port", ["", ":22", ":8443"])
async def test_the_machine_itself_is_refused_with_its_own_name_service(host: str, port: str) -> None:
    sink = HttpSink(guard=AddressGuard(), timeout_seconds=5)
    with pytest.raises(Undeliverable, match="connections to this host are refused"):
        await sink.post(f"https://{host}{port}/", b"")


@pytest.mark.parametrize("addresses", [["8.8.8.8", "10.0.0.1"], ["10.0.0.1", "8.8.8.8"], ["2606:4700::1", "::1"]])
async def test_one_refused_address_among_several_refuses_the_name(addresses: list[str]) -> None:
    sink = HttpSink(guard=AddressGuard(), resolve=FakeNames(addresses), proxy=NOWHERE)
    with pytest.raises(Undeliverable, match="connections to this host are refused"):
        await sink.post("https://good.example/", b"")


class FakeNames:
    """A name service that gives these answers, one after the other, and then the last one again."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


async def test_the_connection_goes_to_the_address_that_was_checked() -> None:
    """A name server that gives another address at the second look-up (DNS rebinding) is not asked a second time."""
    async with HttpEndpoint() as endpoint:
        names = FakeNames(["127.0.0.1"], ["10.0.0.1"])
        sink = HttpSink(guard=AddressGuard(["127.0.0.1"]), resolve=names)
        url = f"http://rebinding.example:{endpoint.port}/"
        await sink.post(url, b"1")
        await sink.post(url, b"2")
        assert names.asked == ["rebinding.example"], "one look-up for the connection, which both requests use"
        assert endpoint.requests[0].headers["host"] == f"rebinding.example:{endpoint.port}"
        await sink.aclose()
        with pytest.raises(Undeliverable, match="private address"):
            await sink.post(url, b"3")
        assert len(endpoint.requests) == 2


async def test_the_next_address_is_tried_if_one_does_not_accept() -> None:
    async with HttpEndpoint() as endpoint:
        sink = HttpSink(resolve=FakeNames(["127.0.0.77", "127.0.0.1"]))
        assert (await sink.post(f"http://two.example:{endpoint.port}/", b"")).status == 200
        await sink.aclose()


def test_ranges_are_opened_by_allow_and_by_nothing_else() -> None:
    guard = AddressGuard(["10.0.0.0/8", "fd00::/8", "127.0.0.1"])
    opened = ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3", "fd12::1", "127.0.0.1"]
    assert [guard.refusal(one) for one in opened] == [None] * 5
    assert [guard.refusal(one) for one in ["127.0.0.2", "192.168.0.1", "fc00::1", "::1"]] == [
        "loopback address",
        "private address",
        "unique local address",
        "loopback address",
    ]


def test_without_tls_only_opened_ranges_are_permitted() -> None:
    guard = AddressGuard(["10.0.0.0/8"], require_tls=True)
    assert guard.refusal("8.8.8.8", tls=False) == "connection without TLS"
    assert guard.refusal("8.8.8.8", tls=True) is None
    assert guard.refusal("10.0.0.1", tls=False) is None


async def test_a_sink_that_requires_tls_refuses_http() -> None:
    sink = HttpSink(guard=AddressGuard(require_tls=True), resolve=FakeNames(["8.8.8.8"]), proxy=NOWHERE)
    with pytest.raises(Undeliverable, match=r"good\.example: connections to this host are refused: connection without TLS"):
        await sink.post("http://good.example/", b"")


@pytest.mark.parametrize("range_", ["10.0.0.1/8", "10.0.0.0/33", "example.com", "", "::1/129"])
def test_an_invalid_range_is_an_error(range_: str) -> None:
    with pytest.raises(ValueError, match="does not appear|has host bits"):
        AddressGuard([range_])


async def test_a_name_without_addresses_is_an_outage() -> None:
    async def unknown(host: str, port: int) -> Sequence[str]:
        raise OSError("unknown name")

    for names in (unknown, FakeNames([])):
        with pytest.raises(Unavailable, match=r"good\.example: the name cannot be resolved"):
            await HttpSink(guard=AddressGuard(), resolve=names).post("https://good.example/", b"")


def test_a_destination_has_the_parts_of_a_url() -> None:
    assert Destination.parse("HTTPS://Hooks.Example/a?b=c") == ("https", "hooks.example", 443, "/a?b=c")
    assert Destination.parse("http://[2001:DB8::1]:8080?x") == ("http", "2001:db8::1", 8080, "/?x")
    assert Destination.parse("http://a_b.xn--bcher-kva.example:").target == "/"
    assert Destination.parse("http://[2001:db8::1]:8080/").authority == "[2001:db8::1]:8080"
    assert Destination.parse("https://a.example:443/").authority == "a.example"
    assert Destination.parse("https://a.example:80/").authority == "a.example:80"


@pytest.mark.parametrize(
    "url", ["https://user:hunter2@a.example/hunter2", "https://a.example:x/hunter2", "ftp://a/hunter2", "hunter2"]
)
def test_neither_errors_nor_texts_of_a_destination_repeat_secrets(url: str) -> None:
    with pytest.raises(ValueError, match="URL") as raised:
        Destination.parse(url)
    assert "hunter2" not in str(raised.value)
    assert "hunter2" not in repr(Destination.parse("https://a.example/hunter2?hunter2"))
