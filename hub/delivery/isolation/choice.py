"""Which subscribers run in a process of their own."""

from ..config import SubscriberConfig
from ..discovery import available

BUILTIN_PACKAGE = "subscribers"


def is_isolated(config: SubscriberConfig) -> bool:
    """Whether the subscriber runs in a process of its own: as configured; by default, unless it is built in."""
    if config.isolation is None:
        return not is_builtin(config.use)
    return config.isolation == "process"


def is_builtin(use: str) -> bool:
    """Whether `use` names a plugin of the package `subscribers`. Nothing is imported."""
    if ":" not in use:
        found = available().get(use)
        use = "" if found is None else found.value
    return use.partition(":")[0].partition(".")[0] == BUILTIN_PACKAGE
