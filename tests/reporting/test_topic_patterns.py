"""Names with wildcards: exact, one segment, one or more; what is none is refused with a sentence."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.errors import ConfigurationError
from agentkit_reporting import EventDispatcher
from agentkit_reporting.records.patterns import parse_pattern
from tests.reporting.topics import payload

SEGMENTS = st.sampled_from(["a", "b", "agent", "tool_invoked", "ü", "x-1"])
TOPICS = st.lists(SEGMENTS, min_size=1, max_size=4).map(".".join)


@pytest.mark.parametrize(
    ("pattern", "topic", "named"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.b.c", False),
        ("a.b", "a", False),
        ("a.b", "a.c", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*", "a.b.c", False),
        ("*.b", "a.b", True),
        ("*.b", "a.c", False),
        ("a.*.c", "a.b.c", True),
        ("a.**", "a", False),
        ("a.**", "a.b", True),
        ("a.**", "a.b.c.d", True),
        ("a.**", "ab.c", False),
        ("*.**", "a", False),
        ("*", "a", True),
        ("*", "a.b", False),
        ("**", "a", True),
        ("**", "a.b.c", True),
        ("A.b", "a.b", False),
    ],
)
def test_a_pattern_names_topics(pattern: str, topic: str, *, named: bool) -> None:
    assert parse_pattern(pattern).matches(topic) is named


@given(TOPICS, TOPICS)
def test_wildcards_are_about_segments(topic: str, other: str) -> None:
    assert parse_pattern(topic).matches(other) is (topic == other)
    assert parse_pattern("**").matches(topic)
    assert parse_pattern(f"{topic}.**").matches(f"{topic}.{other}")
    assert parse_pattern(f"{topic}.*").matches(f"{topic}.{other}") is ("." not in other)
    assert not parse_pattern(f"{topic}.**").matches(topic)


BAD: list[Any] = ["", ".", "a.", ".a", "a..b", "a b", "a\nb", "a.b\x1b[31m", "x" * 201, None, 7, b"a"]


@pytest.mark.parametrize(
    "text", [*BAD, "a.**.b", "**.a", "a.b*", "a*", "a.***", "a.*b", "a?ent.*", "a.?", "[ab]*"], ids=repr
)
def test_a_bad_pattern_is_refused_with_one_sentence(text: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^pattern .* refused; [^\n]+$") as refused:
        EventDispatcher().subscribe(text, print)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("text", [*BAD, "a.*", "**", "a*", "a?"], ids=repr)
def test_what_is_no_topic_is_not_emitted(text: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^topic .* refused; [^\n]+$"):
        EventDispatcher().emit(text, payload())


@pytest.mark.parametrize("handler", [None, "print", list, 7], ids=repr)
def test_what_cannot_be_called_is_no_handler(handler: Any) -> None:
    with pytest.raises(ConfigurationError, match="give a function that takes a payload"):
        EventDispatcher().subscribe("a", handler)
