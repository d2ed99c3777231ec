"""`hub dashboards write`."""

from pathlib import Path

import pytest
import yaml

from hub.cli.dashboards import write
from hub.dashboards import files
from hub.dashboards.site import Site
from hub.errors import ConfigurationError, HubError


def test_all_files_are_written_and_others_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    write(tmp_path)
    assert capsys.readouterr().out == f"10 files written to {tmp_path}\n"
    found = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == files(Site(str(tmp_path / "grafana" / "dashboards"))) | {"notes.txt": "mine"}
    write(tmp_path, target=["one:1", "two:2"], dashboards_path="/elsewhere")
    prometheus = yaml.safe_load((tmp_path / "prometheus" / "prometheus.yaml").read_text())
    assert prometheus["scrape_configs"][0]["static_configs"] == [{"targets": ["one:1", "two:2"]}]
    write(tmp_path, pushed=True)
    assert "scrape_configs" not in yaml.safe_load((tmp_path / "prometheus" / "prometheus.yaml").read_text())
    write(tmp_path, dashboards_path="/elsewhere")
    assert "/elsewhere" in (tmp_path / "grafana" / "provisioning" / "dashboards" / "hub.yaml").read_text()


def test_what_is_invalid_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^--objective: must be above 0 and below 1"):
        write(tmp_path / "new", objective=99.9)
    with pytest.raises(ConfigurationError, match=r"^--target: must have the form host:port"):
        write(tmp_path / "new", target=["http://one:1"])
    with pytest.raises(ConfigurationError, match=r"^--pushed cannot be combined with --target"):
        write(tmp_path / "new", target=["one:1"], pushed=True)
    with pytest.raises(ConfigurationError, match=r"^--grafana-url: must be a URL"):
        write(tmp_path / "new", grafana_url="grafana")
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HubError, match=r"cannot be written to .*/file: .*; use another DIR\.") as raised:
        write(tmp_path / "file")
    assert raised.value.exit_code == 1
