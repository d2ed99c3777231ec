"""Values as YAML are read as the same values."""

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hub.dashboards.yaml_text import yaml_text

KEYS = st.text("abc_-:# \"'1", min_size=1, max_size=6)
TEXTS = st.text("ab1 :#-\"'{}[]|>%@&*!,?\\.é~=$", max_size=10)
LEAVES = TEXTS | st.integers(-9, 9) | st.booleans() | st.none() | st.sampled_from(["yes", "No", "null", "1e3", "2m", "0x1", "on"])
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=12)


@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_what_is_written_is_read_again(value: dict[str, Any]) -> None:
    assert (yaml.safe_load(yaml_text(value)) or {}) == value


@pytest.mark.parametrize("text", ["sum(x)\n/ sum(y)", "a: b\n# no comment\n- c"])
def test_several_lines_are_a_block(text: str) -> None:
    written = yaml_text({"groups": [{"expr": text}]}, "a note")
    assert written.startswith("# a note\ngroups:\n  - expr: |-\n")
    assert yaml.safe_load(written) == {"groups": [{"expr": text}]}
