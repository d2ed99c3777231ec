"""What differs between installations: where the hub, Grafana and its files are, and the objective."""

import re
from typing import NamedTuple

from ..config import DEFAULT_HEALTH_PORT, DEFAULT_HOST


class Site(NamedTuple):
    """An installation. `targets`: addresses (host:port) of health pages, which have the metrics; none if the hub pushes them to
    a collector, which sends them to Prometheus over OTLP. `grafana_url`: of links in alerts. `dashboards_path`: the folder of the
    dashboards where Grafana runs. `objective`: the share of tasks that should succeed, above 0 and below 1."""

    dashboards_path: str
    targets: tuple[str, ...] = (f"{DEFAULT_HOST}:{DEFAULT_HEALTH_PORT}",)
    grafana_url: str = "http://127.0.0.1:3000"
    objective: float = 0.999

    def checked(self) -> "Site":
        """The site. Raises ValueError with the name of a field that is invalid."""
        if not 0 < self.objective < 1:
            raise ValueError(f"objective: must be above 0 and below 1, such as 0.999 (it is {self.objective:g})")
        if re.fullmatch(r"https?://[^\s?#]+", self.grafana_url) is None:
            raise ValueError(f"grafana_url: must be a URL such as http://127.0.0.1:3000 (it is {self.grafana_url!r})")
        for target in self.targets:
            if re.fullmatch(r"[^\s:/]+:\d{1,5}|\[[0-9A-Fa-f:]+\]:\d{1,5}", target) is None:
                raise ValueError(f"targets: must have the form host:port, such as 127.0.0.1:9464 (one is {target!r})")
        return self


COMPOSE = Site(
    dashboards_path="/otel-lgtm/taskhub-dashboards",
    targets=(),
)
"""The installation in docker-compose.yml: the image `grafana/otel-lgtm`, whose collector sends all metrics to its Prometheus."""
