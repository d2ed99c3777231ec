"""Events in a table of SQLite, in batches; an event that is delivered twice is there once.

```toml
[[subscribers]]
use = "sqlite_sink:SqliteSink"
start_from = "earliest"
settings = { path = "events.db" }
```
"""

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec

from schemas import Event
from subscribers import Batch, Meta, Subscriber, SubscriberContext, SubscriberSettings, on

TABLE = """
CREATE TABLE IF NOT EXISTS events (
    key TEXT PRIMARY KEY, type TEXT NOT NULL, subject TEXT NOT NULL, sequence INTEGER NOT NULL, time TEXT NOT NULL, event TEXT
)
"""
INSERT = "INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?, ?)"


class SqliteSettings(SubscriberSettings):
    """`path`: the database, which is created."""

    path: Path


class SqliteSink(Subscriber[SqliteSettings]):
    """One transaction per batch. The events are acknowledged when it is committed; after a crash in between they are delivered
    again, with the same `meta.idempotency_key`, and ignored."""

    name = "sqlite-sink"

    async def open(self, ctx: SubscriberContext) -> None:
        """Create the table."""
        with closing(sqlite3.connect(self.settings.path)) as database, database:
            database.execute(TABLE)

    @on("task.*", "workflow.*", batch=Batch(max=500, linger="1s"))
    def store(self, events: list[Event], metas: list[Meta]) -> None:
        """Insert the batch. It may block: a subscriber has a thread of its own."""
        rows = [row_of(event, meta) for event, meta in zip(events, metas, strict=True)]
        with closing(sqlite3.connect(self.settings.path)) as database, database:
            database.executemany(INSERT, rows)


def row_of(event: Event, meta: Meta) -> tuple[str, str, str, int, str, str]:
    """The columns of an event."""
    body = msgspec.json.encode(event.as_dict()).decode()
    return meta.idempotency_key, event.type, event.subject, event.sequence, event.time, body
