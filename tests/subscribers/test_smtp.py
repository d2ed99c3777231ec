"""Alerts by e-mail: the message, and what the answers of a mail server mean."""

import asyncio
from email import message_from_bytes, policy
from typing import Any

import pytest
from msgspec.structs import replace
from pydantic import ValidationError

from subscribers import Unavailable, Undeliverable
from subscribers.notices import Notice
from subscribers.smtp import Smtp, SmtpSettings, message_of

from .http_endpoint import CERTIFICATE
from .notice_cases import FakeState, cases, check_golden, completed, context, failed, firing, meta_of, resolved
from .smtp_server import SmtpServer


def settings(**more: Any) -> SmtpSettings:
    fields = {"host": "localhost", "sender": "hub@shop.example", "recipients": ["ops@shop.example", "dev@shop.example"]}
    return SmtpSettings.model_validate({**fields, "ca_file": str(CERTIFICATE), **more})


def plain(server: SmtpServer, **more: Any) -> SmtpSettings:
    return settings(host="127.0.0.1", port=server.port, security="none", **more)


async def deliver(smtp: SmtpSettings, *events: Any, state: FakeState | None = None) -> None:
    """Deliver these events as one batch."""
    target = Smtp(smtp)
    await target.open(context(state))
    await target.receive(list(events), [meta_of(event) for event in events])


# The message


def exactly() -> Notice:
    """The subject is as long as this subscriber sends it."""
    return replace(firing(), title="t" * (200 - len("[taskhub] error: ")))


@cases(exactly)
def test_golden_messages(case: str, notice: Notice) -> None:
    message = message_of([notice], settings())
    raw = message.as_bytes(policy=policy.SMTP)
    assert max(map(len, raw.split(b"\r\n"))) <= 998, "RFC 5322, section 2.1.1"
    read = message_from_bytes(raw, policy=policy.SMTP)
    assert len(read["Subject"]) <= 200
    assert (read["Subject"].endswith("…")) == (case == "long")
    check_golden(f"smtp_{case}", {"headers": dict(read.items()), "body": read.get_content().replace("\r\n", "\n")})


def test_a_digest_says_how_many_there_are_and_has_all() -> None:
    message = message_of([firing(), resolved(), replace(firing(), title="t" * 500)], settings())
    assert message["Subject"] == "[taskhub] error: Task charge failed: CardError (and 2 more)"
    body = message.get_content()
    assert "resolved: Task charge failed: CardError" in body
    assert "t" * 500 in body
    long = message_of([replace(firing(), title="t" * 500), resolved()], settings())
    assert len(long["Subject"]) == 200
    assert long["Subject"].endswith("… (and 1 more)")


def test_a_digest_of_many_long_notices_is_bounded() -> None:
    body = message_of([replace(firing(), text="é" * 100_000)] * 100, settings()).get_content()
    assert len(body.encode()) <= 262_144 + 1
    assert body.count("error: Task charge failed") > 30


def test_a_name_cannot_add_a_header() -> None:
    message = message_of([replace(firing(), title="x\r\nBcc: evil@evil.example")], settings(subject_prefix="[a\nb]"))
    raw = message.as_bytes(policy=policy.SMTP)
    head, _, _ = raw.partition(b"\r\n\r\n")
    assert b"\nBcc" not in head
    assert message["Subject"] == r"[a\nb] error: x\r\nBcc: evil@evil.example"


def test_the_same_notices_give_the_same_message() -> None:
    one, again, other = (message_of([notice], settings()) for notice in (firing(), firing(), resolved()))
    assert one["Message-ID"] == again["Message-ID"] != other["Message-ID"]
    assert one["Date"] == "Thu, 01 Jan 2026 09:30:00 +0000"
    assert one["Auto-Submitted"] == "auto-generated"


# The server


