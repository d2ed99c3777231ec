"""Tokens of attempts that ended, so that a repeated command is recognised."""

#: At least so many are remembered, and at most twice as many.
RECENT_TOKENS_MIN = 10_000


class RecentTokens:
    """The last `at_least` tokens, and up to as many before them. Two generations instead of one queue: a dict that is emptied at
    its front has to be searched from there, past thousands of removed entries."""

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
