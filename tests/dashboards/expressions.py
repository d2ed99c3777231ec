"""What an expression in PromQL names: its metrics with the labels of their selectors, and the labels by which it groups.

A second reading of the expressions, which shares no code with the builders. It knows the part of PromQL that they use.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from schemas.instruments import INSTRUMENTS, Instrument

TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[A-Za-z_:][A-Za-z0-9_:]*|=~|!~|!=|==|[{}(),=<>+*/-]')
IGNORED = re.compile(r"\boffset \$?\w+|\$\w+|\[[^\]]*\]|(?<![\w.:])\d[\w.]*")
GROUPING = {"by", "on"}
OPERATORS = {"and", "or", "unless", "bool", "group_left", "group_right"}

#: Series of Prometheus itself.
OF_PROMETHEUS = {"ALERTS": {"alertname", "alertstate", "severity", "window"}, "up": {"job", "instance"}}
#: Labels that every series of the hub may have.
ADDED = {"le", "role", "process", "instance"}


class Named(NamedTuple):
    """What an expression names: metrics and labels of their selectors, and the labels of `by` and `on`."""

    metrics: list[tuple[str, frozenset[str]]]
    grouped: set[str]


def named_in(expression: str) -> Named:
    """What an expression names."""
    strings = re.sub(r'"(?:[^"\\]|\\.)*"', '""', expression)
    tokens = TOKEN.findall(IGNORED.sub(" ", strings))
    metrics: list[tuple[str, frozenset[str]]] = []
    grouped: set[str] = set()
    index = 0
    while index < len(tokens):
        token, following = tokens[index], tokens[index + 1 : index + 2]
        if token in GROUPING:
            end = tokens.index(")", index)
            grouped |= set(tokens[index + 2 : end]) - {","}
            index = end
        elif re.match(r"[A-Za-z_:]", token) and token not in OPERATORS and not set(following) & {"(", "by"}:
            end = tokens.index("}", index) if following == ["{"] else index
            labels = [one for one, after in zip(tokens[index:end], tokens[index + 1 : end], strict=False) if is_operator(after)]
            metrics.append((token, frozenset(labels)))
            index = end
        index += 1
    return Named(metrics, grouped)


def is_operator(token: str) -> bool:
    """Whether it stands between a label and its value."""
    return token in ("=", "=~", "!=", "!~")


def labels_of(metric: str, recorded: dict[str, set[str]]) -> set[str] | None:
    """The labels that a metric may have; None if there is no such metric. `recorded`: those of recording rules."""
    for instrument in INSTRUMENTS.values():
        if metric in names_of(instrument):
            return {*instrument.labels, *ADDED}
    return OF_PROMETHEUS.get(metric, recorded.get(metric))


def names_of(instrument: Instrument) -> set[str]:
    """The names in Prometheus of the series of an instrument."""
    name = instrument.prometheus
    return {f"{name}{suffix}" for suffix in ("_bucket", "_count", "_sum")} if instrument.kind == "histogram" else {name}


def objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every JSON object in a JSON value."""
    if isinstance(value, dict):
        yield value
        for one in value.values():
            yield from objects(one)
    elif isinstance(value, list):
        for one in value:
            yield from objects(one)
