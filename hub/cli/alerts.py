"""`hub alerts`: the alerts that rules raised, silences, and dry runs of rules."""

import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schemas import one_line

from .. import config
from ..errors import ConfigurationError
from .alerts_receive import register_receive
from .configured import time_ms
from .render import duration, print_fields, print_json
from .shell import DEFAULT_BOOTSTRAP, EXIT_NOT_COMPLETED, Bootstrap, Json, run
from .stats import ReadingProgress
from .tables import print_table

if TYPE_CHECKING:
    from ..analytics import AlertId, AlertState, Book, Rule, SimulatedAlert

SEND_SECONDS = 10.0
SECOND = 1_000_000
Since = Annotated[
    str,
    typer.Option("--since", metavar="TIME", help="Read the events from then on: a time, or a duration before now, such as 7d."),
]
Name = Annotated[str, typer.Argument(metavar="RULE[/KEY]", help="The name of a rule, and the key of one of its alerts.")]


def register(app: typer.Typer) -> None:
    """Add `hub alerts` to the command line."""
    text = "Show and silence alerts; test rules on past events; create tasks from Alertmanager's alerts."
    alerts = typer.Typer(no_args_is_help=True, help=text)
    alerts.command("list")(list_alerts)
    alerts.command("show")(show)
    alerts.command("silence")(silence)
    alerts.command("test")(try_rules)
    register_receive(alerts)
    app.add_typer(alerts, name="alerts")


def list_alerts(
    every: Annotated[bool, typer.Option("--all", help="Also those that are resolved.")] = False,
    since: Since = "7d",
    as_json: Json = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> None:
    """List the alerts that fire, and the silences.

    They are read from the events of the hub. Exit codes: 0 success; 2 an invalid option; 3 no broker responds.
    """
    book, now = run(_read_book(bootstrap, since)), _now()
    shown = [alert for alert in book.alerts.values() if every or alert.is_firing]
    shown.sort(key=lambda alert: (not alert.is_firing, -alert.fired))
    silences = [one for one in book.silences.values() if one.until > now]
    if as_json:
        print_json({"alerts": [_as_json(book, one, now) for one in shown], "silences": [_silence_json(one) for one in silences]})
        return
    if not shown:
        print("No alert fires." if not every else "No alerts.")
    else:
        rows = [
            (_name(one), _state(book, one, now), one.severity, duration((now - one.fired) / SECOND), one.summary) for one in shown
        ]
        print_table(("ALERT", "STATE", "SEVERITY", "FIRED AGO", "SUMMARY"), rows, text=True, shorten=("ALERT",))
    if silences:
        print("\nSilences")
        print_table(("RULE", "KEY", "UNTIL", "BY"), [(one.rule, one.key, _time(one.until), one.by) for one in silences])


def show(name: Name, since: Since = "7d", as_json: Json = False, bootstrap: Bootstrap = DEFAULT_BOOTSTRAP) -> None:
    """Show one alert, with the events and tasks that caused it.

    Exit codes: 0 success; 1 there is no such alert; 2 an invalid option; 3 no broker responds.
    """
    book, now = run(_read_book(bootstrap, since)), _now()
    alert = book.alerts.get(_id_of(name).name)
    if alert is None:
        typer.echo(one_line(f"There is no alert {name} since {since}."), err=True)
        raise typer.Exit(EXIT_NOT_COMPLETED)
    if as_json:
        print_json(_as_json(book, alert, now))
        return
    fields = _as_json(book, alert, now)
    fields["labels"] = ", ".join(f"{key}={value}" for key, value in alert.labels.items())
    for listed in ("tasks", "events"):
        fields[listed] = ", ".join(getattr(alert, listed))
    print_fields((key.replace("_", " "), value) for key, value in fields.items())


def silence(
    name: Name,
    duration_text: Annotated[
        str, typer.Option("--for", metavar="DURATION", help="How long, such as 2h; 0s ends a silence.")
    ] = "1h",
    by: Annotated[str | None, typer.Option(help="Who silences it, which is recorded.")] = None,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> None:
    """Silence a rule, or one of its alerts: until then it does not fire.

    RULE and KEY may be patterns, in which * matches any text; without KEY all alerts of the rule are silenced. If the condition
    still holds at the end of the silence, the alert fires then. Exit codes: 0 the silence is stored; 2 an invalid option; 3 no
    broker responds.
    """
    from subscribers import parse_duration

    from ..analytics import ALL_KEYS

    try:
        seconds = parse_duration(duration_text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--for") from None
    alert = _id_of(name)
    until = _now() + round(seconds * SECOND)
    run(_silence(bootstrap, alert if alert.key else alert._replace(key=ALL_KEYS), until, by))
    print(one_line(f"Alerts {name} are silenced until {_time(until)}." if seconds else f"The silence of {name} ends."))


def try_rules(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="A TOML file with tables named rules (default: those of hub.toml).")
    ] = None,
    start: Annotated[str, typer.Option("--from", metavar="TIME", help="Beginning: a time, or a duration before now.")] = "1d",
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="End (default: now).")] = None,
    as_json: Json = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> None:
    """Test rules on past events: which alerts would have fired, and when. Nothing is sent.

    Silences are ignored. Exit codes: 0 success; 2 an invalid option or rule; 3 no broker responds.
    """
    rules = [rule for rule in _rules_of(file) if rule.enabled]
    span = time_ms(start, "--from"), _now() // 1_000 if end is None else time_ms(end, "--to")
    if span[0] >= span[1]:
        raise typer.BadParameter("must be before --to", param_hint="--from")
    firings, events = run(_simulate(bootstrap, rules, span))
    counts = {rule.name: sum(one.rule == rule.name for one in firings) for rule in rules}
    if as_json:
        print_json({"events": events, "counts": counts, "firings": [_firing_json(one) for one in firings]})
        return
    print(f"{events:,} events from {_time(span[0] * 1_000)} to {_time(span[1] * 1_000)}")
    for name, count in counts.items():
        print(f"{name} would have fired {count} {'time' if count == 1 else 'times'}.")
    if firings:
        rows = [
            (
                one.rule,
                one.key,
                _time(one.fired),
                "" if one.resolved is None else _time(one.resolved),
                one.transition.data.summary,
            )
            for one in firings
        ]
        print_table(("RULE", "KEY", "FIRED", "RESOLVED", "SUMMARY"), rows, text=True, shorten=("KEY",))


