"""Secrets in the settings of a subscriber never appear in `hub config`, errors, logs or dead letters."""

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field, SecretStr, field_validator

from hub import telemetry
from hub.delivery import DeliveryService, SubscriberConfig
from hub.delivery.config import plan
from hub.delivery.secrets import masked_entry, masked_settings, secrets_in, secrets_of
from hub.errors import ConfigurationError
from hub.kafka import Cluster
from hub.telemetry import MASK, conceal, configure_logging, masked
from schemas import Event
from subscribers import Subscriber, SubscriberSettings, on
from tests.brokers import unique

from .event_log import create_topic, progress, read_all, running, write
from .waiting import until

SECRET = 's3cret/of "ours"'


class Account(BaseModel):
    user: str
    password: SecretStr


class VaultSettings(SubscriberSettings):
    url: str = "https://example.org"
    token: SecretStr | None = None
    old_tokens: list[SecretStr] = []
    account: Account | None = None
    accounts: dict[str, Account] = {}
    marked: str = Field(default="", repr=False)
    written: str = Field(default="", json_schema_extra={"writeOnly": True})
    even: int = 2

    @field_validator("marked")
    @classmethod
    def _quotes_what_it_refuses(cls, value: str) -> str:
        if value.startswith("bad"):
            raise ValueError(f"{value!r} is bad")
        return value


class Vault(Subscriber[VaultSettings]):
    """Its handler lets its token slip into an exception."""

    name = "vault"

    @on("*")
    async def all(self, event: Event) -> None:
        assert self.settings.token is not None
        raise RuntimeError(f"401 for token {self.settings.token.get_secret_value()}")


VALUES: dict[str, Any] = {
    "url": "https://hook",
    "token": SECRET,
    "old_tokens": ["old-1", "old-2"],
    "account": {"user": "ann", "password": "pass-1"},
    "accounts": {"b": {"user": "bob", "password": "pass-2"}},
    "marked": "mark-1",
    "written": "writ-1",
    "tokken": "misspelt",
    "even": 4,
}
SECRETS = [SECRET, "old-1", "old-2", "pass-1", "pass-2", "mark-1", "writ-1", "misspelt"]


