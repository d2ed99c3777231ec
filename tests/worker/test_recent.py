"""Tokens of ended attempts: the latest ones are kept, up to a limit."""

from hypothesis import given
from hypothesis import strategies as st

from hub.worker.recent import RecentTokens


@given(st.integers(1, 5), st.lists(st.integers(0, 30).map(str), max_size=60))
def test_the_last_tokens_are_known_and_no_more_than_twice_as_many(at_least: int, tokens: list[str]) -> None:
    recent = RecentTokens(at_least)
    for count, token in enumerate(tokens, 1):
        recent.add(token)
        assert all(one in recent for one in tokens[max(0, count - at_least) : count])
        assert len(recent) <= 2 * at_least
    assert "never added" not in recent
