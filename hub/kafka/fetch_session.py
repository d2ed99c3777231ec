"""A fetch session (KIP-227): the broker remembers the partitions of a client, and requests and responses contain only changes.

Rules: https://cwiki.apache.org/confluence/display/KAFKA/KIP-227. Pure code: no I/O."""

from collections.abc import Mapping

from ..protocol import ErrorCode, TopicPartition
from ..protocol.fetch import SESSIONS_FROM, FetchPosition

NO_SESSION = (0, -1)
EPOCH_MAX = (1 << 31) - 1
REFUSALS = frozenset((ErrorCode.FETCH_SESSION_ID_NOT_FOUND, ErrorCode.INVALID_FETCH_SESSION_EPOCH))
"""The session does not exist any longer, or a request or response was lost; a new session is needed."""


class FetchSession:
    """The session with one broker. Call `request` for each request, and then `accept` with its response."""

    def __init__(self, version: int) -> None:
        """`version` of Fetch; older ones have no sessions."""
        self._possible = version >= SESSIONS_FROM
        self._id, self._epoch = 0, 0
        self._known: dict[TopicPartition, FetchPosition] = {}

    def request(
        self, wanted: Mapping[TopicPartition, FetchPosition]
    ) -> tuple[tuple[int, int], Mapping[TopicPartition, FetchPosition], list[TopicPartition]]:
        """What to send to read the partitions that are `wanted`: id and epoch, the partitions to include, those to remove."""
        if not self._possible:
            return NO_SESSION, wanted, []
        known, self._known = self._known, dict(wanted)
        if not self._epoch:
            return (self._id, 0), wanted, []
        changed = {one: position for one, position in wanted.items() if known.get(one) != position}
        return (self._id, self._epoch), changed, list(known.keys() - wanted.keys())

    def accept(self, code: int, session_id: int) -> bool:
        """Process error and session id of a response. False: the broker refused the session.

        After any error the next request opens a new session, because the broker may not have processed the last one."""
        if code:
            if code == ErrorCode.FETCH_SESSION_ID_NOT_FOUND:
                self._id = 0
            self._epoch = 0  # with the old id, the broker closes the old session
        elif self._possible:
            self._id = session_id
            self._epoch = (1 if self._epoch == EPOCH_MAX else self._epoch + 1) if session_id else 0
        return code not in REFUSALS
