"""Reports that lie in the intake of another partition than their task's."""

from schemas import events as e

from .changes import Changes
from .envelope import Envelope, InvalidReport


def misrouted(changes: Changes, envelope: Envelope, root: str) -> bool:
    """Forward a record to the partition of its root: once. Raises InvalidReport where it was forwarded to the wrong partition."""
    home = changes.home_of(root)
    if home == changes.partition:
        return False
    if envelope.forwarded_from is not None:
        raise InvalidReport(f"forwarded from {envelope.forwarded_from} to the wrong partition")
    changes.forwards.append((home, envelope.record))
    changes.apply_to_engine(e.EngineReportForwarded(partition=home, offset=envelope.offset, report=envelope.type))
    return True
