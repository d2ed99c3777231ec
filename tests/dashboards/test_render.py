"""What `python -m tests.dashboards.render` draws: values as Grafana shows them, and every panel of every dashboard."""

from typing import Any

import pytest

from hub.dashboards import dashboards

from . import drawing
from .drawing import Box, Course
from .observed import Recorded
from .render import View, filled, page
from .units import formatted


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0, "none", "0"),
        (3.07, "none", "3.07"),
        (12.34, "none", "12.3"),
        (1234.0, "short", "1.23 K"),
        (2_500_000.0, "short", "2.50 Mil"),
        (0.9987, "percentunit", "99.9%"),
        (0.0042, "s", "4.20 ms"),
        (0.00042, "s", "420 µs"),
        (90.0, "s", "1.50 mins"),
        (7200.0, "s", "2 hours"),
        (400_000.0, "s", "4.63 days"),
        (0.5, "suffix:/s", "0.500 /s"),
        (1234.6, "suffix:/s", "1235 /s"),
        (1500.0, "reqps", "1.50K req/s"),
        (1536.0, "bytes", "1.50 KiB"),
        (15.2e9, "bytes", "14.2 GiB"),
        (2000.0, "Bps", "2 kB/s"),
        (float("inf"), "none", "∞"),
    ],
)
def test_a_value_is_shown_with_its_unit_as_in_grafana(value: float, unit: str, text: str) -> None:
    assert formatted(value, unit) == text


def test_a_number_of_decimals_that_is_given_is_kept() -> None:
    assert formatted(3.07, "none", 0) == "3"
    with pytest.raises(ValueError, match="unit 'lux'"):
        formatted(1, "lux")


class OneSeries:
    """Answers every query with one series, whose labels are those of any legend."""

    def over_time(self, expression: str, begin: float, end: float, step: float) -> list[dict[str, Any]]:
        labels = {"le": "0.5", "queue": "mail", "state": "running"}
        return [{"metric": labels, "values": [[begin, "1"], [(begin + end) / 2, "NaN"], [end, "2"]]}]

    def at(self, expression: str, when: float) -> list[dict[str, Any]]:
        return [{"metric": {"task": "charge"}, "value": [when, "0.25"]}]


def test_every_panel_of_every_dashboard_is_drawn() -> None:
    view = View(OneSeries(), Recorded(1_000_000.0, 1_000_600.0))
    for board in (one.as_json() for one in dashboards(0.999)):
        content, height, problems = page(board, view)
        assert problems == []
        assert all(panel["title"] in content for panel in board["panels"] if "'" not in panel["title"])
        assert height > 500


def test_variables_of_an_expression_are_replaced() -> None:
    view = View(OneSeries(), Recorded(0.0, 600.0))
    text = 'rate(a{queue=~"$queue"}[$__rate_interval]) / increase(b[$__range]) / (1 - $objective)'
    assert filled(text, view) == 'rate(a{queue=~".*"}[60s]) / increase(b[600s]) / (1 - 0.999)'


def test_a_panel_without_series_says_so() -> None:
    panel = next(one for one in dashboards(0.999)[0].as_json()["panels"] if one["type"] == "timeseries")
    assert "No data" in drawing.graph(panel, [Course("empty", [])], Box(300, 200), (0.0, 60.0), 15.0)
