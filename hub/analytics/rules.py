"""Rules as data: what raises an alert, for which keys, and what it does. The tables `[[rules]]` of `hub.toml`.

    [[rules]]
    name = "charge-fails"
    kind = "threshold"
    match = { type = "task.failed", task = "charge" }
    for_each = ["queue"]
    window = "5m"
    at_least = 3

Every fault of a rule is reported with the name of the rule and of the field.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from schemas import decoding_problem

from ..errors import ConfigurationError
from .rule_kinds import NAME, Rule


def parse_rules(entries: Any, where: str = "rules") -> list[Rule]:
    """The rules in a list of tables. Raises ConfigurationError, which names the rule and the field."""
    if not isinstance(entries, list):
        raise ConfigurationError(f"{where}: must be a list of tables")
    rules = [_parse(entry, f"{where}[{index}]") for index, entry in enumerate(entries)]
    names = [rule.name for rule in rules]
    for index, rule in enumerate(rules):
        if rule.name in names[:index]:
            raise ConfigurationError(f"{where}[{index}].name: {rule.name!r} is the name of another rule; names must be unique")
        for parent in rule.inhibited_by:
            if parent not in names or parent == rule.name:
                raise ConfigurationError(f"{where}[{index}].inhibited_by: there is no other rule {parent!r}")
    return _parents_first(rules, where)


def _parse(entry: Any, where: str) -> Rule:
    name = entry.get("name") if isinstance(entry, Mapping) else None
    place = f"{where} ({name})" if isinstance(name, str) and NAME.fullmatch(name) else where
    try:
        rule: Rule = msgspec.convert(entry, Rule)
        return rule
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{place}: {decoding_problem(error)}.") from None


def _parents_first(rules: Sequence[Rule], where: str) -> list[Rule]:
    """The rules, each after those that inhibit it, else in their order. Raises ConfigurationError for a cycle."""
    ordered: list[Rule] = []
    waiting = list(rules)
    while waiting:
        names = {rule.name for rule in ordered}
        ready = [rule for rule in waiting if names.issuperset(rule.inhibited_by)]
        if not ready:
            raise ConfigurationError(f"{where}: {waiting[0].name!r} is inhibited by a rule that it inhibits")
        ordered += ready
        waiting = [rule for rule in waiting if rule not in ready]
    return ordered
