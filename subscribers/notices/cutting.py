"""Cuts text and JSON to the limits of destinations.

A cut is marked with "…" and never splits a character as people see it: a code point, a letter and its accents, an emoji and its
modifiers. The boundaries are those of the most frequent rules of Unicode's extended grapheme clusters (UAX #29: GB9, GB9a, GB11).

Rules: pure.
"""

import json
import re
import unicodedata
from collections.abc import Callable
from typing import Any

MARK = "…"
_JOINER = "\u200d"
_JOINED_MAX = 32
_ENTITY = re.compile(r"&[a-z]{0,3}\Z")

Measure = Callable[[str], int]
"""The size of serialised JSON, in the unit of a limit."""


class FreeText(str):
    """A text in a payload that `fit_json` may shorten. Others, such as keys and links, are never changed."""

    __slots__ = ()

    def cut(self, keep: int) -> "FreeText":
        """Its first characters, at most `keep` code points, and the mark."""
        return type(self)(_beginning(self, keep) + MARK)


class EscapedText(FreeText):
    """A `FreeText` in which `&`, `<` and `>` were replaced by entities: a cut removes an entity as a whole."""

    __slots__ = ()

    def cut(self, keep: int) -> "EscapedText":
        """As in `FreeText`."""
        return type(self)(_ENTITY.sub("", _beginning(self, keep)) + MARK)


def utf8_bytes(text: str) -> int:
    """The size in bytes as UTF-8."""
    return len(text.encode("utf-8", "replace"))


def utf16_units(text: str) -> int:
    """The length as most destinations count characters: in code units of UTF-16, never less than the number of code points."""
    return len(text.encode("utf-16-le", "replace")) // 2


def cut_bytes(text: str, bytes_max: int) -> str:
    """The text in at most `bytes_max` bytes of UTF-8; with the mark at its end if it was cut and the mark has space."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= bytes_max:
        return raw.decode()
    left = bytes_max - len(MARK.encode())
    return _cut_to(text, len(raw[: left if left >= 0 else bytes_max].decode(errors="ignore")), marked=left >= 0)


def cut_characters(text: str, characters_max: int) -> str:
    """The text in at most `characters_max` code units of UTF-16, see `utf16_units`; with the mark at its end if it was cut."""
    raw = text.encode("utf-16-le", "replace")
    if len(raw) // 2 <= characters_max:
        return raw.decode("utf-16-le")
    left = characters_max - 1
    return _cut_to(text, len(raw[: max(left, 0) * 2].decode("utf-16-le", errors="ignore")), marked=left >= 0)


def _cut_to(text: str, keep: int, *, marked: bool) -> str:
    return _beginning(text, keep).encode("utf-8", "replace").decode() + (MARK if marked else "")


def _beginning(text: str, keep: int) -> str:
    """At most `keep` code points, without the beginning of a character that continues after them."""
    end = min(max(keep, 0), len(text))
    least = max(0, end - _JOINED_MAX)
    while least < end < len(text) and _continues(text, end):
        end -= 1
    return text[: end if end > least or least == 0 else keep]


def _continues(text: str, index: int) -> bool:
    """Whether the code point at `index` belongs to the same character as the one before it."""
    one = text[index]
    return (
        one == _JOINER or text[index - 1] == _JOINER or unicodedata.category(one)[0] == "M" or "\U0001f3fb" <= one <= "\U0001f3ff"
    )


def fit_json(payload: Any, size_max: int, measure: Measure = utf8_bytes) -> bytes:
    """`payload` as JSON of at most `size_max`, in the unit of `measure`.

    If it is larger, the largest instances of `FreeText` in it are shortened to a common size, which is as large as possible;
    smaller ones are not changed. Raises ValueError if the other parts are too large on their own."""
    text = _serialised(payload)
    if (size := measure(text)) > size_max:
        sizes = sorted(measure(_serialised(one)) for one in _free_texts(payload))
        ceiling = _ceiling(sizes, size_max - (size - sum(sizes)))
        text = _serialised(_shortened(payload, ceiling, measure))
        if measure(text) > size_max:
            raise ValueError(f"the payload cannot be cut to {size_max}: it has {size}, of which {sum(sizes)} can be shortened")
    return text.encode("utf-8", "replace")


def _serialised(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _free_texts(value: Any) -> list[FreeText]:
    if isinstance(value, FreeText):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for one in inner for text in _free_texts(one)]


def _ceiling(sizes: list[int], total_max: int) -> int:
    """The largest size to which all of the sorted `sizes` can be limited, so that their sum is at most `total_max`."""
    left = total_max
    for index, size in enumerate(sizes):
        share = left // (len(sizes) - index)
        if size > share:
            return share
        left -= size
    return sizes[-1] if sizes else 0


def _shortened(value: Any, ceiling: int, measure: Measure) -> Any:
    if isinstance(value, FreeText):
        return _shortened_text(value, ceiling, measure)
    if isinstance(value, dict):
        return {name: _shortened(one, ceiling, measure) for name, one in value.items()}
    return [_shortened(one, ceiling, measure) for one in value] if isinstance(value, list) else value


def _shortened_text(text: FreeText, ceiling: int, measure: Measure) -> FreeText:
    """The longest beginning of `text` whose JSON is not larger than `ceiling`, by bisection."""
    if measure(_serialised(text)) <= ceiling:
        return text
    least, most = 0, len(text)
    while least < most:
        middle = (least + most + 1) // 2
        if measure(_serialised(text.cut(middle))) <= ceiling:
            least = middle
        else:
            most = middle - 1
    return text.cut(least)
