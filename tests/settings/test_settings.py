"""Settings from three sources; unknown keys are rejected."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from hub import config
from hub.cli import build
from hub.cli.defaults import PROCESSES, apply_settings
from hub.engine import EngineSettings, LoopSettings
from hub.errors import ConfigurationError
from hub.kafka import TOMBSTONES_MS, hub_topics
from hub.runtime.tuning import engine_settings, loop_settings, tombstones_seconds, topic_overrides
from hub.settings import SECTIONS, EngineSection, Settings, TopicsSection, setting_names, variable_of

COMMANDS: dict[str, Any] = vars(typer.main.get_command(build()))["commands"]
PLAIN = Settings.model_fields.keys() - SECTIONS.keys()
OPTIONS = [(name, param) for name in PROCESSES for param in COMMANDS[name].params if param.name in PLAIN]
OWN_DEFAULTS = {
    ("up", "bootstrap"),  # none: a broker of its own
    ("up", "data"),  # ./hub-data, or none on a Kafka cluster
    ("broker", "data"),  # none: in memory
    ("engine", "data"),  # none: no snapshots
    ("analytics", "data"),  # likewise
    ("init", "partitions"),  # sixteen: it is for Kafka
    ("up", "log_level"),
}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and an environment that sets nothing."""
    for name in config.variables():
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_anything_set_every_setting_has_its_default_and_nothing_needs_loading() -> None:
    settings = Settings.load()
    assert settings.model_fields_set == set()
    assert not config.is_configured()
    assert (settings.bootstrap, settings.port, settings.flush) == ("127.0.0.1:9092", 9092, "always")


@pytest.mark.parametrize("name", setting_names())
def test_every_setting_says_what_it_is_for(name: str) -> None:
    section, _, field = name.partition(".")
    description = (SECTIONS[section] if field else Settings).model_fields[field or name].description
    assert description is not None
    assert description[0].isupper(), description
    assert description.endswith("."), description


@pytest.mark.parametrize(("command", "option"), OPTIONS, ids=[f"{name}-{option.name}" for name, option in OPTIONS])
def test_an_option_has_the_default_of_its_setting(command: str, option: Any) -> None:
    if (command, option.name) in OWN_DEFAULTS:
        return
    expected = Settings.model_fields[str(option.name)].default
    if option.name in ("queue", "worker"):
        assert not option.default  # a list: its default is said in the help
    elif option.name == "log_level":
        assert option.default == "info"
    else:
        assert option.default == expected


def test_every_setting_reaches_an_option_or_the_subscribers_or_the_rules() -> None:
    assert {str(option.name) for _, option in OPTIONS} | {"subscribers", "rules"} == PLAIN


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "hub.toml").write_text('port = 9192\nslots = 5\nqueue = ["slow", "fast"]\n')
    monkeypatch.setenv("HUB_SLOTS", "16")
    monkeypatch.setenv("HUB_WORKER", "app:tasks, more:tasks")
    settings = Settings.load()
    assert config.is_configured()
    assert (settings.port, settings.slots, settings.lease_seconds) == (9192, 16, 10.0)
    assert settings.queue == ["slow", "fast"]
    assert settings.worker == ["app:tasks", "more:tasks"]


def test_a_file_elsewhere_is_named_by_hub_config(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "other.toml").write_text("workers = 3\n")
    monkeypatch.setenv("HUB_CONFIG", "other.toml")
    assert Settings.load().workers == 3
    monkeypatch.setenv("HUB_CONFIG", "nowhere.toml")
    with pytest.raises(ConfigurationError, match=r"nowhere\.toml cannot be read: No such file"):
        Settings.load()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("prot = 1", r"hub\.toml: prot is not a setting\. Did you mean port\?"),
        ("zzz = 1", r"hub\.toml: zzz is not a setting\. Known are bootstrap, data"),
        ("port = 70000", r"hub\.toml: port: must be at most 65535 \(it is 70000\)"),
        ('slots = "many"', r"hub\.toml: slots: must be an integer \(it is 'many'\)"),
        ('log_level = "loud"', r"hub\.toml: log_level: must be 'debug', 'info', 'warning' or 'error' \(it is 'loud'\)"),
        ("slots", r"hub\.toml is not TOML"),
        ("[engine]\nretention = 1", r"hub\.toml: engine\.retention is not a setting\. Did you mean engine\.retention_seconds\?"),
        ("[engine]\nwaiting_max = 0", r"hub\.toml: engine\.waiting_max: must be at least 1 \(it is 0\)"),
        ("engine = 3", r"hub\.toml: engine must be a table: \[engine\]"),
        (
            "[engine]\nstorage_warn_bytes = 1\nstorage_low_bytes = 2",
            r"hub\.toml: engine: storage_warn_bytes \(1\) must not be less than storage_low_bytes \(2\)",
        ),
        ("[topics]\nevents_retention_seconds = 5", r"hub\.toml: topics\.events_retention_seconds: must be -1 or at least 60\."),
        ("[topics]\nreplies_retention_bytes = 5", r"topics\.replies_retention_bytes: must be -1 or at least 1048576 \(1 MiB\)"),
        ('subscribers = ["console"]', r"hub\.toml: subscribers\[0\]: must be an object of named values"),
    ],
)
def test_what_is_wrong_in_the_file_is_said_with_its_place(place: Path, content: str, sentence: str) -> None:
    (place / "hub.toml").write_text(content)
    with pytest.raises(ConfigurationError, match=sentence):
        Settings.load()


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("HUB_SLTOS", "3", r"The variable HUB_SLTOS is not a setting\. Did you mean HUB_SLOTS\?"),
        ("HUB_PORT", "tcp://10.0.0.1:9092", r"The variable HUB_PORT: must be an integer"),
        ("HUB_LOG_LEVEL", "loud", r"The variable HUB_LOG_LEVEL: must be 'debug', 'info', 'warning' or 'error'"),
        ("HUB_ENGINE_WAITING", "3", r"The variable HUB_ENGINE_WAITING is not a setting\. Did you mean HUB_ENGINE_WAITING_MAX\?"),
        ("HUB_ENGINE_WAITING_MAX", "x", r"The variable HUB_ENGINE_WAITING_MAX: must be an integer \(it is 'x'\)"),
    ],
)
def test_what_is_wrong_in_the_environment_is_said_with_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=sentence):
        Settings.load()


