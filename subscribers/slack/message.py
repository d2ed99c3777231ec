"""The messages of Slack, in the format Block Kit.

Limits: 50 blocks; header 150 characters, section 3,000, at most 10 fields of 2,000; about 13,000 characters in total. Text is
escaped as Slack requires ("&", "<", ">"), so that an error's text cannot mention a channel.
"""

from typing import Any

from ..notices import EscapedText, Link, Notice, cut_characters, fit_json, utf16_units

HEADER_MAX, SECTION_MAX, FIELD_MAX, FIELDS_MAX = 150, 3000, 2000, 10
TOTAL_MAX = 12_500
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def slack_message(notice: Notice, **address: str) -> bytes:
    """A message as JSON. `address`: none for an incoming webhook, otherwise `channel`, and `ts` of the message to change or
    `thread_ts` of the message to reply to."""
    fixed: dict[str, Any] = {**address, "unfurl_links": False} if address else {}
    state = "resolved" if notice.status == "resolved" else notice.severity
    headline = f"[{state}] {notice.title}"
    blocks: list[object] = [{"type": "header", "text": {"type": "plain_text", "text": cut_characters(headline, HEADER_MAX)}}]
    if notice.text:
        blocks.append({"type": "section", "text": _text(notice.text, SECTION_MAX)})
    named = [*notice.labels.items(), *notice.details.items()][:FIELDS_MAX]
    if named:
        blocks.append({"type": "section", "fields": [_text(value, FIELD_MAX, f"*{_words(name)}*\n") for name, value in named]})
    times = f"since {notice.started_at}" + (f", resolved {notice.ended_at}" if notice.ended_at else "")
    blocks.append({"type": "context", "elements": [_text(one, SECTION_MAX) for one in (notice.event_type, times)]})
    if links := [one for one in notice.links if len(_anchor(one)) <= SECTION_MAX // 2]:
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": "  ".join(map(_anchor, links))}})
    return fit_json({**fixed, "text": escaped(headline, SECTION_MAX), "blocks": blocks}, TOTAL_MAX, utf16_units)


def escaped(text: str, characters_max: int) -> EscapedText:
    """The text with Slack's entities, at most `characters_max` characters; an entity is not split."""
    found = EscapedText(text.translate(_ENTITIES))
    if utf16_units(found) <= characters_max:
        return found
    short = EscapedText(cut_characters(found, characters_max)[:-1])
    return short.cut(len(short))


def _text(text: str, characters_max: int, prefix: str = "") -> dict[str, str]:
    return {"type": "mrkdwn", "text": EscapedText(prefix + escaped(text, characters_max - len(prefix)))}


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _anchor(link: Link) -> str:
    return f"<{link.href.translate(_ENTITIES)}|{link.text}>"
