"""Dashboards of Grafana and rules of Prometheus for the hub's metrics. See README.md."""

from .files import dashboards, files, write_files
from .site import COMPOSE, Site

__all__ = ["COMPOSE", "Site", "dashboards", "files", "write_files"]