def test_a_field_of_a_section_is_set_by_its_variable_before_the_file(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "hub.toml").write_text("[engine]\nretention_seconds = 60\nwaiting_max = 5\n")
    monkeypatch.setenv("HUB_ENGINE_RETENTION_SECONDS", "90")
    monkeypatch.setenv("HUB_TOPICS_EVENTS_RETENTION_BYTES", "50000000")
    settings = Settings.load()
    assert (settings.engine.retention_seconds, settings.engine.waiting_max) == (90.0, 5)
    assert settings.engine.model_fields_set == {"retention_seconds", "waiting_max"}
    assert settings.topics.events_retention_bytes == 50_000_000
    assert variable_of("topics.events_retention_bytes") == "HUB_TOPICS_EVENTS_RETENTION_BYTES"


def test_the_sections_have_the_defaults_of_the_rooms() -> None:
    section = EngineSection()
    assert engine_settings(section) == EngineSettings()
    assert engine_settings(None) is None
    assert loop_settings(section, max_records=500, tombstones_seconds=tombstones_seconds(None)) == LoopSettings()
    assert topic_overrides(TopicsSection()) == {}
    assert tombstones_seconds(TopicsSection()) == TOMBSTONES_MS // 1000
    everything = topic_overrides(TopicsSection(**TopicsSection().model_dump()))
    specs = {spec.name.removesuffix("default"): spec.config for spec in hub_topics(1, subscribers=["default"])}
    derived = {"segment.bytes": str(1 << 30), "segment.ms": None, "retention.bytes": "-1"}
    for topic, configs in everything.items():
        for setting, value in configs.items():
            assert setting == "segment.ms" or specs[topic].get(setting, derived.get(setting)) == value, (topic, setting)


def test_each_setting_of_the_engine_reaches_a_partition_or_the_loop_around_it() -> None:
    taken = {*EngineSettings.__struct_fields__, *LoopSettings.__struct_fields__}
    assert EngineSection.model_fields.keys() <= taken


def test_strict_namespaces_are_a_list_in_the_file_and_separated_by_commas_in_the_environment(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "hub.toml").write_text('[engine]\nstrict_namespaces = ["shop", "bank"]\n')
    assert Settings.load().engine.strict_namespaces == {"shop", "bank"}
    monkeypatch.setenv("HUB_ENGINE_STRICT_NAMESPACES", "shop, office")
    tuned = engine_settings(Settings.load().engine)
    assert tuned is not None
    assert tuned.strict_namespaces == {"shop", "office"}


