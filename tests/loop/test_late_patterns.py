"""A late pattern is what `re.compile` returns, from its first use on."""

from __future__ import annotations

import re

import pytest

from agentkit_loop.late_patterns import late_pattern


def test_it_finds_what_the_compiled_one_finds() -> None:
    late, compiled = late_pattern(r"(?P<name>b+)", re.IGNORECASE), re.compile(r"(?P<name>b+)", re.IGNORECASE)
    for _ in range(2):
        found, wanted = late.search("aBBa", 1), compiled.search("aBBa", 1)
        assert found is not None
        assert wanted is not None
        assert (found.span(), found["name"]) == (wanted.span(), wanted["name"])
    assert late.fullmatch("a") is None
    assert late.sub("-", "abBa") == "a-a"
    assert (late.pattern, late.groups, dict(late.groupindex)) == (r"(?P<name>b+)", 1, {"name": 1})
    assert late_pattern(rb"[0-9]+").findall(b"1 22") == [b"1", b"22"]


def test_what_is_wrong_with_it_is_said_at_its_first_use() -> None:
    late = late_pattern("(")
    assert repr(late) == "late_pattern('(', 0)"
    with pytest.raises(re.error, match="unterminated"):
        late.match("")
