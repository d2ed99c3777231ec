"""Forwards misrouted reports to the partition of their task."""

from schemas import events as e

from .changes import Changes
from .envelope import Envelope, InvalidReport


def misrouted(changes: Changes, envelope: Envelope, root: str) -> bool:
    """Forward a record to the partition of its root if necessary, at most once; returns whether it was forwarded. Raises
    InvalidReport if it was already forwarded to the wrong partition."""
    home = changes.home_of(root)
    if home == changes.partition:
        return False
    if envelope.forwarded_from is not None:
        raise InvalidReport(f"forwarded from {envelope.forwarded_from} to the wrong partition")
    changes.forwards.append((home, envelope.record))
    changes.apply_to_engine(e.EngineReportForwarded(partition=home, offset=envelope.offset, report=envelope.type))
    return True