@pytest.fixture(autouse=True)
def nothing_concealed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test conceals its own secrets."""
    monkeypatch.setattr(telemetry, "_secrets", set())
    monkeypatch.setattr(telemetry, "_pattern", None)
    root = logging.getLogger()
    handlers, level, hook = root.handlers, root.level, sys.excepthook
    yield
    root.handlers, sys.excepthook = handlers, hook
    root.setLevel(level)


def test_what_a_subscribers_settings_mark_is_secret_wherever_it_stands() -> None:
    assert secrets_in(VaultSettings, VALUES) == SECRETS
    assert masked_settings(VaultSettings, VALUES) == {
        "url": "https://hook",
        "token": MASK,
        "old_tokens": [MASK, MASK],
        "account": {"user": "ann", "password": MASK},
        "accounts": {"b": {"user": "bob", "password": MASK}},
        "marked": MASK,
        "written": MASK,
        "tokken": MASK,
        "even": 4,
    }
    right = {key: value for key, value in VALUES.items() if key != "tokken"}
    assert sorted(secrets_of(VaultSettings.model_validate(right))) == sorted(SECRETS[:-1])


def test_all_settings_of_a_plug_in_that_cannot_be_loaded_are_masked() -> None:
    entry = {"use": "nowhere:Vault", "id": "v", "settings": {"token": SECRET, "more": [{"a": 1}]}}
    assert masked_entry(entry) == {"use": "nowhere:Vault", "id": "v", "settings": {"token": MASK, "more": [{"a": MASK}]}}
    assert masked_entry({"use": 3, "settings": "x"}) == {"use": 3, "settings": MASK}
    assert masked_entry({"use": "console"}) == {"use": "console"}


def test_an_error_of_validation_does_not_quote_a_secret() -> None:
    config = SubscriberConfig(use=f"{__name__}:Vault", settings={"marked": "bad-secret"})
    with pytest.raises(ConfigurationError) as refused:
        plan(config, Vault)
    assert str(refused.value) == f"subscribers[{config.id}].settings.marked: '{MASK}' is bad"


@pytest.mark.parametrize("shown", [SECRET, repr(SECRET), json.dumps(SECRET), "s3cret%2Fof%20%22ours%22"])
def test_a_concealed_secret_is_masked_in_every_form(shown: str) -> None:
    conceal([SECRET, "abc"])
    assert "s3cret" not in masked(f"before {shown} after abc")
    assert masked("abc") == "abc", "too short to be looked for"
    assert masked("amqp://ann:pass@host/x and http://host") == f"amqp://ann:{MASK}@host/x and http://host"


def test_logs_and_their_tracebacks_are_masked(stream: io.StringIO) -> None:
    configure_logging("delivery", "info", stream)
    plan(SubscriberConfig(use=f"{__name__}:Vault", settings={"token": SECRET}), Vault)
    try:
        raise RuntimeError(f"401 for {SECRET}")
    except RuntimeError:
        logging.getLogger("vault").exception("sent %s", SECRET, extra={"action": "x"})
    assert "s3cret" not in stream.getvalue()
    assert stream.getvalue().count(MASK) == 2
    assert "Traceback" in stream.getvalue()


async def test_a_dead_letter_does_not_hold_a_secret(embedded_bootstrap: str) -> None:
    topic, id = unique("events"), unique("vault")
    await create_topic(embedded_bootstrap, topic)
    await write(embedded_bootstrap, topic, [progress("t", 1)])
    config = SubscriberConfig(
        use=f"{__name__}:Vault",
        id=id,
        settings={"token": SECRET},
        start_from="earliest",
        delivery={"retry": {"initial": 0.01, "timeout": 0}},
    )
    async with running(DeliveryService(Cluster.of(embedded_bootstrap), [config], topic=topic)) as service:
        await until(lambda: service.status()[0].dead_lettered == 1, "the dead letter")
    (letter,) = await read_all(embedded_bootstrap, config.dead_letter_topic, 1)
    headers = dict(letter.headers)
    assert headers["dlq_error"] == f"RuntimeError: 401 for token {MASK}".encode()
    assert b"s3cret" not in headers["dlq_traceback"]
    assert b"Traceback" in headers["dlq_traceback"]


def config_command(folder: Path, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """`hub config` in a folder of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
    environment = {**kept, "PYTHONPATH": str(Path(__file__).parents[2]), "COLUMNS": "400", **variables}
    command = [sys.executable, "-m", "hub", "config", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, env=environment, check=False)


@pytest.mark.parametrize("arguments", [(), ("--json",)], ids=["text", "json"])
def test_hub_config_masks_secrets(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "hub.toml").write_text(
        f'[[subscribers]]\nuse = "{__name__}:Vault"\nid = "v"\n'
        'settings = { token = "s3cret-token", url = "https://hook", account = { user = "ann", password = "s3cret-pass" } }\n'
        '[[subscribers]]\nuse = "tests.delivery.broken_import:Broken"\nsettings = { key = "s3cret-key" }\n'
    )
    done = config_command(tmp_path, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert "s3cret" not in done.stdout
    assert "https://hook" in done.stdout
    assert done.stdout.count(MASK) == 3


@pytest.mark.parametrize(
    "variable",
    ['[{"use": "console", "settings": "s3cret"}', '["s3cret"]', '[{"use": "x", "s3cret": {"a": "s3cret"}}]x', '{"a": "s3cret"}'],
)
def test_what_is_wrong_with_subscribers_is_said_without_their_values(tmp_path: Path, variable: str) -> None:
    done = config_command(tmp_path, HUB_SUBSCRIBERS=variable)
    assert done.returncode == 2
    assert done.stderr.startswith("hub: The variable HUB_SUBSCRIBERS")
    assert "s3cret" not in done.stderr
