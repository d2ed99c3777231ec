"""Tokens of ended attempts, to recognise repeated commands."""

#: Minimum number of remembered tokens; the maximum is twice as many.
RECENT_TOKENS_MIN = 10_000


class RecentTokens:
    """The last `at_least` tokens, and up to as many older ones. Two sets instead of an ordered dict, because deleting the first
    entry of a dict repeatedly is slow: each search skips all entries deleted before."""

    def __init__(self, at_least: int = RECENT_TOKENS_MIN) -> None:
        self._at_least = at_least
        self._newer: set[str] = set()
        self._older: set[str] = set()

    def __contains__(self, token: str) -> bool:
        return token in self._newer or token in self._older

    def __len__(self) -> int:
        return len(self._newer) + len(self._older)

    def add(self, token: str) -> None:
        """Remember a token."""
        self._newer.add(token)
        if len(self._newer) >= self._at_least:
            self._newer, self._older = set(), self._newer