def _rules_of(file: Path | None) -> "list[Rule]":
    from ..analytics import parse_rules

    if file is None:
        from .analytics import configured_analytics

        rules = configured_analytics()[0]
        if not rules:
            raise ConfigurationError(f"{config.settings_file()} has no [[rules]].")
        return rules
    try:
        content = tomllib.loads(file.read_text())
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror or error}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} is not TOML: {error}.") from error
    return parse_rules(content.get("rules", []), f"{file}: rules")


async def _read_book(bootstrap: str, since: str) -> "Book":
    from ..analytics import read_book
    from ..runtime.cluster import cluster_at

    progress = ReadingProgress()
    book = await read_book(cluster_at(bootstrap), time_ms(since, "--since"), progress.read)
    progress.close()
    return book


async def _simulate(bootstrap: str, rules: "list[Rule]", span: tuple[int, int]) -> "tuple[list[SimulatedAlert], int]":
    from ..analytics import RuleTrial, lead_seconds, merged, micros_of, ranges
    from ..runtime.cluster import cluster_at

    cluster, progress = cluster_at(bootstrap), ReadingProgress()
    places = await ranges(cluster, max(0, span[0] - round(lead_seconds(rules) * 1_000)), span[1])
    total = sum(place.length for place in places.values())
    history = RuleTrial(rules, span[0] * 1_000)
    async for event in merged(cluster, places):
        if micros_of(event.time) <= span[1] * 1_000:
            history.take(event)
            progress.read(history.events, total)
    progress.close()
    return history.finish(span[1] * 1_000), history.events


async def _silence(bootstrap: str, alert: "AlertId", until: int, by: str | None) -> None:
    from uuid_utils import uuid7

    from schemas import check_id

    from ..analytics import records_of, silenced
    from ..kafka import Outgoing, Sender, describe_partitions
    from ..runtime.cluster import cluster_at

    if (problem := check_id(alert.name, "RULE[/KEY]")) is not None:
        raise typer.BadParameter(problem)
    cluster = cluster_at(bootstrap)
    report = silenced(alert, until, by, str(uuid7()))
    sender = Sender(cluster)
    await sender.start()
    try:
        for place, records in records_of([report], await describe_partitions(cluster), _now() // 1_000).items():
            for record in records:
                headers = [(name, value or b"") for name, value in record.headers]
                outgoing = Outgoing(place.topic, place.partition, record.key or b"", record.value or b"", headers)
                await sender.send(outgoing, timeout_seconds=SEND_SECONDS)
    finally:
        await sender.stop()


def _id_of(name: str) -> "AlertId":
    from ..analytics import AlertId

    rule, _, key = name.partition("/")
    return AlertId(rule, key)


def _now() -> int:
    return time.time_ns() // 1_000


def _time(moment: int) -> str:
    from ..analytics import time_of

    return time_of(moment)


def _name(alert: "AlertState") -> str:
    return f"{alert.rule}/{alert.key}" if alert.key else alert.rule


def _state(book: "Book", alert: "AlertState", now: int) -> str:
    from ..analytics import AlertId

    if not alert.is_firing:
        return "resolved"
    return "silenced" if book.silence_of(AlertId(alert.rule, alert.key), now) is not None else "firing"


def _as_json(book: "Book", alert: "AlertState", now: int) -> dict[str, Any]:
    return {
        "rule": alert.rule,
        "key": alert.key,
        "state": _state(book, alert, now),
        "severity": alert.severity,
        "summary": alert.summary,
        "fired_at": _time(alert.fired),
        "resolved_at": None if alert.is_firing else _time(alert.resolved),
        "fired_times": alert.fired_times,
        "value": alert.value,
        "threshold": alert.threshold,
        "window_seconds": alert.window_seconds,
        "labels": alert.labels,
        "tasks": alert.tasks,
        "events": alert.events,
    }


def _silence_json(one: Any) -> dict[str, Any]:
    return {"rule": one.rule, "key": one.key, "until": _time(one.until), "by": one.by}


def _firing_json(one: "SimulatedAlert") -> dict[str, Any]:
    resolved = None if one.resolved is None else _time(one.resolved)
    data = one.transition.data
    return {"rule": one.rule, "key": one.key, "fired_at": _time(one.fired), "resolved_at": resolved, "summary": data.summary}
