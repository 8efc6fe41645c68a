"""Sequences with gaps: right wherever a naive search is, and in time that is bounded."""

from __future__ import annotations

from types import EllipsisType
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.events import AgentEvent, CustomEvent
from agentkit_reporting.testing.expected import Matching, matching
from agentkit_reporting.testing.sequences import Step, first_mismatch


def told(names: str) -> list[AgentEvent]:
    return [CustomEvent(name=name, seq=seq) for seq, name in enumerate(names, 1)]


def steps_of(pattern: str) -> list[Step]:
    return [
        ...
        if letter == "*"
        else matching(CustomEvent, name=lambda name, letter=letter: letter in ("?", name))
        for letter in pattern
    ]


def follows(pattern: str, names: str) -> bool:
    """Say the same the slow way: try every length of every gap."""
    if not pattern:
        return not names
    if pattern[0] == "*":
        return any(follows(pattern[1:], names[start:]) for start in range(len(names) + 1))
    return bool(names) and pattern[0] in ("?", names[0]) and follows(pattern[1:], names[1:])


@given(pattern=st.text("ab?*", max_size=7), names=st.text("abc", max_size=8))
def test_a_sequence_is_followed_where_some_lengths_of_the_gaps_fit(pattern: str, names: str) -> None:
    assert (first_mismatch(steps_of(pattern), told(names)) is None) == follows(pattern, names)


@given(pattern=st.text("ab?*", max_size=7), names=st.text("abc", max_size=8))
def test_a_mismatch_names_a_place_that_there_is(pattern: str, names: str) -> None:
    steps, events = steps_of(pattern), told(names)
    found = first_mismatch(steps, events)
    if found is None:
        return
    assert 0 <= found.step <= len(steps)
    assert 0 <= found.event <= len(events)
    if found.step < len(steps):
        step = steps[found.step]
        assert not isinstance(step, EllipsisType)
        assert found.event == len(events) or not step.fits(events[found.event])


class Counted(Matching):
    """An expectation that counts how often it is asked."""

    asked = 0

    def fits(self, event: AgentEvent) -> bool:
        Counted.asked += 1
        return super().fits(event)


def test_the_cost_is_no_more_than_steps_times_events() -> None:
    events = told("a" * 400)
    alike: Any = [Counted(CustomEvent, {"name": "a"}) for _ in range(10)]
    steps: list[Step] = [..., *alike, Counted(CustomEvent, {"name": "b"}), ..., *alike, ..., *alike, ...]
    before = Counted.asked
    assert first_mismatch(steps, events) is not None
    assert Counted.asked - before <= len(steps) * len(events)


def test_what_a_greedy_search_would_miss_is_found() -> None:
    assert first_mismatch(steps_of("*ab*ac"), told("abaabcac")) is None
    assert first_mismatch(steps_of("*aab*"), told("aaab")) is None
    assert first_mismatch(steps_of("a*a"), told("a")) is not None
