"""The subscriber `slack`: a message per alert, by an incoming webhook or by a bot.

    [[subscribers]]
    use = "slack"
    settings = { webhook_url = "https://hooks.slack.com/services/...", task_url = "https://hub.example/tasks/{task}" }

    [[subscribers]]
    use = "slack"
    settings = { token = "xoxb-...", channel = "C0123456789" }    # scope chat:write; the bot is a member of the channel

A webhook cannot change a message, so repetitions and resolutions are new ones. A bot posts them to the thread of the first
message of their deduplication key, and changes the first message when the alert is resolved (`web_api.py`).

Limit: one message per second (429 with Retry-After beyond it).
"""

from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, model_validator

from ..api import SubscriberContext
from ..notices import AlertRequest, HttpAlertSettings, HttpTarget, Notice
from ..sinks import Destination, SecretUrl
from .message import slack_message
from .web_api import API_URL, MessageGoneError, SlackApi, Thread, Threads


def _is_token(token: SecretStr) -> SecretStr:
    text = token.get_secret_value()
    if not text.startswith("xox") or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must be a bot token of Slack, which begins with xoxb-")
    return token


def _is_url(url: str) -> str:
    Destination.parse(url)
    return url.rstrip("/")


class SlackSettings(HttpAlertSettings):
    """`webhook_url`: the URL of an incoming webhook. Or `token` and `channel`: of a bot, and the id of the channel (or its name).
    `api_url`: of the Web API."""

    webhook_url: SecretUrl | None = None
    token: Annotated[SecretStr, AfterValidator(_is_token)] | None = None
    channel: str = Field(default="", max_length=80)
    api_url: Annotated[str, AfterValidator(_is_url)] = API_URL

    @model_validator(mode="after")
    def _has_one_destination(self) -> "SlackSettings":
        if (self.webhook_url is None) == (self.token is None):
            raise ValueError("either webhook_url or token is required, with token also channel")
        if (self.token is None) != (not self.channel):
            raise ValueError("channel: is required with token, and only then")
        return self


class Slack(HttpTarget[SlackSettings]):
    """Sends alerts to a channel of Slack."""

    name = "slack"

    async def open(self, ctx: SubscriberContext) -> None:
        """Read the alerts that fire, and their messages."""
        await super().open(ctx)
        token = self.settings.token
        self._api = None if token is None else SlackApi(self.http, token.get_secret_value(), self.settings.api_url)
        self._threads = Threads(ctx.state)

    def request(self, notice: Notice) -> AlertRequest:
        """The message of a notice to the webhook."""
        assert self.settings.webhook_url is not None
        return AlertRequest(self.settings.webhook_url.get_secret_value(), slack_message(notice))

    async def send(self, notices: Sequence[Notice]) -> None:
        """Send each notice: to the webhook, or as a message or to a thread of the bot."""
        if self._api is None:
            return await super().send(notices)
        for notice in notices:
            await self._send_by(self._api, notice)

    async def _send_by(self, api: SlackApi, notice: Notice) -> None:
        thread = self._threads.of(notice)
        try:
            if thread is not None:
                return await self._continue(api, notice, thread)
        except MessageGoneError:
            await self._threads.forget(notice)
        answer = await api.call("chat.postMessage", slack_message(notice, channel=self.settings.channel))
        await self._threads.keep(notice, answer)

    async def _continue(self, api: SlackApi, notice: Notice, thread: Thread) -> None:
        if notice.status == "resolved":
            await api.call("chat.update", slack_message(notice, channel=thread.channel, ts=thread.ts))
        await api.call("chat.postMessage", slack_message(notice, channel=thread.channel, thread_ts=thread.ts))
        if notice.status == "resolved":
            await self._threads.forget(notice)
