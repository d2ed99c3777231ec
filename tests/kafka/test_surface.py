"""The public interface of the Kafka layer."""

import hub.kafka
from hub.errors import HubError
from hub.kafka import errors


def test_every_name_of_the_front_door_exists_once_and_is_explained() -> None:
    assert len(set(hub.kafka.__all__)) == len(hub.kafka.__all__)
    for name in hub.kafka.__all__:
        thing = getattr(hub.kafka, name)
        assert not callable(thing) or thing.__doc__, name


def test_every_error_is_a_hub_error_and_stands_at_the_front_door() -> None:
    ours = {name for name, thing in vars(errors).items() if isinstance(thing, type) and thing.__module__ == errors.__name__}
    assert ours <= set(hub.kafka.__all__)
    assert all(issubclass(getattr(errors, name), HubError) for name in ours)
