"""What every subscriber must do, as tests that the author of a plugin inherits."""

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, ClassVar

from msgspec import json
from msgspec.structs import fields
from pydantic import SecretBytes, SecretStr

from schemas import CATALOGUE
from subscribers import Subscriber, Unavailable, Undeliverable

from ..delivery.config import parse_configs, plan
from ..delivery.selection import Selection
from ..errors import ConfigurationError
from .factories import EventRecord, make_event_record
from .harness import SubscriberHarness

UNKNOWN_TYPE = "task.invented_later"
OF_DESTINATION = (Unavailable, Undeliverable, OSError)
"""Errors that say something of the destination, not of the event."""
SETTLE_SECONDS = 3600.0
"""Time after which every batch and every flush is over."""


class SubscriberContract:
    """Inherit from it in a test module: `class TestPager(SubscriberContract): plugin = Pager; settings = {...}`.

    The settings must be valid. Destinations need not exist, unless `delivers` is True: then every event must be accepted."""

    plugin: ClassVar[type[Subscriber[Any]]]
    settings: ClassVar[Mapping[str, Any]] = {}
    delivers: ClassVar[bool] = False

    def test_it_has_a_name_and_handles_events(self) -> None:
        """The name is what users write in `use`."""
        assert self.plugin.name, f"{self.plugin.__qualname__}.name is empty"
        assert self.taken(), "no event type of the catalogue has a handler: the types or the filter exclude all"

    def test_unknown_settings_are_rejected(self) -> None:
        """A misspelt setting must not be ignored."""
        fault = ""
        try:
            self._plan({**self.settings, "no_such_setting": 1})
        except ConfigurationError as error:
            fault = str(error)
        assert "no_such_setting" in fault, (
            "a setting that does not exist is accepted: derive the settings from SubscriberSettings"
        )

    def test_settings_do_not_show_their_secrets(self) -> None:
        """Settings are logged and shown."""
        settings = self._plan(self.settings).settings
        for name in type(settings).model_fields:
            value = getattr(settings, name)
            if isinstance(value, SecretStr | SecretBytes) and len(value) >= 4:
                assert str(value.get_secret_value()) not in repr(settings), f"the secret {name} is in the settings' repr"

    def test_it_opens_and_closes_without_events_more_than_once(self) -> None:
        """It is opened again after a failure."""
        for _ in range(2):
            self._run(self._nothing())

    def test_every_event_type_that_it_takes_is_handled(self) -> None:
        """Examples of all types: no handler may fail because of the form of an event."""
        self._run(self._all_events())

    def test_an_event_without_optional_fields_is_handled(self) -> None:
        """Fields that may be absent are absent in events of earlier releases."""
        self._run(self._bare_events())

    def test_an_event_is_handled_again_after_a_crash(self) -> None:
        """A crash between the effect and the acknowledgement repeats the event, to another instance."""
        self._run(self._repeated())

    def test_an_event_type_of_a_later_release_does_no_harm(self) -> None:
        """It is not delivered as something else."""
        self._run(self._unknown())

    def test_replayed_events_reach_no_handler_where_replays_are_skipped(self) -> None:
        """Declared by `Delivery(replay="skip")`."""
        if self.plugin.delivery.replay == "skip":
            self._run(self._replayed())

    # What the tests do

    @classmethod
    def taken(cls) -> list[str]:
        """The event types of the catalogue that the subscriber takes with these settings."""
        checked = cls._plan(cls.settings)
        selection = Selection(checked.plugin, checked.settings, None)
        return [one for one in CATALOGUE if selection.route((("ce_type", one.encode()),)) is not None]

    @classmethod
    def _plan(cls, settings: Mapping[str, Any]) -> Any:
        (config,) = parse_configs([{"use": cls.plugin.name or "plugin", "settings": dict(settings)}])
        return plan(config, cls.plugin)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run(work)

    def _harness(self) -> SubscriberHarness:
        return SubscriberHarness(self.plugin, self.settings)

    async def _nothing(self) -> None:
        async with self._harness():
            pass

    async def _all_events(self) -> None:
        async with self._harness() as harness:
            for one in self.taken():
                await harness.feed(one)
            await self._check(harness, len(self.taken()))

    async def _bare_events(self) -> None:
        async with self._harness() as harness:
            for one in self.taken():
                await harness.feed(_bare(make_event_record(one)))
            await self._check(harness, len(self.taken()))

    async def _repeated(self) -> None:
        record = make_event_record(self.taken()[0])
        for _ in range(2):
            async with self._harness() as harness:
                await harness.feed(record)
                await harness.feed(record)
                await self._check(harness, 2)

    async def _unknown(self) -> None:
        record = make_event_record("task.progressed")
        headers = [(name, UNKNOWN_TYPE.encode() if name == "ce_type" else value) for name, value in record.headers]
        async with self._harness() as harness:
            await harness.feed(record._replace(headers=headers))
            await harness.settle()
            assert harness.delivered == 0, f"an event of the unknown type {UNKNOWN_TYPE} was handled"

    async def _replayed(self) -> None:
        async with self._harness() as harness:
            await harness.feed(self.taken()[0], replay=True)
            await harness.settle()
            assert harness.replayed == 0, 'a replayed event was handled, although the subscriber declares replay="skip"'

    async def _check(self, harness: SubscriberHarness, fed: int) -> None:
        """No handler failed because of an event: errors of the destination (Unavailable, Undeliverable, OSError) may be."""
        if self.delivers:
            await harness.advance(seconds=SETTLE_SECONDS)
        counters = harness.subscription.counters
        assert not counters.malformed
        for error in harness.errors:
            assert isinstance(error, OF_DESTINATION), f"a handler raised {error!r}"
        if self.delivers:
            assert counters.delivered + counters.dropped == fed, f"{counters.delivered} of {fed} events were accepted"


def _bare(record: EventRecord) -> EventRecord:
    """The event with the required fields of its data only."""
    body = json.decode(record.value)
    event_type = dict(record.headers)["ce_type"].decode()
    struct = CATALOGUE[event_type].data
    required = {field.encode_name for field in fields(struct) if field.required}
    body["data"] = {name: value for name, value in body["data"].items() if name in required}
    return record._replace(value=json.encode(body))
