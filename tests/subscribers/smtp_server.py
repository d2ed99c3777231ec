"""A mail server for tests: accepts messages, or answers by a script.

    async with SmtpServer({"RCPT": ["450 later"]}) as server: ...

`replies`: by command (also "connect", "data", "AUTH"), the answers to its first uses; later ones are accepted. It offers STARTTLS
and AUTH PLAIN; with `tls`, it speaks TLS from the first byte. Its certificate is for "localhost".
"""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Self

from .http_endpoint import CERTIFICATE

_ACCEPTED = {"connect": "220 ready", "DATA": "354 go on", "AUTH": "235 ok", "QUIT": "221 bye"}


class SmtpServer:
    """See the module. `commands`: lines received, the first word in upper case. `messages`: accepted messages, as received."""

    def __init__(self, replies: Mapping[str, Sequence[str]] | None = None, *, tls: bool = False, starttls: bool = True) -> None:
        self._replies = {command: list(answers) for command, answers in (replies or {}).items()}
        self._tls = tls
        self._offers = ["AUTH PLAIN", *(["STARTTLS"] if starttls else [])]
        self.commands: list[str] = []
        self.messages: list[EmailMessage] = []
        self.encrypted: list[bool] = []

    async def __aenter__(self) -> Self:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(CERTIFICATE)
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context if self._tls else None)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self._say(writer, "connect")
            while line := await reader.readline():
                await self._answer(line.decode().rstrip("\r\n"), reader, writer)
                await writer.drain()
                if line.upper().startswith(b"QUIT"):
                    break
        except (ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()

    async def _answer(self, line: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        command = line.split(" ")[0].upper()
        self.commands.append(command + line[len(command) :])
        if command == "EHLO":
            lines = ["localhost", *self._offers]
            writer.write("".join(f"250{' ' if one is lines[-1] else '-'}{one}\r\n" for one in lines).encode())
        elif command == "STARTTLS":
            writer.write(b"220 go ahead\r\n")
            await writer.drain()
            await writer.start_tls(self._context)
        elif self._say(writer, command).startswith("354"):
            raw = await reader.readuntil(b"\r\n.\r\n")
            if self._say(writer, "data").startswith("250"):
                self.messages.append(message_from_bytes(raw[:-5], policy=policy.SMTP))
                self.encrypted.append(writer.get_extra_info("sslcontext") is not None)

    def _say(self, writer: asyncio.StreamWriter, command: str) -> str:
        script = self._replies.get(command)
        reply = script.pop(0) if script else _ACCEPTED.get(command, "250 ok")
        writer.write(f"{reply}\r\n".encode())
        return reply
