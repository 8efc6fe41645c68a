"""What the provider's usage objects say in our words: what replaces, what is on top, what is no count."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.models.anthropic_usage import MAX_TOKENS, merge_usage, read_usage
from agentkit_loop.models.protocol import UsageReport
from agentkit_loop.usage import Usage
from tests.loop.messages_api import (
    Ask,
    Event,
    ended,
    hear,
    on_thread_and_loop,
    started,
    stream_of,
    text_block,
)
from tests.strategies import json_objects, json_values


def sampled(kind: str, **counts: Any) -> Event:
    return {"type": kind, **counts}


def counted(*iterations: Any, **top: Any) -> tuple[int | None, int | None]:
    usage = read_usage({**top, "iterations": list(iterations)})
    return usage.input_tokens, usage.output_tokens


def test_a_compaction_is_on_top_with_all_its_kinds_of_tokens() -> None:
    split = {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 4}
    counts = {"cache_read_input_tokens": 2, "cache_creation_input_tokens": 5, "cache_creation": split}
    compaction = sampled("compaction", input_tokens=100, output_tokens=10, **counts)
    usage = read_usage({"input_tokens": 5, "output_tokens": 2, **counts, "iterations": [compaction]})
    assert usage == Usage(
        input_tokens=105,
        cached_input_tokens=4,
        cache_write_input_tokens=10,
        cache_write_1h_input_tokens=8,
        output_tokens=12,
        raw={"input_tokens": 5, "output_tokens": 2, **counts, "iterations": [compaction]},
    )


def test_the_samplings_of_the_answer_are_in_the_top_level() -> None:
    steps = [
        sampled("message", input_tokens=3, output_tokens=1),
        sampled("message", input_tokens=4, output_tokens=1),
    ]
    assert counted(*steps, input_tokens=7, output_tokens=2) == (7, 2)


def test_an_advisor_is_on_top() -> None:
    steps = [
        sampled("message", input_tokens=412, output_tokens=89),
        sampled("advisor_message", model="claude-opus-5", input_tokens=823, output_tokens=1612),
        sampled("message", input_tokens=1348, output_tokens=442),
    ]
    assert counted(*steps, input_tokens=1760, output_tokens=531) == (1760 + 823, 531 + 1612)


def test_a_model_that_declined_after_it_said_something_is_on_top() -> None:
    steps = [
        sampled("message", model="claude-fable-5", input_tokens=408, output_tokens=7),
        sampled("message", model="claude-opus-5", input_tokens=412, output_tokens=4),
        sampled("fallback_message", model="claude-opus-5", input_tokens=420, output_tokens=260),
    ]
    assert counted(*steps, input_tokens=832, output_tokens=264) == (832 + 408, 264 + 7)


def test_a_model_that_declined_at_once_is_not_counted() -> None:
    steps = [
        sampled("message", model="claude-fable-5", input_tokens=408, output_tokens=0),
        sampled("fallback_message", model="claude-opus-5", input_tokens=412, output_tokens=264),
    ]
    assert counted(*steps, input_tokens=412, output_tokens=264) == (412, 264)


def test_where_all_declined_the_last_one_is_the_answer() -> None:
    steps = [
        sampled("message", model="claude-fable-5", input_tokens=408, output_tokens=7),
        sampled("message", model="claude-opus-5", input_tokens=412, output_tokens=3),
    ]
    assert counted(*steps, input_tokens=412, output_tokens=3) == (820, 10)


@pytest.mark.parametrize(
    "iterations",
    [None, 7, "x", {}, [], [None, 3, "x"], [{}], [{"type": 5}], [{"type": "later", "input_tokens": 9}]],
)
def test_odd_and_unknown_iterations_add_nothing(iterations: Any) -> None:
    assert read_usage({"input_tokens": 1, "iterations": iterations}).input_tokens == 1


def test_a_compaction_without_a_top_level_is_all_that_is_known() -> None:
    assert counted(sampled("compaction", input_tokens=1, output_tokens="2")) == (1, None)


@pytest.mark.parametrize("odd", [None, -1, "3", 3.0, 3.5, True, [], {}, MAX_TOKENS + 1, 10**30])
def test_what_is_no_count_is_unknown_and_kept(odd: Any) -> None:
    assert read_usage({"input_tokens": odd, "output_tokens": 2}) == Usage(
        output_tokens=2, raw={"input_tokens": odd, "output_tokens": 2}
    )


@given(raw=st.fixed_dictionaries({}, optional={
    "input_tokens": json_values(), "cache_creation": json_values(), "output_tokens_details": json_values(),
    "iterations": st.lists(json_objects() | st.fixed_dictionaries({
        "type": st.sampled_from(["message", "compaction", "advisor_message", "fallback_message"]),
        "model": json_values(2), "input_tokens": json_values(2), "output_tokens": json_values(2),
    }), max_size=4),
}))  # fmt: skip
def test_any_object_is_read_and_no_count_is_negative(raw: dict[str, Any]) -> None:
    usage = read_usage(raw)
    assert usage.raw == (raw or None)
    for count in (usage.input_tokens, usage.cache_write_1h_input_tokens, usage.output_tokens):
        assert count is None or count >= 0


@given(first=json_objects(), second=json_objects() | json_values())
def test_a_later_report_replaces_and_leaves_what_it_does_not_say(first: Any, second: Any) -> None:
    merged = merge_usage(first, second)
    later = second if isinstance(second, dict) else {}
    for key in {*first, *later}:
        assert merged.get(key) == (first.get(key) if later.get(key) is None else later[key])


@on_thread_and_loop
def test_a_fallback_is_told_as_the_model_that_answered(ask: Ask) -> None:
    steps = [
        sampled("message", model="claude-fable-5", input_tokens=4, output_tokens=2),
        sampled("fallback_message", model="claude-opus-5", input_tokens=5, output_tokens=9),
    ]
    heard = hear(
        ask,
        stream_of(
            started({"input_tokens": 4}),
            text_block("x"),
            ended(input_tokens=5, output_tokens=9, iterations=steps),
        ),
    )
    reports = [signal for signal in heard.signals if isinstance(signal, UsageReport)]
    assert [report.model for report in reports] == ["claude-sonnet-5-20260901", "claude-opus-5"]
    assert reports[-1].usage == heard.answer.usage
    assert (reports[-1].usage.input_tokens, reports[-1].usage.output_tokens) == (9, 11)
    assert heard.answer.response_model == "claude-opus-5"


@on_thread_and_loop
@pytest.mark.parametrize("odd", [None, 7, "many", [], {}, {"input_tokens": -5}, {"input_tokens": 1.5}])
def test_odd_usage_hinders_no_answer(ask: Ask, odd: Any) -> None:
    last = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": odd}
    heard = hear(ask, stream_of(started(odd), text_block("x"), last, {"type": "message_stop"}))
    usage = heard.answer.usage
    assert usage is None or usage.total_tokens is None
