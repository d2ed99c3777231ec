"""The instruments of a process and their series. See README.md for the rules of threads and of the number of series."""

import time
from collections.abc import Callable, Iterator, Mapping
from threading import Lock

from schemas.instruments import INSTRUMENTS, NAME, Instrument, InstrumentKind

from ..logs import Logger, OutageLog
from .series import SERIES_MAX, SeriesTable, Value
from .snapshot import MetricsSnapshot
from .values import Counter, Gauge, Histogram

log = Logger(__name__)

OVERFLOW = "hub.metrics.series.overflow"
#: Names that a constant label cannot have.
_TAKEN_LABELS = {"le", "quantile"}.union(*(instrument.labels for instrument in INSTRUMENTS.values()))


def histogram_of(name: str) -> Histogram:
    """A histogram with the bounds of an instrument of the catalogue, to keep as plain data and publish later. Raises ValueError
    if there is no such histogram."""
    return Histogram(_known(name, "histogram").bounds)


class Registry:
    """The instruments of one process: `counter`, `gauge` and `histogram` return the value of one series, to keep and write.

    `constant`: labels of every series of this process (for example `role`). `series_max`: series per instrument; label values
    beyond are counted in one series, whose values are "other". `wall_clock_ns`: nanoseconds since the epoch. Raises ValueError
    for a constant label that an instrument has itself."""

    def __init__(
        self,
        constant: Mapping[str, str] | None = None,
        *,
        series_max: int = SERIES_MAX,
        wall_clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.constant = _checked(constant or {})
        self._series_max = series_max
        self._wall_clock_ns = wall_clock_ns
        self._started_ns = wall_clock_ns()
        self._tables: dict[str, SeriesTable] = {}
        self._prometheus_names: dict[str, str] = {}
        self._owners: dict[str, str] = {}
        self._lock = Lock()
        self._callbacks: dict[int, Callable[[], object]] = {}
        self._callbacks_ever = 0
        self._outages = OutageLog(log, action="metrics_source_failed", over="metrics_source_works")

    # Instruments of the hub

    def counter(self, name: str, **labels: str | int) -> Counter:
        """The counter of these labels. Raises ValueError if the catalogue has no such counter, or it has other labels."""
        value = self._series(_known(name, "counter"), labels)
        assert isinstance(value, Counter)
        return value

    def gauge(self, name: str, **labels: str | int) -> Gauge:
        """The gauge or updown of these labels. Raises ValueError as `counter`."""
        value = self._series(_known(name, "gauge", "updown"), labels)
        assert isinstance(value, Gauge)
        return value

    def histogram(self, name: str, **labels: str | int) -> Histogram:
        """The histogram of these labels. Raises ValueError as `counter`."""
        value = self._series(_known(name, "histogram"), labels)
        assert isinstance(value, Histogram)
        return value

    def publish(self, name: str, histogram: Histogram, **labels: str | int) -> None:
        """Make a histogram that is kept elsewhere the series of these labels, and read it at each collection. Raises ValueError
        as `counter`, and if its bounds are not those of the catalogue."""
        instrument = _known(name, "histogram")
        if histogram.bounds != instrument.bounds:
            raise ValueError(f"{name}: its bounds are {instrument.bounds}, not {histogram.bounds}")
        table = self._tables.get(name) or self.declare(instrument)
        table.replace(table.key_of(labels), histogram)

    def forget(self, name: str, **labels: str | int) -> None:
        """Remove the series of these labels, for example of a partition that another process has taken over. No effect if there
        is none. A value that was kept for it is not collected any longer. Raises ValueError if the names of the labels are not
        those of the instrument."""
        table = self._tables.get(name)
        if table is not None:
            table.remove(table.key_of(labels))

    # Collection

    def observe(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call `callback` before each collection, in its thread, to set gauges. One that raises is logged and does not prevent
        the collection. Returns a function that ends this."""
        self._callbacks_ever += 1
        number = self._callbacks_ever
        self._callbacks[number] = callback
        return lambda: self._unobserve(number)

    def _unobserve(self, number: int) -> None:
        if self._callbacks.pop(number, None) is not None:
            self._outages.works(number)

    def collect(self) -> MetricsSnapshot:
        """The values of all series, as an immutable snapshot. One thread at a time may call it."""
        for number, callback in list(self._callbacks.items()):
            self._call(number, callback)
        self._count_overflow()
        with self._lock:
            tables = list(self._tables.values())
        samples = tuple(table.samples() for table in tables)
        return MetricsSnapshot(self._started_ns, self._wall_clock_ns(), samples, dict(self.constant))

    def _call(self, number: int, callback: Callable[[], object]) -> None:
        try:
            callback()
        except Exception as error:
            cause = f"{number} {type(error).__name__}"
            self._outages.failed(number, cause, "a source of metrics failed", source=repr(callback), error=repr(error))
        else:
            self._outages.works(number)

    def _count_overflow(self) -> None:
        for name, table in list(self._tables.items()):
            if table.overflowed:
                self.counter(OVERFLOW, instrument=name).follow(table.overflowed)

    # Declarations

    def declare(self, instrument: Instrument) -> SeriesTable:
        """The series of an instrument, which is new or the same as declared before. Raises ValueError if another instrument has
        its name, or its name in Prometheus."""
        with self._lock:
            table = self._tables.get(instrument.name)
            if table is None:
                owner = self._prometheus_names.setdefault(instrument.prometheus.removesuffix("_total"), instrument.name)
                if owner != instrument.name:
                    raise ValueError(f"{instrument.name}: in Prometheus it has the same name as {owner}")
                table = self._tables[instrument.name] = SeriesTable(instrument, self._series_max, self._wall_clock_ns)
        if table.instrument._replace(description="") != instrument._replace(description=""):
            raise ValueError(f"{instrument.name}: it was declared before as {_form(table.instrument)}, now {_form(instrument)}")
        return table

    def claim(self, name: str, owner: str) -> None:
        """Reserve an instrument for one writer. Raises ValueError if another owner has claimed it."""
        with self._lock:
            first = self._owners.setdefault(name, owner)
        if first != owner:
            raise ValueError(f"{name}: it is written by {first}; if {owner} wrote it as well, it would be counted twice")

    def _series(self, instrument: Instrument, labels: Mapping[str, str | int]) -> Value:
        table = self._tables.get(instrument.name) or self.declare(instrument)
        return table.value(labels)

    def __iter__(self) -> Iterator[str]:
        """The names of the instruments that are in use."""
        return iter(list(self._tables))


def _known(name: str, *kinds: InstrumentKind) -> Instrument:
    instrument = INSTRUMENTS.get(name)
    if instrument is None:
        raise ValueError(f"{name}: the catalogue of instruments (schemas/instruments.py) does not have it")
    if instrument.kind not in kinds:
        raise ValueError(f"{name}: it is a {instrument.kind}, not a {kinds[0]}")
    return instrument


def _checked(constant: Mapping[str, str]) -> dict[str, str]:
    for name in constant:
        if not NAME.fullmatch(name) or "." in name or name in _TAKEN_LABELS:
            raise ValueError(f"constant: {name[:64]!r} cannot be the name of a label of all series")
    return dict(constant)


def _form(instrument: Instrument) -> str:
    labels = ", ".join(instrument.labels)
    return f"{instrument.kind} in {instrument.unit or 'no unit'} with labels ({labels}) and {len(instrument.bounds)} bounds"
