"""Values as Grafana shows them. Source: `@grafana/data` 13.2, `valueFormats`, whose results are in `test_render.py`."""

import math
from collections.abc import Sequence

_COUNTS = ("", "K", "M", "B", "T")
_SI = (" B/s", " kB/s", " MB/s", " GB/s", " TB/s")
_SHORT = ("", " K", " Mil", " Bil", " Tri")
_IEC = ("B", "KiB", "MiB", "GiB", "TiB")
_RATES = {"reqps": " req/s", "cps": " c/s"}
_TIMES = (
    (1e-6, 1e-9, "ns"),
    (1e-3, 1e-6, "µs"),
    (1.0, 1e-3, "ms"),
    (60.0, 1.0, "s"),
    (3600.0, 60.0, "min"),
    (86400.0, 3600.0, "hour"),
    (604800.0, 86400.0, "day"),
    (31536000.0, 604800.0, "week"),
)


def formatted(value: float | None, unit: str, decimals: int | None = None) -> str:
    """The value with its unit. `unit`: an id of Grafana. `decimals`: their number; None: chosen as Grafana does. Raises
    ValueError for a unit that no dashboard uses."""
    if value is None or math.isnan(value):
        return "No data" if value is None else "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if unit == "none":
        return _fixed(value, decimals)
    if unit == "short":
        return _scaled(value, 1000, _SHORT, decimals)
    if unit == "percentunit":
        return f"{_fixed(value * 100, decimals)}%"
    if unit == "bytes":
        return _scaled(value, 1024, tuple(f" {one}" for one in _IEC), decimals)
    if unit == "s":
        return _seconds(value, decimals)
    if unit == "Bps":
        return _scaled(value, 1000, _SI, decimals)
    if unit.startswith("suffix:"):
        return f"{_fixed(value, decimals)} {unit.removeprefix('suffix:')}"
    if unit in _RATES:
        return _scaled(value, 1000, [f"{prefix}{_RATES[unit]}" for prefix in _COUNTS], decimals)
    raise ValueError(f"unit {unit!r} is not known here")


def _seconds(value: float, decimals: int | None) -> str:
    if value == 0:
        return "0 s"
    for limit, size, name in _TIMES:
        if abs(value) < limit:
            text = _fixed(value / size, decimals)
            return f"{text} {name}s" if size >= 60 and text != "1" else f"{text} {name}"
    return f"{_fixed(value / 31536000, decimals)} years"


def _scaled(value: float, factor: float, names: Sequence[str], decimals: int | None) -> str:
    step = 0
    while abs(value) >= factor and step + 1 < len(names):
        value, step = value / factor, step + 1
    return f"{_fixed(value, decimals)}{names[step]}"


def _fixed(value: float, decimals: int | None) -> str:
    """With the number of decimals that Grafana chooses."""
    return f"{value:.{_decimals_of(value) if decimals is None else decimals}f}"


def _decimals_of(value: float) -> int:
    value = abs(value)
    if value % 1 == 0:
        return 0
    decimals = 1 - math.floor(math.log10(value))
    if value * 10.0**decimals > 2.25:
        decimals += 1
    return max(0, decimals)