def test_what_is_set_reaches_the_engine_and_the_topics() -> None:
    engine = EngineSection(retention_seconds=60, ended_entries_max=7, waiting_max=8, storage_warn_bytes=2, storage_low_bytes=1)
    assert engine_settings(engine) == EngineSettings(
        retention_seconds=60, ended_entries_max=7, waiting_max=8, storage_warn_bytes=2, storage_low_bytes=1
    )
    section = EngineSection(intake_retention_seconds=5, compression="zstd")
    loop = loop_settings(section, max_records=128, tombstones_seconds=60)
    assert loop == LoopSettings(max_records=128, intake_retention_seconds=5, tombstones_seconds=60, compression="zstd")
    topics = TopicsSection(
        events_retention_bytes=40 << 20,
        commands_retention_seconds=60,
        replies_retention_seconds=3_600,
        dlq_retention_seconds=600,
        dlq_retention_bytes=-1,
        state_segment_bytes=4 << 20,
        state_compaction_seconds=30,
        state_tombstones_seconds=60,
    )
    assert topic_overrides(topics) == {
        "hub.events": {"retention.bytes": str(40 << 20), "segment.bytes": str(10 << 20)},
        "hub.commands.": {"retention.ms": "60000", "segment.ms": "15000"},
        "hub.replies": {"retention.ms": "3600000", "segment.ms": "900000"},
        "hub.dlq.": {
            "retention.ms": "600000",
            "segment.ms": "150000",
            "retention.bytes": "-1",
            "segment.bytes": str(1 << 30),
        },
        "hub.state": {"segment.bytes": str(4 << 20), "max.compaction.lag.ms": "30000", "delete.retention.ms": "60000"},
    }
    assert topic_overrides(TopicsSection(events_retention_seconds=-1)) == {
        "hub.events": {"retention.ms": "-1", "segment.ms": str(7 * 86_400_000)}
    }


def test_a_table_is_not_taken_for_the_switch_of_the_same_name(place: Path) -> None:
    (place / "hub.toml").write_text("port = 9192\n[engine]\nretention_seconds = 60\n")
    root: Any = typer.main.get_command(build())
    apply_settings(root, Settings.load())
    assert root.context_settings["default_map"]["broker"] == {"port": "9192"}


def test_a_variable_that_looks_like_none_of_ours_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_SERVICE_HOST", "10.0.0.1")
    assert Settings.load().model_fields_set == set()


def test_settings_stand_where_a_flag_is_not_given(place: Path) -> None:
    (place / "hub.toml").write_text(
        'port = 9192\nbootstrap = "kafka:9092"\nqueue = ["slow"]\nseparate_engine = true\ndata = "d"\n'
    )
    root: Any = typer.main.get_command(build())
    apply_settings(root, Settings.load())
    defaults = root.context_settings["default_map"]
    assert defaults["broker"] == {"port": "9192", "data": "d"}
    assert defaults["worker"] == {"bootstrap": "kafka:9092", "queue": ["slow"]}
    assert defaults["up"] == {"port": "9192", "data": "d", "separate_engine": True}  # and a broker of its own
    assert defaults["task"]["get"] == {"bootstrap": "kafka:9092"}
    with root.commands["worker"].make_context(
        "worker", ["app:tasks", "--queue", "fast"], default_map=defaults["worker"]
    ) as context:
        assert context.params["queue"] == ["fast"]
        assert context.params["bootstrap"] == "kafka:9092"


def run_hub(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command line, in a process of its own."""
    command = [sys.executable, "-m", "hub", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=30, check=False, env={**os.environ, "COLUMNS": "300", **variables}
    )


def test_hub_config_shows_values_and_where_they_come_from(place: Path) -> None:
    (place / "hub.toml").write_text("port = 9192\n")
    done = run_hub("config", HUB_SLOTS="7", HUB_ENGINE_RETENTION_SECONDS="60")
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.strip()}
    assert lines["port"][:2] == ["9192", "hub.toml"]
    assert lines["slots"][:2] == ["7", "HUB_SLOTS"]
    assert lines["pool"][:2] == ["default", "default"]
    assert lines["engine.waiting_max"][:2] == ["1000000", "default"]
    assert lines["engine.retention_seconds"][:2] == ["60", "HUB_ENGINE_RETENTION_SECONDS"]


@pytest.mark.parametrize("command", ["up", "broker"])
def test_a_port_that_no_machine_has_is_refused_at_once(command: str, place: Path) -> None:
    done = run_hub(command, "--port", "92092")
    assert done.returncode == 2
    assert "--port" in done.stderr
    assert list(place.iterdir()) == []


def test_every_command_refuses_a_wrong_setting_in_a_sentence(place: Path) -> None:
    (place / "hub.toml").write_text("prot = 9192\n")
    done = run_hub("status")
    assert done.returncode == 2
    assert done.stderr == "hub: hub.toml: prot is not a setting. Did you mean port?\n"


@pytest.mark.parametrize("command", ["config", "up", "delivery"])
def test_a_wrong_setting_of_a_subscriber_is_one_sentence_before_anything_starts(place: Path, command: str) -> None:
    (place / "hub.toml").write_text('[[subscribers]]\nuse = "console"\nsettings = { colour = true }\n')
    done = run_hub(command)
    assert done.returncode == 2
    assert re.fullmatch(
        r"hub: hub\.toml: subscribers\[console\]\.settings\.colour: unknown key \(known keys: .*format.*\)\n", done.stderr
    ), done.stderr
    assert sorted(path.name for path in place.iterdir()) == ["hub.toml"]
