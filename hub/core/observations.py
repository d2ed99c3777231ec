"""Observations of other processes, which become events: the engine numbers them and does not judge them."""

from msgspec import ValidationError, json

from schemas import CATALOGUE, OBSERVED_KINDS, check_id
from schemas import reports as r

from .bounds import OBSERVED_BYTES_MAX, OBSERVED_MAX
from .changes import Changes
from .envelope import Envelope, InvalidReport
from .routing import misrouted

_decoders = {row.type: json.Decoder(row.data) for row in CATALOGUE.values() if row.entity in OBSERVED_KINDS}


def on_observed(changes: Changes, envelope: Envelope, report: r.EventObserved) -> None:
    """Put the observed event on the log, on the home partition of its entity. Raises InvalidReport."""
    kind, _, name = report.entity.partition("/")
    if kind not in OBSERVED_KINDS:
        raise InvalidReport(f"entity: must begin with one of {', '.join(sorted(one + '/' for one in OBSERVED_KINDS))}")
    if (problem := check_id(name, "entity")) is not None:
        raise InvalidReport(problem)
    decoder = _decoders.get(report.event)
    if decoder is None or CATALOGUE[report.event].entity != kind:
        raise InvalidReport(f"event: no type of events about a {kind}")
    if len(report.data) > OBSERVED_BYTES_MAX:
        raise InvalidReport(f"data: longer than {OBSERVED_BYTES_MAX:,} bytes")
    if misrouted(changes, envelope, name):
        return
    rows = changes.state.observed_rows
    if report.entity not in rows and len(rows) >= OBSERVED_MAX:
        raise InvalidReport(f"entity: this partition would know more than {OBSERVED_MAX:,}")
    try:
        event = decoder.decode(report.data)
    except (ValidationError, ValueError, RecursionError) as error:
        raise InvalidReport(f"data: {error}") from None
    changes.apply_to_observed(kind, name, event, run=envelope.offset)
