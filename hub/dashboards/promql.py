"""Expressions in PromQL, built from the catalogue: an unknown instrument or label is a ValueError.

Labels of a selector are given as keyword arguments. A value begins with the operator, if that is not "=": `result="success"`,
`result="~failure|error"`, `queue="!default"`, `queue="!~default|bulk"`. Values may contain variables of Grafana (`$queue`).

Source: "Querying basics" in Prometheus's documentation.
"""

from schemas.instruments import INSTRUMENTS, Instrument

RATE = "$__rate_interval"
"""The window of rates in dashboards: Grafana chooses it, at least four times the scrape interval."""
RANGE = "$__range"
"""The time range that a dashboard shows."""

_OPERATORS = (("!~", "!~"), ("~", "=~"), ("!", "!="))


def series(name: str, **labels: str) -> str:
    """The series of an instrument that is not a histogram."""
    instrument = _instrument(name)
    if instrument.kind == "histogram":
        raise ValueError(f"{name} is a histogram: its series are those of buckets, count and sum")
    return _selector(instrument, "", labels)


def rate(name: str, window: str = RATE, **labels: str) -> str:
    """The rate per second of a counter."""
    return f"rate({_counter(name, labels)}[{window}])"


def increase(name: str, window: str = RANGE, **labels: str) -> str:
    """The increase of a counter in a window."""
    return f"increase({_counter(name, labels)}[{window}])"


def counted(name: str, window: str = RANGE, *by: str, **labels: str) -> str:
    """How much a counter of rare things grew in a window, by the labels `by`, as a whole number. Nothing where it did not grow.
    `increase` alone does not see the first of them, with which the series begins, and extrapolates to fractions."""
    return f"round({total(new_in(name, window, **labels), *by)})"


def new_in(name: str, window: str, **labels: str) -> str:
    """The series of a counter that grew in a window, also those whose first value is in it, which `increase` does not see."""
    counter = _counter(name, labels)
    return f"(increase({counter}[{window}]) > 0) or ({counter} > 0 unless {counter} offset {window})"


def bucket_rate(name: str, window: str = RATE, **labels: str) -> str:
    """The rates per second of the buckets of a histogram."""
    return f"rate({_selector(_histogram(name), '_bucket', labels)}[{window}])"


def count_rate(name: str, window: str = RATE, **labels: str) -> str:
    """The rate per second of a histogram's observations."""
    return f"rate({_selector(_histogram(name), '_count', labels)}[{window}])"


def sum_rate(name: str, window: str = RATE, **labels: str) -> str:
    """The rate per second of the sum of a histogram's observations."""
    return f"rate({_selector(_histogram(name), '_sum', labels)}[{window}])"


def quantile(share: float, name: str, *by: str, window: str = RATE, **labels: str) -> str:
    """A quantile (0 to 1) of a histogram by the labels `by`, over all other labels and processes."""
    return f"histogram_quantile({share:g}, {total(bucket_rate(name, window, **labels), 'le', *by)})"


def mean(name: str, *by: str, window: str = RATE, **labels: str) -> str:
    """The mean of a histogram's observations."""
    return f"{total(sum_rate(name, window, **labels), *by)} / {total(count_rate(name, window, **labels), *by)}"


def mean_since_start(name: str, *by: str, **labels: str) -> str:
    """The mean of all observations since the start of the processes, for histograms with few of them."""
    instrument = _histogram(name)
    sums, counts = (total(_selector(instrument, suffix, labels), *by) for suffix in ("_sum", "_count"))
    return f"{sums} / {counts}"


def total(expression: str, *by: str) -> str:
    """The sum over all labels but `by`."""
    return _over("sum", expression, by)


def largest(expression: str, *by: str) -> str:
    """The largest value over all labels but `by`."""
    return _over("max", expression, by)


def or_zero(expression: str) -> str:
    """The expression, which has no labels, or 0 where there are no series."""
    return f"{expression} or vector(0)"


def _over(operation: str, expression: str, by: tuple[str, ...]) -> str:
    return f"{operation} by ({', '.join(by)}) ({expression})" if by else f"{operation}({expression})"


def _instrument(name: str) -> Instrument:
    try:
        return INSTRUMENTS[name]
    except KeyError:
        raise ValueError(f"{name!r} is not an instrument of the catalogue") from None


def _counter(name: str, labels: dict[str, str]) -> str:
    instrument = _instrument(name)
    if instrument.kind != "counter":
        raise ValueError(f"{name} is a {instrument.kind}, not a counter")
    return _selector(instrument, "", labels)


def _histogram(name: str) -> Instrument:
    instrument = _instrument(name)
    if instrument.kind != "histogram":
        raise ValueError(f"{name} is a {instrument.kind}, not a histogram")
    return instrument


def _selector(instrument: Instrument, suffix: str, labels: dict[str, str]) -> str:
    for label in labels:
        if label not in instrument.labels and label not in ("role", "process"):
            raise ValueError(f"{instrument.name} has no label {label!r}: its labels are {', '.join(instrument.labels) or 'none'}")
    matchers = ", ".join(f"{label}{_matcher(value)}" for label, value in labels.items())
    return f"{instrument.prometheus}{suffix}" + (f"{{{matchers}}}" if matchers else "")


def _matcher(value: str) -> str:
    for prefix, operator in _OPERATORS:
        if value.startswith(prefix):
            return f'{operator}"{value.removeprefix(prefix)}"'
    return f'="{value}"'
