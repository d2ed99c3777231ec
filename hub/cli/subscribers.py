"""`hub subscribers`: lag, pauses, resets. Its other commands are in `subscriber_events.py` and `dead_letters.py`."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from msgspec import to_builtins

from schemas import one_line

from .configured import check_known, configured_subscribers, plan_of, time_ms
from .render import duration, encode_json, print_fields, print_json
from .shell import DEFAULT_BOOTSTRAP, EXIT_NOT_COMPLETED, Bootstrap, Json, run
from .tables import print_table

if TYPE_CHECKING:
    from ..delivery.administration import KnownSubscriber, OffsetMove

Subscriber = Annotated[str, typer.Argument(metavar="ID", help="The id of the subscriber.")]
Target = Literal["latest", "earliest"] | int


def register(app: typer.Typer) -> None:
    """Add `hub subscribers` to the command line."""
    from . import dead_letters, subscriber_events

    subscribers = typer.Typer(
        no_args_is_help=True, help="Show, test, pause and reset subscribers; replay events; handle dead letters."
    )
    subscribers.command("list")(list_subscribers)
    subscribers.command("show")(show)
    subscriber_events.register(subscribers)
    subscribers.command("pause")(pause)
    subscribers.command("resume")(resume)
    subscribers.command("reset")(reset)
    dead_letters.register(subscribers)
    app.add_typer(subscribers, name="subscribers")


def list_subscribers(as_json: Json = False, bootstrap: Bootstrap = DEFAULT_BOOTSTRAP) -> None:
    """List the configured subscribers and those that have a consumer group, with lag and dead letters.

    LAG is the number of records (of any type) from the first that is not acknowledged to the end of the log; OLDEST is the age of
    that record. Exit codes: 0 success; 2 the configuration is invalid, or there is no hub; 3 no broker responds.
    """
    found = _describe(bootstrap)
    if as_json:
        print_json({"subscribers": [_plain(one) for one in found]})
        return
    rows = [
        (one.id, one.use or "(not configured here)", one.state, one.lag, duration(one.oldest_unread_seconds), one.dead_letters)
        for one in found
    ]
    print_table(("SUBSCRIBER", "USE", "STATE", "LAG", "OLDEST", "DEAD LETTERS"), rows, shorten=("USE", "SUBSCRIBER"))


def show(subscriber: Subscriber, as_json: Json = False, bootstrap: Bootstrap = DEFAULT_BOOTSTRAP) -> None:
    """Show one subscriber: settings (secrets are masked), delivery, filter, handlers, lag per partition, dead letters, pause.

    Exit codes: 0 success; 2 no such subscriber, or its configuration is invalid; 3 no broker responds.
    """
    run(_check(bootstrap, subscriber), plugins=True)
    found = _describe(bootstrap, subscriber)
    configured = _configured(subscriber) if found[0].use is not None else {}
    if as_json:
        print_json({**_plain(found[0]), "configured": configured or None})
        return
    _print_known(found[0], configured)


def _describe(bootstrap: str, only: str | None = None) -> "list[KnownSubscriber]":
    from ..delivery.administration import describe_subscribers
    from ..runtime.cluster import cluster_at

    configs = configured_subscribers()
    return run(describe_subscribers(cluster_at(bootstrap), configs, only=only))


def _configured(subscriber: str) -> dict[str, Any]:
    """What is known of a configured subscriber from its plugin. Raises ConfigurationError, PluginBroken."""
    from schemas import CATALOGUE

    from ..delivery import masked_entry
    from ..delivery.selection import Selection

    plan = plan_of(subscriber)
    selection = Selection(plan.plugin, plan.settings, None)
    handlers = {}
    for event_type in CATALOGUE:
        handler = selection.route((("ce_type", event_type.encode()),))
        if handler is not None:
            handlers[event_type] = getattr(handler, "method", "")
    return {
        "settings": masked_entry(plan.config.model_dump(mode="json")).get("settings", {}),
        "delivery": plan.delivery.model_dump(mode="json"),
        "types": plan.config.types,
        "filter": None if plan.filter is None else plan.filter.to_json(),
        "handlers": handlers,
    }


def _print_known(one: "KnownSubscriber", configured: dict[str, Any]) -> None:
    print_fields(
        (
            ("subscriber", one.id),
            ("use", one.use or "(not configured here)"),
            ("state", one.state),
            ("processes", one.members),
            ("paused since", one.paused_since),
            ("reason", one.pause_reason),
            ("lag", one.lag),
            ("oldest unread", duration(one.oldest_unread_seconds)),
            ("dead letters", one.dead_letters),
            *((name, encode_json(configured[name]).decode()) for name in ("settings", "types", "filter") if configured.get(name)),
            *((f"delivery.{name}", _text(value)) for name, value in configured.get("delivery", {}).items()),
        )
    )
    print()
    rows = [(lag.partition, lag.committed, lag.end, lag.lag) for lag in one.partitions]
    print_table(("PARTITION", "COMMITTED", "END", "LAG"), rows)
    if configured:
        print()
        print_table(("EVENT TYPE", "HANDLER"), list(configured["handlers"].items()))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else encode_json(value).decode()


def pause(
    subscriber: Subscriber,
    reason: Annotated[str, typer.Option(help="The reason, shown by `hub subscribers show`.")] = "",
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> None:
    """Pause a subscriber in all processes, until it is resumed, also after restarts.

    Within seconds its running handlers end, their events are committed, and it leaves its group; its lag grows. Exit codes: 0
    paused, or it already was; 2 no such subscriber; 3 no broker responds.
    """

    async def ask() -> None:
        from ..delivery.administration import pause as pause_subscriber
        from ..runtime.cluster import cluster_at

        await check_known(cluster_at(bootstrap), subscriber)
        await pause_subscriber(cluster_at(bootstrap), subscriber, reason)

    run(ask())
    print(f"{one_line(subscriber)} is paused.")


def resume(subscriber: Subscriber, bootstrap: Bootstrap = DEFAULT_BOOTSTRAP) -> None:
    """Resume a paused subscriber: it continues at its committed offsets.

    Exit codes: 0 resumed, or it was not paused; 2 no such subscriber; 3 no broker responds.
    """

    async def ask() -> None:
        from ..delivery.administration import resume as resume_subscriber
        from ..runtime.cluster import cluster_at

        await check_known(cluster_at(bootstrap), subscriber)
        await resume_subscriber(cluster_at(bootstrap), subscriber)

    run(ask())
    print(f"{one_line(subscriber)} is resumed.")


def reset(
    subscriber: Subscriber,
    to: Annotated[
        str,
        typer.Option("--to", metavar="latest|earliest|TIME", help="The end or the beginning of the log, or a time."),
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> None:
    """Set the committed offsets of a subscriber: events before them are not delivered, those after them are delivered (again).

    It must be paused, or no process may deliver to it. TIME is an RFC 3339 time, or a duration before now, such as 2h. Exit
    codes: 0 the offsets are set; 1 a process delivers to the subscriber, or the command was not confirmed; 2 no such subscriber;
    3 no broker responds.
    """
    target: Target = "latest" if to == "latest" else "earliest" if to == "earliest" else time_ms(to, "--to")
    moves = run(_plan_reset(bootstrap, subscriber, target))
    rows = [(one.partition, one.before, one.after, _difference(one)) for one in moves]
    print_table(("PARTITION", "FROM", "TO", "RECORDS"), rows)
    if not yes and not typer.confirm(f"Set the offsets of {one_line(subscriber)}?", err=True):
        raise typer.Exit(EXIT_NOT_COMPLETED)
    run(_apply_reset(bootstrap, subscriber, moves))
    print(f"The offsets of {one_line(subscriber)} are set.")


def _difference(move: "OffsetMove") -> str:
    if move.before is None or move.before == move.after:
        return ""
    count = move.after - move.before
    return f"{count:,} are not delivered" if count > 0 else f"{-count:,} are delivered again"


async def _plan_reset(bootstrap: str, subscriber: str, target: Target) -> "list[OffsetMove]":
    from ..delivery.administration import plan_reset
    from ..runtime.cluster import cluster_at

    await _check(bootstrap, subscriber)
    return await plan_reset(cluster_at(bootstrap), subscriber, target)


async def _apply_reset(bootstrap: str, subscriber: str, moves: "list[OffsetMove]") -> None:
    from ..delivery.administration import apply_reset
    from ..runtime.cluster import cluster_at

    await apply_reset(cluster_at(bootstrap), subscriber, moves)


async def _check(bootstrap: str, subscriber: str) -> None:
    from ..runtime.cluster import cluster_at

    await check_known(cluster_at(bootstrap), subscriber)


def _plain(one: "KnownSubscriber") -> dict[str, Any]:
    plain: dict[str, Any] = to_builtins(one)
    return plain