async def test_a_batch_is_one_message_to_all_recipients() -> None:
    state = FakeState()
    async with SmtpServer() as server:
        await deliver(plain(server), failed("09:00:00"), failed("09:00:01", name="pack"), completed("09:00:02"), state=state)
        await deliver(plain(server), completed("09:00:03"), failed("09:01:00", name="pack"), state=state)
    (message,) = server.messages
    assert message["Subject"] == "[taskhub] error: Task charge failed: CardError (and 2 more)"
    assert [one for one in server.commands if one.startswith("RCPT")] == [
        "RCPT TO:<ops@shop.example>",
        "RCPT TO:<dev@shop.example>",
    ]
    assert list(state.stored) == ["firing/task/shop/pack"]


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_credentials_and_messages_are_encrypted(security: str) -> None:
    async with SmtpServer(tls=security == "tls") as server:
        await deliver(settings(port=server.port, security=security, username="hub", password="secret"), failed())
    assert server.encrypted == [True]
    assert any(one.startswith("AUTH PLAIN") for one in server.commands)


async def test_without_encryption_nothing_is_sent() -> None:
    async with SmtpServer(starttls=False) as server:
        with pytest.raises(Unavailable, match="SMTPNotSupportedError"):
            await deliver(settings(port=server.port, username="hub", password="secret"), failed())
    assert not any(one.startswith(("AUTH", "MAIL")) for one in server.commands)


async def test_a_server_with_an_unknown_certificate_gets_nothing() -> None:
    async with SmtpServer(tls=True) as server:
        with pytest.raises(Unavailable, match="SSLCertVerificationError"):
            await deliver(settings(port=server.port, security="tls", ca_file=None), failed())
    assert server.commands == []


@pytest.mark.parametrize(
    ("replies", "raised"),
    [
        ({"connect": ["421 busy"]}, Unavailable),
        ({"MAIL": ["451 later"]}, Unavailable),
        ({"MAIL": ["552 too large"]}, Undeliverable),
        ({"RCPT": ["450 later", "550 unknown"]}, Unavailable),
        ({"RCPT": ["550 unknown", "550 unknown"]}, Undeliverable),
        ({"data": ["452 full"]}, Unavailable),
        ({"data": ["554 spam"]}, Undeliverable),
    ],
)
async def test_what_an_answer_means(replies: dict[str, list[str]], raised: type[Exception]) -> None:
    state = FakeState()
    async with SmtpServer(replies) as server:
        with pytest.raises(raised):
            await deliver(plain(server), failed(), state=state)
        assert state.stored == {}
        await deliver(plain(server), failed(), state=state)
    assert len(server.messages) == 1


async def test_refused_credentials_are_an_outage_and_not_repeated_in_the_error() -> None:
    async with SmtpServer({"AUTH": ["535 wrong password of hub"]}) as server:
        with pytest.raises(Unavailable, match="535") as caught:
            await deliver(settings(port=server.port, username="hub", password="secret"), failed())
    assert "secret" not in str(caught.value)
    assert "wrong password" not in str(caught.value)


async def test_a_message_of_which_one_recipient_is_refused_is_not_sent_again(caplog: pytest.LogCaptureFixture) -> None:
    async with SmtpServer({"RCPT": ["550 unknown"]}) as server:
        await deliver(plain(server), failed())
    assert len(server.messages) == 1
    assert "refused 1 recipient" in caplog.text


async def test_no_server_is_an_outage() -> None:
    async with SmtpServer() as server:
        pass
    with pytest.raises(Unavailable, match="ConnectionRefusedError"):
        await deliver(plain(server), failed())


async def test_a_server_that_does_not_answer_is_an_outage() -> None:
    held: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    with pytest.raises(Unavailable, match="SMTPServerDisconnected"):
        await deliver(settings(host="127.0.0.1", port=port, security="none", timeout_seconds=0.1), failed())
    for writer in held:
        writer.close()
    silent.close()
    await silent.wait_closed()


@pytest.mark.parametrize(
    "wrong",
    [
        {"username": "hub"},
        {"password": "secret"},
        {"username": "hub", "password": "secret", "security": "none"},
        {"sender": "hub"},
        {"sender": "hub@shop.example\nBcc: x@evil.example"},
        {"recipients": ["a@b.example, c@d.example"]},
        {"recipients": []},
    ],
)
def test_wrong_settings_are_rejected(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings(**wrong)
    assert "secret" not in repr(settings(username="hub", password="secret"))
