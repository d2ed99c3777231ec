"""Messages built with kio, which is generated from Kafka's schema."""

import datetime as dt
import io
from typing import Any

from hypothesis import strategies as st
from kio.serial import entity_writer
from kio.static.primitive import i32Timedelta

names = st.text(min_size=1, max_size=40)
ZERO = i32Timedelta.parse(dt.timedelta(0))


def written(entity: Any) -> bytes:
    """The bytes of an entity, by kio."""
    buffer = io.BytesIO()
    entity_writer(type(entity))(buffer, entity)
    return buffer.getvalue()


def milliseconds(number: int) -> i32Timedelta:
    """A time as kio has it."""
    return i32Timedelta.parse(dt.timedelta(milliseconds=number))
