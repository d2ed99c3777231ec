"""All files for Grafana and Prometheus, by their path."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .alerts import Alert, burn_alerts, state_alerts
from .dashboard import Dashboard
from .overview import overview
from .queues import queues
from .recording import recordings
from .site import Site
from .streams import streams
from .subscribers_alerts import subscribers_alerts
from .task import task
from .task_type import task_type
from .yaml_text import yaml_text

Json = dict[str, Any]

RULES = "prometheus/rules"
NOTE = "Written by `hub dashboards write`."
EXEMPLARS = "Exemplars need the option --enable-feature=exemplar-storage of Prometheus."
JOB = "hub"
"""The job of all series: the same as `service.name` of metrics that are pushed."""
SCRAPE_SECONDS = 15


def dashboards(objective: float) -> list[Dashboard]:
    """The six dashboards."""
    return [overview(objective), task_type(), queues(), streams(), subscribers_alerts(), task()]


def files(site: Site) -> dict[str, str]:
    """The content of each file by its path: dashboards and provisioning of Grafana, configuration and rules of Prometheus.
    Raises ValueError with the name of a field of `site` that is invalid."""
    site.checked()
    found = {f"grafana/dashboards/{one.file}": _json_text(one.as_json()) for one in dashboards(site.objective)}
    found["grafana/provisioning/dashboards/hub.yaml"] = yaml_text(_provider(site), NOTE)
    found["prometheus/prometheus.yaml"] = yaml_text(_prometheus(site), NOTE, EXEMPLARS)
    found[f"{RULES}/hub-recording.yaml"] = yaml_text({"groups": [_recording_group(site)]}, NOTE)
    found[f"{RULES}/hub-alerts.yaml"] = yaml_text({"groups": _alert_groups(site)}, NOTE)
    return found


def write_files(folder: Path, site: Site) -> list[Path]:
    """Write all files into `folder`, which is created if it does not exist; existing ones are replaced. Returns their paths.
    Raises OSError, and ValueError as `files` does."""
    contents = {folder / name: content for name, content in files(site).items()}
    for path, content in contents.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return list(contents)


def _json_text(value: Json) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _provider(site: Site) -> Json:
    """Grafana's provider of dashboards in files. Source: "Provision Grafana", dashboards."""
    provider = {
        "name": "taskhub",
        "type": "file",
        "folder": "taskhub",
        "disableDeletion": True,
        "allowUiUpdates": False,
        "options": {"path": site.dashboards_path, "foldersFromFilesStructure": False},
    }
    return {"apiVersion": 1, "providers": [provider]}


def _prometheus(site: Site) -> Json:
    scrape = {"scrape_configs": [{"job_name": JOB, "static_configs": [{"targets": list(site.targets)}]}]}
    return {
        "global": {"scrape_interval": f"{SCRAPE_SECONDS}s", "evaluation_interval": f"{SCRAPE_SECONDS}s"},
        "rule_files": ["rules/*.yaml"],
        **(scrape if site.targets else _PUSHED),
    }


_PUSHED: Json = {
    "otlp": {
        "keep_identifying_resource_attributes": True,
        "promote_resource_attributes": ["service.instance.id", "service.name", "deployment.environment.name", "host.name"],
    },
    "storage": {"tsdb": {"out_of_order_time_window": "10m"}},
}
"""For metrics that a collector sends to Prometheus 3, which has the option --web.enable-otlp-receiver."""


def _recording_group(site: Site) -> Json:
    rules = [{"record": one.name, "expr": one.expression} for one in recordings(site.objective)]
    return {"name": "hub-recording", "rules": rules}


def _alert_groups(site: Site) -> list[Json]:
    groups = {"hub-objectives": burn_alerts(site.objective), "hub-states": state_alerts()}
    return [{"name": name, "rules": list(_rules(alerts, site))} for name, alerts in groups.items()]


def _rules(alerts: Iterable[Alert], site: Site) -> Iterable[Json]:
    for one in alerts:
        yield {
            "alert": one.name,
            "expr": one.expression,
            "for": one.lasting,
            "labels": {"severity": one.severity, **({"window": one.window} if one.window else {})},
            "annotations": {
                "summary": one.summary,
                "description": one.action,
                "dashboard_url": f"{site.grafana_url.rstrip('/')}/d/{one.dashboard}",
            },
        }
