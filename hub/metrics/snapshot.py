"""The values of all instruments of a process at one time: immutable, and encoded as JSON to pass them to another process."""

from msgspec import DecodeError, Struct, json

from schemas.instruments import InstrumentKind

from .exponential import ExponentialPoint


class ExemplarPoint(Struct, frozen=True, array_like=True):
    """An exemplar in the bucket of this index: value, trace id (32 hexadecimal digits), nanoseconds since the epoch."""

    bucket: int
    value: float
    trace_id: str
    at_ns: int


class Point(Struct, frozen=True, omit_defaults=True):
    """One series. `labels`: the values of the instrument's labels, in their order; empty for an absent one.

    `value`: of a counter, updown or gauge; the sum of a histogram. `counts`: per bucket of a histogram, not cumulative; the last
    is that above all bounds. `exponential`: the same values in exponential buckets, if the process counts them. `lowest`,
    `highest`: of a histogram since its start; None if it is empty."""

    labels: tuple[str, ...]
    value: float
    counts: tuple[int, ...] = ()
    lowest: float | None = None
    highest: float | None = None
    exemplars: tuple[ExemplarPoint, ...] = ()
    exponential: ExponentialPoint | None = None

    @property
    def count(self) -> int:
        """The number of values of a histogram."""
        return sum(self.counts)


class InstrumentSamples(Struct, frozen=True, omit_defaults=True):
    """An instrument and its series."""

    name: str
    kind: InstrumentKind
    unit: str
    labels: tuple[str, ...]
    description: str
    points: tuple[Point, ...]
    bounds: tuple[float, ...] = ()


class MetricsSnapshot(Struct, frozen=True):
    """All instruments that have series. `started_ns`: when counting began, `taken_ns`: when this was taken, since the epoch.
    `constant`: labels of every series of this process, for example its role."""

    started_ns: int
    taken_ns: int
    instruments: tuple[InstrumentSamples, ...]
    constant: dict[str, str] = {}

    def instrument(self, name: str) -> InstrumentSamples | None:
        """The samples of one instrument; None if it has no series."""
        return next((one for one in self.instruments if one.name == name), None)

    def value(self, name: str, **labels: str) -> float:
        """The value of one series, or the sum of a histogram; 0 if it does not exist."""
        samples = self.instrument(name)
        wanted = () if samples is None else tuple(labels.get(one, "") for one in samples.labels)
        return 0.0 if samples is None else next((one.value for one in samples.points if one.labels == wanted), 0.0)


_DECODER = json.Decoder(MetricsSnapshot)


def encode_snapshot(snapshot: MetricsSnapshot) -> bytes:
    """The snapshot as JSON."""
    return json.encode(snapshot)


def decode_snapshot(data: bytes) -> MetricsSnapshot:
    """A snapshot from JSON. Raises ValueError if it is not one."""
    try:
        return _DECODER.decode(data)
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not a snapshot of metrics: {error}") from None
