"""Slack's Web API with a bot token: one message per alert, its repetitions in a thread, its resolution in both.

The state has the message of each alert that fires ("thread/<deduplication key>"), so that the thread continues after a restart
and in another process. `chat.update` may be repeated without an effect, `chat.postMessage` may not; so a resolution changes the
first message before it is posted to the thread.

| answer of Slack                                    | meaning                                                                   |
|----------------------------------------------------|---------------------------------------------------------------------------|
| `ok: true`                                         | accepted                                                                  |
| 429, 5xx, `ratelimited`, internal errors of Slack  | `Unavailable`, with `Retry-After`                                         |
| `invalid_auth`, `channel_not_found` ...            | `Unavailable`: a fault of the setting that is named, which costs no alert |
| `message_not_found`, `thread_not_found` ...        | the first message was deleted: a new one is posted                        |
| other errors (`msg_too_long`, `invalid_blocks`)    | `Undeliverable`                                                           |

Sources: Slack's reference of `chat.postMessage` and `chat.update`; "Rate limits" (one message per second and channel).
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct, ValidationError, convert, to_builtins

from ..api import State, Unavailable, Undeliverable
from ..notices import Notice
from ..sinks import Answer, HttpSink, retry_after_seconds

API_URL = "https://slack.com/api"
PREFIX = "thread/"
THREADS_MAX = 1000
"""Alerts whose message is known; beyond it the oldest is forgotten, and continues with a new message."""

_TRUNCATED = re.compile(rb'\{"ok":true,"channel":"(?P<channel>[A-Z0-9]{1,64})","ts":"(?P<ts>[0-9.]{1,64})",')
"""The beginning of an answer that was not read to its end, because it repeats a long message."""
_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}")
_SETTING_OF: Mapping[str, str] = {
    **dict.fromkeys(
        (
            *("not_authed", "invalid_auth", "account_inactive", "token_revoked", "token_expired", "no_permission"),
            *("missing_scope", "not_allowed_token_type", "access_denied", "team_access_not_granted", "org_login_required"),
        ),
        "token",
    ),
    **dict.fromkeys(
        ("channel_not_found", "not_in_channel", "is_archived", "restricted_action", "channel_is_archived", "is_inactive"),
        "channel",
    ),
}
_TEMPORARY = frozenset({"ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable", "request_timeout"})
_GONE = frozenset(
    {"message_not_found", "thread_not_found", "cant_update_message", "edit_window_closed", "cannot_reply_to_message"}
)


class MessageGoneError(Exception):
    """The message to reply to or to change no longer exists, or cannot be changed."""


class Thread(Struct, frozen=True):
    """The first message of an alert: the channel's id and the message's, and since when the alert fires."""

    channel: str
    ts: str
    since: str


class SlackApi:
    """Calls methods of the Web API. `url`: without the name of the method."""

    def __init__(self, http: HttpSink, token: str, url: str = API_URL) -> None:
        self._http = http
        self._url = url
        self._headers = {"authorization": f"Bearer {token}", "content-type": "application/json; charset=utf-8"}

    async def call(self, method: str, content: bytes) -> dict[str, Any]:
        """The answer of a method that succeeded. Raises Unavailable, Undeliverable, MessageGoneError."""
        answer = await self._http.post(f"{self._url}/{method}", content, self._headers)
        found = _read(answer)
        if found is None:
            raise Unavailable("Slack's answer is not that of its Web API: check the proxy, and the setting api_url")
        if found.get("ok") is not True:
            raise _error(str(found.get("error", "")), answer)
        return found


def _read(answer: Answer) -> dict[str, Any] | None:
    try:
        found = json.loads(answer.body)
    except ValueError:
        start = _TRUNCATED.match(answer.body)
        return None if start is None else {"ok": True, **{name: value.decode() for name, value in start.groupdict().items()}}
    return found if isinstance(found, dict) else None


def _error(code: str, answer: Answer) -> Exception:
    code = code if _CODE.fullmatch(code) else "an unknown error"
    if code in _GONE:
        return MessageGoneError(code)
    setting = _SETTING_OF.get(code)
    if setting is not None:
        return Unavailable(f"Slack answered {code}: check the setting {setting}")
    if code in _TEMPORARY:
        return Unavailable(f"Slack answered {code}", retry_after=retry_after_seconds(answer.headers, datetime.now(UTC)))
    return Undeliverable(f"Slack answered {code}")


class Threads:
    """The messages of alerts, in the state of the subscriber."""

    def __init__(self, state: State) -> None:
        self._state = state

    def of(self, notice: Notice) -> Thread | None:
        """The message of the alert of a notice; None if it is to have a new one."""
        found = _thread(self._state.get(PREFIX + notice.key))
        return found if found is not None and found.since == notice.started_at else None

    async def keep(self, notice: Notice, answer: Mapping[str, Any]) -> None:
        """Keep the message that was posted for a notice, unless no other notice of its alert can follow."""
        channel, ts = answer.get("channel"), answer.get("ts")
        if not isinstance(channel, str) or not isinstance(ts, str) or not _can_continue(notice):
            return
        key = PREFIX + notice.key
        if self._state.get(key) is None and len(keys := self._state.keys(PREFIX)) >= THREADS_MAX:
            await self._state.delete(min(keys, key=self._since))
        await self._state.put(key, to_builtins(Thread(channel, ts, notice.started_at)))

    async def forget(self, notice: Notice) -> None:
        """Forget the message of an alert."""
        if self._state.get(PREFIX + notice.key) is not None:
            await self._state.delete(PREFIX + notice.key)

    def _since(self, key: str) -> str:
        found = _thread(self._state.get(key))
        return "" if found is None else found.since


def _thread(stored: Any) -> Thread | None:
    try:
        return None if stored is None else convert(stored, Thread)
    except ValidationError:  # of another release
        return None


def _can_continue(notice: Notice) -> bool:
    """Whether another notice of the alert can follow. An event that is not a failure, but was selected by the settings, is
    announced on its own."""
    return notice.status == "firing" and (notice.severity != "info" or notice.event_type.startswith("alert."))
