"""E-mail by SMTP: the alerts among 1,000 events, or half a minute, in one message of plain text.

    [[subscribers]]
    use = "smtp"
    settings = { host = "mail.example", sender = "hub@x.example", recipients = ["ops@x.example"] }

`Message-ID` and `Date` are derived from the events, so that a message that is sent again after a failure can be recognised. A
message of which some recipients are refused counts as sent. A name or a text of a task cannot add a header: control characters
are escaped.

Sources: RFC 5321 (SMTP), 5322 (messages), 3207 (STARTTLS), 4954 (authentication), 3834 (Auto-Submitted).
"""

import asyncio
import smtplib
import socket
import ssl
from collections.abc import Sequence
from datetime import datetime
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, model_validator

from schemas import Event, one_line
from schemas.ids import derived_id

from .api import Batch, Delivery, Meta, Unavailable, Undeliverable, on
from .notices import ALERT_DELIVERY, AlertSettings, Notice, Notifier, cut_bytes, cut_characters

SUBJECT_MAX, NOTICE_BYTES_MAX, BODY_BYTES_MAX = 200, 8192, 262_144
_PORTS = {"starttls": 587, "tls": 465, "none": 25}


def _is_mailbox(text: str) -> str:
    try:
        Address(addr_spec=text)
    except (MessageError, ValueError, IndexError):
        raise ValueError(f"{text!r} is not an e-mail address") from None
    if not (text.isascii() and text.isprintable() and "@" in text):
        raise ValueError(f"{text!r} is not an e-mail address of ASCII characters with a domain")
    return text


Mailbox = Annotated[str, AfterValidator(_is_mailbox)]


class SmtpSettings(AlertSettings):
    """`security`: "starttls" (required, not optional), "tls" from the first byte, or "none". `port`: 587, 465 or 25 by default.
    `ca_file`: certificates (PEM) by which the server is verified, instead of those of the machine. `timeout_seconds`: of each
    command."""

    host: str = Field(min_length=1)
    port: int | None = Field(default=None, ge=1, le=65_535)
    security: Literal["starttls", "tls", "none"] = "starttls"
    ca_file: str | None = None
    username: str = ""
    password: SecretStr | None = None
    sender: Mailbox
    recipients: tuple[Mailbox, ...] = Field(min_length=1, max_length=100)
    subject_prefix: str = "[taskhub]"
    timeout_seconds: float = Field(default=10.0, gt=0, le=30)

    @model_validator(mode="after")
    def _password_is_encrypted(self) -> "SmtpSettings":
        if bool(self.username) != (self.password is not None):
            raise ValueError("username and password must be given together")
        if self.password is not None and self.security == "none":
            raise ValueError('a password requires security = "starttls" or "tls"')
        return self


class Smtp(Notifier[SmtpSettings]):
    """Sends alerts by e-mail."""

    name = "smtp"
    delivery = Delivery.model_validate({**ALERT_DELIVERY.model_dump(), "timeout": "2m"})

    @on("*", batch=Batch(max=1000, linger="30s"))
    async def receive(self, events: list[Event], metas: list[Meta]) -> None:
        """Send one message with the notices that are due because of these events."""
        await self.notify(events)

    async def send(self, notices: Sequence[Notice]) -> None:
        """Send one message."""
        refused = await asyncio.to_thread(send_message, self.settings, message_of(notices, self.settings))
        if refused:
            self.log.warning("the mail server refused %d recipient(s)", refused, extra={"action": "recipients_refused"})


def message_of(notices: Sequence[Notice], settings: SmtpSettings) -> EmailMessage:
    """The message with these notices, of which there is at least one."""
    message = EmailMessage()
    more = f" (and {len(notices) - 1} more)" if len(notices) > 1 else ""
    title = f"{settings.subject_prefix} {_headline(notices[0])}"
    message["Subject"] = cut_characters(one_line(title), SUBJECT_MAX - len(more)) + more
    message["From"] = settings.sender
    message["To"] = ", ".join(settings.recipients)
    newest = max(notice.ended_at or notice.started_at for notice in notices)
    message["Date"] = format_datetime(datetime.fromisoformat(newest))
    ids = [part for notice in notices for part in (notice.event.source, notice.event.id, notice.key)]
    message["Message-ID"] = f"<{derived_id('mail', *ids)}@{settings.sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    body = "\n\n".join(cut_bytes(_paragraph(notice), NOTICE_BYTES_MAX) for notice in notices)
    message.set_content(cut_bytes(body, BODY_BYTES_MAX) + "\n")
    return message


def _headline(notice: Notice) -> str:
    return f"{'resolved' if notice.status == 'resolved' else notice.severity}: {notice.title}"


def _paragraph(notice: Notice) -> str:
    facts = {**notice.labels, **notice.details, "since": notice.started_at, "resolved": notice.ended_at}
    lines = [f"{name}: {value}" for name, value in facts.items() if value]
    links = [f"{link.text}: {link.href}" for link in notice.links]
    return "\n".join(one for one in (_headline(notice), *links, *lines, notice.text) if one)


def send_message(settings: SmtpSettings, message: EmailMessage) -> int:
    """Send a message; blocks. Returns how many recipients were refused while others were not. Raises Unavailable if the server
    cannot be reached, refuses the connection, the credentials, or the message for the moment; Undeliverable if it rejects the
    message."""
    try:
        with _connected(settings) as server:
            return len(server.send_message(message, settings.sender, settings.recipients))
    except smtplib.SMTPAuthenticationError as error:
        raise _unavailable(settings, f"refused the credentials ({error.smtp_code})") from None
    except (smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as error:
        raise _rejection(settings, [error.smtp_code]) from None
    except smtplib.SMTPRecipientsRefused as error:
        raise _rejection(settings, [code for code, _ in error.recipients.values()]) from None
    except (smtplib.SMTPException, OSError) as error:
        raise _unavailable(settings, f"failed: {type(error).__name__}") from None


def _connected(settings: SmtpSettings) -> smtplib.SMTP:
    host, port = settings.host, settings.port or _PORTS[settings.security]
    name, seconds = socket.gethostname(), settings.timeout_seconds
    if settings.security == "tls":
        context = ssl.create_default_context(cafile=settings.ca_file)
        server: smtplib.SMTP = smtplib.SMTP_SSL(host, port, name, timeout=seconds, context=context)
    else:
        server = smtplib.SMTP(host, port, name, timeout=seconds)
    try:
        if settings.security == "starttls":
            server.starttls(context=ssl.create_default_context(cafile=settings.ca_file))
        if settings.password is not None:
            server.login(settings.username, settings.password.get_secret_value())
    except BaseException:
        server.close()
        raise
    return server


def _rejection(settings: SmtpSettings, codes: list[int]) -> Exception:
    if any(code < 500 for code in codes):
        return _unavailable(settings, f"postponed the message ({codes[0]})")
    return Undeliverable(f"the mail server {settings.host} rejected the message ({codes[0]})")


def _unavailable(settings: SmtpSettings, reason: str) -> Unavailable:
    return Unavailable(f"the mail server {settings.host} {reason}", endpoint=settings.host)
