"""The configured subscribers, for commands about them; times in options."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from schemas import one_line

from ..config import is_configured
from ..errors import ConfigurationError

if TYPE_CHECKING:
    from ..delivery import SubscriberConfig, SubscriberPlan
    from ..kafka import Cluster


def configured_subscribers() -> "list[SubscriberConfig]":
    """The subscribers that `hub delivery` runs here: those of `hub.toml`, or the console. Raises ConfigurationError."""
    from ..delivery import parse_configs
    from ..settings import Settings

    if not is_configured():
        return parse_configs([{"use": "console"}])
    from ..runtime.export import exporting_subscribers

    settings = Settings.load()
    entries = settings.subscribers or [{"use": "console"}]
    return parse_configs([*entries, *exporting_subscribers(settings.otlp, settings.metrics, entries)])


def dead_letter_configs() -> dict[str, str]:
    """The configured settings of topics of dead letters."""
    from ..kafka import DLQ_PREFIX
    from ..runtime.tuning import topic_overrides
    from ..settings import Settings

    return topic_overrides(Settings.load().topics if is_configured() else None).get(DLQ_PREFIX, {})


def plan_of(subscriber: str) -> "SubscriberPlan":
    """The checked configuration of one subscriber. Raises ConfigurationError if it is not configured here or invalid,
    PluginBroken."""
    from ..delivery import load
    from ..delivery.config import plan

    configs = {one.id: one for one in configured_subscribers()}
    if subscriber not in configs:
        raise ConfigurationError(
            f"Subscriber {one_line(subscriber)} is not configured in hub.toml; configured: {', '.join(configs) or 'none'}."
        )
    return plan(configs[subscriber], load(configs[subscriber].use))


async def check_known(cluster: "Cluster", subscriber: str) -> None:
    """Raise ConfigurationError for an id that is neither configured here nor that of a consumer group or of a topic of dead
    letters. Raises Unreachable."""
    from ..delivery.administration import known_ids

    configured = [one.id for one in configured_subscribers()]
    known = dict.fromkeys([*configured, *await known_ids(cluster)])
    if subscriber not in known:
        raise ConfigurationError(f"There is no subscriber {one_line(subscriber)}; known: {', '.join(known) or 'none'}.")


def time_ms(text: str, option: str) -> int:
    """Milliseconds since the epoch of an RFC 3339 time, or of a duration before now. Raises BadParameter."""
    from subscribers import parse_duration

    try:
        return int((datetime.now(UTC).timestamp() - parse_duration(text)) * 1000)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise typer.BadParameter(
            f"{text!r} must be an RFC 3339 time with a zone, such as 2026-01-31T12:00:00Z, or a duration before now, such as 2h.",
            param_hint=option,
        )
    return max(0, int(moment.timestamp() * 1000))


def time_text(timestamp_ms: int) -> str:
    """A timestamp as RFC 3339 time, to the second."""
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
