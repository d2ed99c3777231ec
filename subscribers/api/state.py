"""The state of a subscriber: a small, durable key-value store, `ctx.state`."""

from typing import Any, NoReturn, Protocol


class State(Protocol):
    """Values by key, kept across restarts. It belongs to the id of the subscriber, and is loaded before `open` if the class
    declares `uses_state = True`.

    Limits: keys are text of 1 to 1,024 bytes, values are JSON of at most 64 KiB; at most 10,000 keys, and 16 MiB in total.
    Several processes of one subscriber share it: the last write of a key is kept, and reaches the other processes after a moment.
    A write and the acknowledgement of an event are two steps: after a crash between them the event is delivered again, and finds
    the new value.
    """

    def get(self, key: str) -> Any | None:
        """The value of a key, as plain JSON types, from memory; None if there is none."""
        ...

    def keys(self, prefix: str = "") -> list[str]:
        """The keys that begin with `prefix`, sorted."""
        ...

    async def put(self, key: str, value: Any) -> None:
        """Set the value of a key; returns when it is stored. It waits while no broker responds, at most for the handler's
        timeout. Raises ValueError if a limit is exceeded, or the value is None or cannot be written as JSON."""
        ...

    async def delete(self, key: str) -> None:
        """Remove a key; returns when that is stored. No effect on an unknown key."""
        ...


class UndeclaredState:
    """The state of a subscriber whose class does not declare `uses_state`: every access raises RuntimeError."""

    def get(self, key: str) -> Any | None:
        """Raises RuntimeError."""
        self._refuse()

    def keys(self, prefix: str = "") -> list[str]:
        """Raises RuntimeError."""
        self._refuse()

    async def put(self, key: str, value: Any) -> None:
        """Raises RuntimeError."""
        self._refuse()

    async def delete(self, key: str) -> None:
        """Raises RuntimeError."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise RuntimeError("ctx.state is not loaded: declare `uses_state: ClassVar[bool] = True` in the subscriber's class")
