"""What commands draw with shows any number that a log can hold within its columns."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_reporting.cli.drawing import brief_duration, escaped


@given(st.floats() | st.integers(0, 10**300) | st.none())
def test_a_duration_has_at_most_seven_characters_whatever_a_log_says(duration_ms: float | None) -> None:
    assert 1 <= len(brief_duration(duration_ms)) <= 7


@pytest.mark.parametrize(
    ("duration_ms", "shown"),
    [
        pytest.param(None, "-", id="none"),
        pytest.param(math.inf, "-", id="endless"),
        pytest.param(math.nan, "-", id="nan"),
        pytest.param(-70_000.0, "-", id="negative"),
        pytest.param(0.0, "0 ms", id="nothing"),
        pytest.param(125_000.0, "2m 05s", id="minutes"),
        pytest.param(99.99 * 3_600_000, "99h 59m", id="hours"),
        pytest.param(101 * 3_600_000.0, "4d 05h", id="days"),
        pytest.param(1_200 * 86_400_000.0, "1,200d", id="many-days"),
        pytest.param(1e308, "1e+300d", id="absurd"),
    ],
)
def test_a_duration_is_told_in_the_unit_that_it_needs(duration_ms: float | None, shown: str) -> None:
    assert brief_duration(duration_ms) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("ask @everyone", "ask @<!-- -->everyone", id="person"),
        pytest.param("as in #12", "as in #<!-- -->12", id="issue"),
        pytest.param("run.jsonl#fix", r"run\.jsonl\#fix", id="session"),
        pytest.param("\\@all", r"\\@<!-- -->all", id="behind-a-backslash"),
        pytest.param("<b> a@ b", r"\<b\> a\@ b", id="nobody"),
    ],
)
def test_a_text_in_markdown_calls_nobody_and_refers_to_nothing(text: str, shown: str) -> None:
    assert escaped(text) == shown
